//! The address of an origin: a URL without path, query, fragment and user, or the file of a Unix socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use hyper::http::uri::Authority;

use server::ListenAddress;

use crate::request::is_host;

/// Where a service is: `http://host[:port]`, `https://host[:port]` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginUrl {
    /// HTTP over TCP.
    Http(Authority),
    /// HTTP over TLS.
    Https(Authority),
    /// HTTP over a Unix socket.
    Unix(PathBuf),
}

impl OriginUrl {
    /// Whether a server that listens there is the origin itself.
    pub(crate) fn is_at(&self, listen: &ListenAddress) -> bool {
        match (self, listen) {
            (Self::Unix(path), ListenAddress::Unix(listen)) => path == listen,
            (Self::Http(authority) | Self::Https(authority), ListenAddress::Tcp(listen)) => {
                let port = if matches!(self, Self::Http(_)) { 80 } else { 443 };
                is_at(authority, port, *listen)
            }
            _ => false,
        }
    }
}

/// Whether an address is that of an authority. `port` is used if the authority names none.
fn is_at(authority: &Authority, port: u16, listen: SocketAddr) -> bool {
    let reaches = |ip: IpAddr| ip == listen.ip() || (is_local(ip) && listen.ip().is_unspecified());
    let is_here = match literal(authority.host()) {
        Some(ip) => reaches(ip) || (ip.is_unspecified() && is_local(listen.ip())),
        None => authority.host().eq_ignore_ascii_case("localhost") && is_local(listen.ip()),
    };
    is_here && authority.port_u16().unwrap_or(port) == listen.port()
}

/// The host of an authority, an address without its brackets.
pub(crate) fn bare_host(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

impl FromStr for OriginUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket(path);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let of: fn(Authority) -> Self = match scheme.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "https" => Self::Https,
            _ => return Err("not a URL like http://127.0.0.1:8001, https://HOST or unix:/run/app.sock"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err("the origin must be a URL without a user");
        }
        if authority.contains(['/', '?', '#']) {
            return Err("the origin must be a URL without path, query and fragment: requests have theirs");
        }
        check_authority(authority)?;
        authority.parse().map(of).map_err(|_| "not a URL like http://127.0.0.1:8001")
    }
}

/// The file of a Unix socket.
fn socket(path: &str) -> Result<OriginUrl, &'static str> {
    /// The longest path that fits into the address of a socket (unix(7)).
    const LONGEST: usize = 107;
    match path {
        path if !path.starts_with('/') || path.starts_with("//") => {
            Err("a socket has an absolute path, as in unix:/run/app.sock")
        }
        path if path.ends_with('/') => Err("the socket is a folder: add the name of a file"),
        path if path.len() > LONGEST => Err("the path of a socket has at most 107 bytes"),
        path => Ok(OriginUrl::Unix(path.into())),
    }
}

/// `host[:port]`, with a host that can exist and a port that can be connected to.
fn check_authority(authority: &str) -> Result<(), &'static str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address needs brackets, as in http://[::1]:8001");
    }
    if port.is_some_and(|port| !is_port(port)) {
        return Err("the port must be a number from 1 to 65535");
    }
    if host.is_empty() {
        return Err("a URL without a host; http://127.0.0.1:8001 has one");
    }
    if !is_host(host.as_bytes()) || !may_exist(host) {
        return Err("the host is neither a name nor an address");
    }
    Ok(())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// No label of a name is empty, and a name that ends in a number is an IPv4 address.
fn may_exist(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    match last.bytes().all(|byte| byte.is_ascii_digit()) {
        true => host.parse::<Ipv4Addr>().is_ok(),
        false => name.split('.').all(|label| !label.is_empty()),
    }
}

/// A host that is an address, in brackets or not.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Https(authority) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_urls_of_a_host_and_a_port_or_files_of_sockets() {
        for good in [
            "http://127.0.0.1:8001",
            "http://origin",
            "HTTP://origin:65535/",
            "http://[::1]:80/",
            "http://[::1]",
            "http://my_app.default.svc.",
            "http://app-1.2b:1",
            "https://app",
            "HTTPS://[::1]:8443/",
            "unix:/run/app.sock",
        ] {
            assert!(good.parse::<OriginUrl>().is_ok(), "{good}");
        }
        for (fault, bad) in [
            ("not a URL like http", &["", "127.0.0.1:8001", "ftp://a", "nonsense", "http:/a"][..]),
            ("an absolute path", &["unix:", "unix:run/app.sock", "unix://run/app.sock", "unix:@app"]),
            ("a folder", &["unix:/run/"]),
            ("without a user", &["http://u:p@a", "http://a:1@b", "http://@a"]),
            (
                "without path, query and fragment",
                &["http://a/b", "http://a//", "http://a?b", "http://a/?", "http://a#b", "http://a:1/#"],
            ),
            (
                "a number from 1 to 65535",
                &[
                    "http://a:",
                    "http://a:0",
                    "http://a:99999",
                    "http://a:abc",
                    "http://a:-1",
                    "http://a:+1",
                    "http://a:80 ",
                ],
            ),
            ("without a host", &["http://", "http://:8001"]),
            ("needs brackets", &["http://::1", "http://::1:8001", "http://a:80:90"]),
            (
                "neither a name nor an address",
                &[
                    "http://a b",
                    "http://[::1",
                    "http://[::g]:1",
                    "http://256.0.0.1",
                    "http://8001",
                    "http://a..b",
                    "http://\u{fc}",
                ],
            ),
        ] {
            for bad in bad {
                let said = bad.parse::<OriginUrl>().unwrap_err();
                assert!(said.contains(fault), "{bad}: {said}");
            }
        }
    }

    #[test]
    fn an_origin_is_known_by_each_name_of_the_address() {
        for (origin, listen, expected) in [
            ("http://127.0.0.1:1", "127.0.0.1:1", true),
            ("http://127.0.0.1:1", "127.0.0.1:2", false),
            ("http://127.0.0.2:1", "127.0.0.1:1", false),
            ("http://127.0.0.1", "127.0.0.1:80", true),
            ("http://localhost:1", "127.0.0.1:1", true),
            ("http://LOCALHOST:1", "[::1]:1", true),
            ("http://localhost:1", "192.0.2.1:1", false),
            ("http://127.0.0.1:1", "0.0.0.0:1", true),
            ("http://[::1]:1", "[::]:1", true),
            ("http://0.0.0.0:1", "127.0.0.1:1", true),
            ("http://192.0.2.1:1", "0.0.0.0:1", false),
            ("http://app:1", "0.0.0.0:1", false),
        ] {
            let is_at =
                origin.parse::<OriginUrl>().unwrap().is_at(&ListenAddress::Tcp(listen.parse().unwrap()));
            assert_eq!(is_at, expected, "{origin} {listen}");
        }
    }
}
