//! The address of the origin: a URL without path, query, fragment and user.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use hyper::http::uri::Authority;

use crate::request::is_host;

/// The service behind the proxy: `http://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(Authority);

impl Origin {
    pub(super) fn authority(&self) -> &Authority {
        &self.0
    }

    /// Whether a server that listens on this address is the origin itself.
    pub(crate) fn is_at(&self, listen: SocketAddr) -> bool {
        let reaches = |ip: IpAddr| ip == listen.ip() || (is_local(ip) && listen.ip().is_unspecified());
        let is_here = match literal(self.0.host()) {
            Some(ip) => reaches(ip) || (ip.is_unspecified() && is_local(listen.ip())),
            None => self.0.host().eq_ignore_ascii_case("localhost") && is_local(listen.ip()),
        };
        is_here && self.0.port_u16().unwrap_or(80) == listen.port()
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err("https to the origin is not supported; http is"),
            _ => return Err("not a URL like http://127.0.0.1:8001"),
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err("the origin must be a URL without a user");
        }
        if authority.contains(['/', '?', '#']) {
            return Err("the origin must be a URL without path, query and fragment: requests have theirs");
        }
        check_authority(authority)?;
        authority.parse().map(Self).map_err(|_| "not a URL like http://127.0.0.1:8001")
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

/// An address that is a host, in brackets or not.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_http_urls_of_a_host_and_a_port() {
        for good in [
            "http://127.0.0.1:8001",
            "http://origin",
            "HTTP://origin:65535/",
            "http://[::1]:80/",
            "http://[::1]",
            "http://my_app.default.svc.",
            "http://app-1.2b:1",
        ] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for (fault, bad) in [
            (
                "not a URL like http",
                &["", "127.0.0.1:8001", "ftp://a", "unix:/run/app.sock", "nonsense", "http:/a"][..],
            ),
            ("https to the origin", &["https://a"]),
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
                let said = bad.parse::<Origin>().unwrap_err();
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
            let is_at = origin.parse::<Origin>().unwrap().is_at(listen.parse().unwrap());
            assert_eq!(is_at, expected, "{origin} {listen}");
        }
    }
}
