//! Parses addresses: where to listen, the origin, the store, the site, the proxies that are trusted.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bb8_redis::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, parse_redis_url};
use ipnet::{IpNet, Ipv4Net};
use server::ListenAddress;

use super::parse::members;
use crate::origin::OriginUrl;
use crate::request::site::Site;

pub(super) const DEFAULT_STORE: &str = "redis://127.0.0.1:6379/1";

/// Where pages are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process.
    Memory,
    /// In Redis, at this URL.
    Redis(String),
}

/// An address and port, or the file of a Unix socket.
pub(super) fn listener(text: &str) -> Result<ListenAddress, String> {
    let Some(path) = text.strip_prefix("unix:") else { return listen(text).map(ListenAddress::Tcp) };
    match super::parse::socket(path)? {
        Some(path) if path.is_absolute() => Ok(ListenAddress::Unix(path)),
        _ => Err(format!("{text:?} names no file: write unix:/run/cachepage/proxy.sock")),
    }
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is neither an address and port like 127.0.0.1:8000, [::1]:8000, or 0.0.0.0:8000 for every address, nor a socket like unix:/run/cachepage/proxy.sock")
    })
}

/// A URL with a user may hold a password and is not repeated.
pub(super) fn origin(text: &str) -> Result<OriginUrl, String> {
    text.parse().map_err(|fault: &str| match text.contains('@') {
        true => fault.to_owned(),
        false => format!("{text:?}: {fault}"),
    })
}

/// The URL may hold a password and is not repeated.
pub(super) fn store(text: &str) -> Result<StoreUrl, String> {
    if text == "memory" {
        return Ok(StoreUrl::Memory);
    }
    let is_printed = |byte: u8| byte.is_ascii_graphic();
    let info =
        text.into_connection_info().ok().filter(|_| text.bytes().all(is_printed)).ok_or_else(|| {
            format!(
                "neither memory nor a Redis URL like {DEFAULT_STORE}, rediss://HOST:PORT/DATABASE or \
             unix:///FILE?db=DATABASE; ports go from 1 to 65535, and special characters are percent-encoded"
            )
        })?;
    check_store(text, &info)?;
    Ok(StoreUrl::Redis(text.to_owned()))
}

/// Refuses what the client of Redis would ignore, or find out at the first connection only.
fn check_store(text: &str, info: &ConnectionInfo) -> Result<(), String> {
    let Some(url) = parse_redis_url(text) else { return Ok(()) };
    let known: &[&str] = match info.addr() {
        ConnectionAddr::Unix(path) => {
            super::parse::socket(&path.to_string_lossy())?;
            &["db", "user", "pass", "protocol"]
        }
        ConnectionAddr::Tcp(_, 0) | ConnectionAddr::TcpTls { port: 0, .. } => {
            return Err("the port must be a number from 1 to 65535".to_owned());
        }
        _ => &["protocol"],
    };
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| !known.contains(&&**name)) {
        return Err(format!("{name:?} is not known in the query; these are: {}", known.join(", ")));
    }
    if url.fragment().is_some() {
        return Err(
            "nothing may follow #, which is %23 in a password; certificates are always verified".to_owned()
        );
    }
    if info.redis_settings().db() < 0 {
        return Err("the database must be a number like 1".to_owned());
    }
    if !url.username().is_empty() && url.password().is_none() {
        return Err(
            "a user without a password; a password alone is written redis://:PASSWORD@HOST".to_owned()
        );
    }
    Ok(())
}

pub(super) fn site(text: &str) -> Result<Option<Site>, String> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|fault| format!("{text:?} is {fault}")),
    }
}

/// Networks or single addresses, separated by commas.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    members(text)?.into_iter().map(network).collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse().or_else(|_| single());
    let network = network.map_err(|_| format!("{text:?} is not an address or a network like 10.0.0.0/8"))?;
    match in_ipv4(network) {
        // Peers are known by their IPv4 addresses.
        Some(ipv4) => Err(format!("{text:?} is of IPv4: write {ipv4}")),
        None => Ok(network),
    }
}

/// A network of IPv4 addresses that is written as one of IPv6.
fn in_ipv4(network: IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(network) = network else { return None };
    Ipv4Net::new(network.addr().to_ipv4_mapped()?, network.prefix_len().checked_sub(96)?).ok()
}

