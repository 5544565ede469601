//! The site: the one Host that is not part of its pages' keys.

use std::borrow::Cow;
use std::str::FromStr;

/// The host that clients are expected to ask for, with its port unless that is 80.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site(String);

impl Site {
    /// The default site.
    pub fn localhost(port: u16) -> Self {
        Self(without_default_port(&format!("localhost:{port}")).to_owned())
    }

    /// The value of a `Host` header that names this site.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The normal form of a `Host` that is not this site: lower case, without port 80. `None` for the site.
    pub(crate) fn foreign<'a>(&self, host: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let host = host.strip_suffix(b":80").unwrap_or(host);
        if host.eq_ignore_ascii_case(self.0.as_bytes()) {
            return None;
        }
        let is_normal = !host.iter().any(u8::is_ascii_uppercase);
        Some(if is_normal { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) })
    }
}

impl FromStr for Site {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !is_host(text.as_bytes()) {
            return Err("not a host, or host:port");
        }
        Ok(Self(without_default_port(&text.to_ascii_lowercase()).to_owned()))
    }
}

fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":80").unwrap_or(host)
}

/// Whether a text can be the value of a Host header: `uri-host [":" port]` (RFC 9110 §7.2), no user, not empty.
pub(crate) fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.iter().rposition(|&byte| byte == b':') {
        // The colons of a bare IPv6 address are inside its brackets.
        Some(at) if !text.ends_with(b"]") => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    };
    is_name(name) && port.is_none_or(is_port)
}

fn is_name(name: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    match name.strip_prefix(b"[").map(|rest| rest.strip_suffix(b"]")) {
        Some(address) => address.is_some_and(|inner| {
            std::str::from_utf8(inner).is_ok_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
        }),
        None => !name.is_empty() && name.iter().all(allowed),
    }
}

fn is_port(port: &[u8]) -> bool {
    !port.is_empty()
        && std::str::from_utf8(port).is_ok_and(|digits| digits.parse::<u16>().is_ok() && digits.len() < 6)
        && port.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_the_default_port_do_not_matter() {
        let site: Site = "Example.COM:80".parse().unwrap();
        for host in ["example.com", "EXAMPLE.com", "example.com:80"] {
            assert_eq!(site.foreign(host.as_bytes()), None, "{host}");
        }
        for (host, normal) in
            [("example.com:8080", "example.com:8080"), ("EVIL:80", "evil"), ("localhost", "localhost")]
        {
            assert_eq!(site.foreign(host.as_bytes()).unwrap(), normal.as_bytes(), "{host}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_with_an_optional_port() {
        for host in [
            "localhost",
            "localhost:8000",
            "a.b-c.example",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8000",
            "under_score",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        let bad = [
            "",
            ":80",
            "user@host",
            "host:",
            "host:port",
            "host:+1",
            "host:99999",
            "[::1",
            "[x]:80",
            "a b",
            "a/b",
            "a,b:c",
        ];
        for host in bad {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
