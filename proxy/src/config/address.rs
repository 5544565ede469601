//! Parses addresses: of listeners, the origin, the store, the site, and the trusted proxies.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use server::ListenAddress;

use super::parse::members;
use crate::key::Placement;
use crate::origin::OriginUrl;
use crate::request::site::Site;
use crate::store::{RedisKind, RedisSettings};

pub(super) const DEFAULT_STORE: &str = "redis://127.0.0.1:6379/1";

/// Where pages are kept.
#[derive(Clone)]
pub enum StoreUrl {
    /// In this process.
    Memory,
    /// In Redis.
    Redis(Box<RedisSettings>),
}

impl StoreUrl {
    /// Where the variants of a page are stored.
    pub(super) fn placement(&self) -> Placement {
        match self {
            Self::Redis(redis) if *redis.kind() == RedisKind::Cluster => Placement::OneSlot,
            _ => Placement::Anywhere,
        }
    }
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

/// Parses the URL of an origin. A URL with a user may hold a password, so the error does not repeat it.
pub(super) fn origin(text: &str) -> Result<OriginUrl, String> {
    text.parse().map_err(|fault: &str| match text.contains('@') {
        true => fault.to_owned(),
        false => format!("{text:?}: {fault}"),
    })
}

pub(super) fn store(text: &str) -> Result<StoreUrl, String> {
    match text {
        "memory" => Ok(StoreUrl::Memory),
        url => url.parse().map(|redis| StoreUrl::Redis(Box::new(redis))),
    }
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
        // Peers are known by their IPv4 addresses, so the network must be one, too.
        Some(ipv4) => Err(format!("{text:?} is of IPv4: write {ipv4}")),
        None => Ok(network),
    }
}

/// The IPv4 network of a network that is written in IPv6.
fn in_ipv4(network: IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(network) = network else { return None };
    Ipv4Net::new(network.addr().to_ipv4_mapped()?, network.prefix_len().checked_sub(96)?).ok()
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(redis) => fmt::Display::fmt(redis, f),
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
            "redis-sentinel://s1:26379,s2/mymaster",
            "redis-cluster://h1:7000,h2",
            "rediss-cluster://user:p%23ss@h1,[::1]:7000/",
            "rediss-sentinel://user:p%23ss@s1,[::1],[::1]:26380/my.master-1/15",
        ] {
            assert!(store(good).is_ok(), "{good}: {:?}", store(good));
        }
        for (fault, bad) in [
            (
                "neither memory nor a URL",
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
                    "redis-sentinel://s1",
                    "redis-sentinel://s1/",
                    "redis-sentinel://s1,/name",
                    "redis-sentinel://s1/name/x",
                    "redis-sentinel://s1/name?a=b",
                    "redis-sentinel://s1:x/name",
                    "unix-sentinel://s1/name",
                    "redis-cluster://",
                    "redis-cluster://h1,,h2",
                    "redis-other://h1",
                ][..],
            ),
            ("has no databases", &["redis-cluster://h1,h2/1", "redis-cluster://h1/1"]),
            ("several hosts", &["redis://h1,h2", "rediss://u:p@h1:1,h2:2/1"]),
            ("a login stands once", &["redis-cluster://u:p@h1,u:p@h2", "redis-sentinel://:p@h1,:p@h2/m"]),
            ("is not known in the query", &["redis-cluster://h1?a=b"]),
            ("from 1 to 65535", &["redis://host:0", "rediss://host:0/1"]),
            (
                "is not known in the query",
                &["redis://host?db=1", "redis://host/1?timeout=5", "unix:///a?database=1"],
            ),
            ("which is %23", &["redis://host#x", "rediss://host/1#insecure"]),
            ("must be a number", &["redis://host/-1", "unix:///a?db=-1"]),
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
            ("redis-sentinel://u:secret@s1,s2/name/1", "redis-sentinel://s1,s2/name/1"),
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