impl fmt::Display for StoreUrl {
    /// The URL without user, password and query, fit for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Redis(url) = self else { return f.write_str("memory") };
        let url = url.split('?').next().unwrap_or_default();
        match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, address))) => write!(f, "{scheme}://{address}"),
            _ => f.write_str(url),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_is_an_ip_address_and_a_port() {
        for good in ["127.0.0.1:0", "0.0.0.0:65535", "[::1]:80"] {
            assert!(listen(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "8000",
            ":8000",
            "127.0.0.1",
            "localhost:8000",
            "127.0.0.1:99999",
            "127.0.0.1:-1",
            "127.0.0.1:80x",
            "::1:80",
            "http://127.0.0.1:80",
            "unix:/a",
        ] {
            assert!(listen(bad).unwrap_err().contains("like 127.0.0.1:8000"), "{bad}");
        }
    }

    #[test]
    fn stores_are_memory_or_redis_urls() {
        for good in [
            "memory",
            DEFAULT_STORE,
            "redis://host",
            "redis://user:p%23ss@host:1/15",
            "redis://:secret@[::1]:6379/",
            "rediss://host:6380/1",
            "redis://host?protocol=resp3",
            "unix:///run/redis.sock?db=1&pass=secret",
        ] {
            assert!(store(good).is_ok(), "{good}: {:?}", store(good));
        }
        for (fault, bad) in [
            (
                "neither memory nor a Redis URL",
                &[
                    "",
                    "Memory",
                    "redis",
                    "127.0.0.1:6379",
                    "http://host",
                    "redis://",
                    "redis://host:99999",
                    "redis://host:x",
                    "redis://host/x",
                    "redis://host/1/2",
                    "redis://host /1",
                    " redis://host",
                    "redis://host\n",
                    "unix://run/redis.sock",
                    "rediss://host#x",
                    "redis://host/99999999999999999999",
                ][..],
            ),
            ("from 1 to 65535", &["redis://host:0", "rediss://host:0/1"]),
            (
                "is not known in the query",
                &["redis://host?db=1", "redis://host/1?timeout=5", "unix:///a?database=1"],
            ),
            ("which is %23", &["redis://host#x", "rediss://host/1#insecure"]),
            ("must be a number", &["redis://host/-1", "unix:///a?db=-1"]),
            ("a user without a password", &["redis://secret@host"]),
            ("is a folder", &["unix:///run/"]),
        ] {
            for bad in bad {
                let said = store(bad).unwrap_err();
                assert!(said.contains(fault), "{bad}: {said}");
            }
        }
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        for (url, shown) in [
            ("redis://user:secret@host:1/2", "redis://host:1/2"),
            ("rediss://:secret@host/1?protocol=resp3", "rediss://host/1"),
            ("unix:///run/redis.sock?db=1&pass=secret", "unix:///run/redis.sock"),
        ] {
            let store = store(url).unwrap();
            assert_eq!((store.to_string().as_str(), format!("{store:?}").as_str()), (shown, shown));
        }
        for url in ["http://user:secret@host", "redis://user:secret@host:0", "redis://user:secret@host/x"] {
            assert!(!store(url).unwrap_err().contains("secret"), "{url}");
            assert!(!origin(url).unwrap_err().contains("secret"), "{url}");
        }
    }

    #[test]
    fn trusted_proxies_are_networks_or_addresses() {
        for (text, count) in [
            ("", 0),
            ("10.0.0.0/8", 1),
            ("127.0.0.1, ::1,fd00::/8", 3),
            ("127.0.0.1/8", 1),
            ("0.0.0.0/0,::/0", 2),
        ] {
            assert_eq!(networks(text).unwrap().len(), count, "{text}");
        }
        for (fault, text) in [
            ("empty member", "10.0.0.0/8,"),
            ("empty member", ",,"),
            ("is not an address or a network", "10.0.0.0/33"),
            ("is not an address or a network", "10.0.0.0/8 ::1"),
            ("is not an address or a network", "localhost"),
            ("is not an address or a network", "127.0.0.1:8000"),
            ("write 10.0.0.0/8", "::ffff:10.0.0.0/104"),
        ] {
            let said = networks(text).unwrap_err();
            assert!(said.contains(fault), "{text}: {said}");
        }
    }
}
