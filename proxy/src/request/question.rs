//! The question: everything in a request that decisions depend on, borrowed from where the request was read.

use std::net::{IpAddr, SocketAddr};

use hyper::Method;
use hyper::Request;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::{Extensions, Uri};
use ipnet::IpNet;
use server::Peer;
use server::RequestHead;
use server::SentTarget;

use super::receive::{X_FORWARDED_FOR, X_FORWARDED_PROTO};
use super::{Content, Refusal};

/// A checked request: it has exactly one valid Host, and its target is a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) method: &'a Method,
    /// The client's scheme: that of the connection, or the scheme that a trusted peer names.
    pub(crate) scheme: &'static str,
    /// The Host, as the client sent it.
    pub(crate) authority: &'a [u8],
    /// Path and query, as the client sent them.
    pub(crate) target: &'a str,
    /// The path, as the client sent it.
    pub(crate) path: &'a str,
    /// The query, as the client sent it, without the `?`; empty if there is none.
    pub(crate) query: &'a str,
    /// The content, if it selects the page.
    pub(crate) content: Option<&'a Content>,
    pub(crate) peer: Peer,
    pub(crate) lines: Lines<'a>,
}

impl<'a> Question<'a> {
    /// The question of a request that `server` read without hyper.
    pub(crate) fn of_head(
        head: &'a RequestHead<'a>,
        peer: Peer,
        trusted: &TrustedProxies,
    ) -> Result<Self, Refusal> {
        let lines = Lines::Head { head, is_trusted: trusted.contains(peer.ip()) };
        // `RequestHead` has checked that there is exactly one Host.
        let authority = head.values(HOST.as_str()).next().unwrap_or_default();
        check_host(authority)?;
        let scheme = scheme(lines, peer);
        Ok(Self { scheme, authority, ..Self::bare(head.method(), head.target(), lines, peer) })
    }

    /// The question of a request that hyper read and [`super::receive::receive`] checked.
    pub(crate) fn of_parts(parts: &'a Parts, peer: Peer) -> Self {
        let target = target_of(&parts.uri, &parts.extensions);
        Self { content: parts.extensions.get(), ..Self::of(&parts.method, target, &parts.headers, peer) }
    }

    /// The question of a request with these lines.
    pub(crate) fn of(method: &'a Method, target: &'a str, headers: &'a HeaderMap, peer: Peer) -> Self {
        let lines = Lines::Map(headers);
        let authority = lines.get(&HOST).unwrap_or_default();
        Self { scheme: scheme(lines, peer), authority, ..Self::bare(method, target, lines, peer) }
    }

    /// The question of a request as hyper read it. [`super::receive::receive`] has not checked it, so it is for the request's
    /// record only.
    pub(crate) fn as_sent<B>(request: &'a Request<B>, peer: Peer, trusted: &TrustedProxies) -> Self {
        let uri = request.uri();
        let authority = || uri.authority().map_or("", |authority| authority.as_str());
        let of_uri = || uri.path_and_query().map_or_else(authority, |target| target.as_str());
        let target = request.extensions().get().map_or_else(of_uri, SentTarget::as_str);
        let sent = Self::of(request.method(), target, request.headers(), peer);
        // HTTP/2 has the host in the URI.
        let authority = if sent.authority.is_empty() { authority().as_bytes() } else { sent.authority };
        let sent = Self { authority, ..sent };
        if trusted.contains(peer.ip()) { sent } else { Self { scheme: peer.scheme(), ..sent } }
    }

    /// A question in place of a request that could not be read, for its record only.
    pub(crate) fn unread(method: &'a Method, headers: &'a HeaderMap, peer: Peer) -> Self {
        Self::bare(method, "-", Lines::Map(headers), peer)
    }

    /// A question without scheme and authority.
    fn bare(method: &'a Method, target: &'a str, lines: Lines<'a>, peer: Peer) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { method, scheme: "", authority: b"", target, path, query, content: None, peer, lines }
    }

    /// The question of a GET with these headers.
    #[cfg(test)]
    pub(crate) fn get(path: &'a str, query: &'a str, headers: &'a HeaderMap) -> Self {
        Self { query, ..Self::of(&Method::GET, path, headers, Peer::LOCAL) }
    }

    /// The method whose page answers the question.
    pub(crate) fn page_method(&self) -> &'static str {
        if self.content.is_some() { "QUERY" } else { "GET" }
    }

    /// An owned copy of the request, for a fetch that outlives the question.
    pub(crate) fn to_parts(self) -> Parts {
        let mut parts = Request::new(()).into_parts().0;
        parts.method = self.method.clone();
        parts.headers = self.lines.to_map();
        // This cannot fail: it was a valid target.
        parts.uri = self.target.parse().unwrap_or_default();
        parts
    }
}

/// Path and query of a request, as the client sent them.
pub(crate) fn target_of<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a str {
    let of_uri = || uri.path_and_query().map_or("/", |target| target.as_str());
    extensions.get().map_or_else(of_uri, SentTarget::as_str)
}

/// The scheme in the `X-Forwarded-Proto` of a trusted peer: the first of the list, in lower case only. Otherwise that of the
/// connection. The lines have no `X-Forwarded-Proto` of other peers.
fn scheme(lines: Lines<'_>, peer: Peer) -> &'static str {
    let Some(named) = lines.get(&X_FORWARDED_PROTO) else { return peer.scheme() };
    let is_https =
        named.split(|&byte| byte == b',').next().is_some_and(|first| first.trim_ascii() == b"https");
    if is_https { "https" } else { "http" }
}

/// Header lines, as `server` or hyper read them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lines<'a> {
    /// Lines that `server` has read. Those that are not forwarded are skipped on each access.
    Head {
        head: &'a RequestHead<'a>,
        /// Whether the peer's `X-Forwarded` headers are believed.
        is_trusted: bool,
    },
    /// Lines that hyper has read. Those that are not forwarded were removed.
    Map(&'a HeaderMap),
}

impl<'a> Lines<'a> {
    /// The values of all lines of this name, in order.
    pub(crate) fn get_all<'n>(self, name: &'n HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let (head, map) = match self {
            Self::Head { head, is_trusted } => (Some((head, is_trusted)), None),
            Self::Map(map) => (None, Some(map)),
        };
        let of_head = head.into_iter().flat_map(move |(head, is_trusted)| {
            let values = head.values(name.as_str());
            values.filter(move |_| is_forwarded(name.as_str(), is_trusted))
        });
        of_head.chain(map.into_iter().flat_map(move |map| map.get_all(name)).map(HeaderValue::as_bytes))
    }

    /// The value of the first line of this name.
    pub(crate) fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Self::Head { head, is_trusted } => {
                let value = head.values(name.as_str()).next();
                // Asked of names that are there alone, which are few.
                value.filter(|_| is_forwarded(name.as_str(), is_trusted))
            }
            Self::Map(map) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// Whether there is a line of one of these names.
    pub(crate) fn has_any(self, names: &[HeaderName]) -> bool {
        match self {
            Self::Map(map) => names.iter().any(|name| map.contains_key(name)),
            Self::Head { head, .. } => {
                names.iter().map(HeaderName::as_str).any(|name| head.values(name).next().is_some())
            }
        }
    }

    /// The lines as an owned map.
    pub(crate) fn to_map(self) -> HeaderMap {
        match self {
            Self::Map(map) => map.clone(),
            Self::Head { head, is_trusted } => {
                let line = |(name, value)| {
                    let name = HeaderName::from_bytes(name).ok()?;
                    Some((name, HeaderValue::from_bytes(value).ok()?))
                };
                let lines = head.lines().filter_map(line);
                lines.filter(|(name, _)| is_forwarded(name.as_str(), is_trusted)).collect()
            }
        }
    }
}

/// The peers whose `X-Forwarded` headers are believed. None by default, not even the loopback.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub(crate) fn are_some(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// The client: the peer or, behind trusted proxies, the last address in `X-Forwarded-For` that is no trusted proxy.
    pub(crate) fn client(&self, peer: IpAddr, lines: Lines<'_>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return client;
        }
        let values: Vec<_> = lines.get_all(&X_FORWARDED_FOR).collect();
        let members = values.iter().rev().flat_map(|value| value.rsplit(|&byte| byte == b','));
        for member in members.map_while(address) {
            client = member;
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

/// An address, with or without a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let address = text.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// Refuses an invalid Host (RFC 9112 §3.2).
pub(crate) fn check_host(host: &[u8]) -> Result<(), Refusal> {
    if is_host(host) { Ok(()) } else { Err(Refusal::BadRequest("a bad Host header")) }
}

/// Whether a text can be the value of a Host header: `uri-host [":" port]` (RFC 9110 §7.2), no user, not empty.
pub(crate) fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.iter().rposition(|&byte| byte == b':') {
        // A colon inside the brackets of an IPv6 address does not begin a port.
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

/// Whether lines of this name are forwarded to the origin. Those that `Connection` names are not forwarded either, but
/// `server`'s reader leaves a request with such a `Connection` to hyper.
fn is_forwarded(name: &str, is_trusted: bool) -> bool {
    // Most names that are not forwarded are `X-Forwarded` headers of an untrusted peer, so that check comes first.
    (is_trusted || !describes_client(name)) && !is_hop_by_hop(name)
}

/// Whether headers of this name are about one connection, and not about the request or answer (RFC 9110 §7.6.1).
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "connection",
        // hyper itself sends the `100 Continue` that this asks for.
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name)
}

/// Headers in which a proxy describes its client. They are removed from requests of untrusted peers, so no key has them.
pub(super) fn describes_client(name: &str) -> bool {
    const OTHERS: [&str; 6] =
        ["forwarded", "x-real-ip", "x-original-url", "x-original-host", "x-rewrite-url", "x-host"];
    name.starts_with("x-forwarded") || OTHERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use server::ClientLimits;

    use super::*;

    #[test]
    fn lines_read_by_server_and_by_hyper_are_the_same() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-Forwarded-Host: b\r\nTE: trailers\r\nx-a: 2\r\nX-B:\r\n\r\n";
        let head = RequestHead::read(text, &ClientLimits::default()).unwrap();
        for is_trusted in [false, true] {
            let lines = Lines::Head { head: &head, is_trusted };
            let map = lines.to_map();
            for name in ["host", "x-a", "x-b", "x-c", "x-forwarded-host", "te"] {
                let name = HeaderName::from_static(name);
                let values = |lines: Lines<'_>| lines.get_all(&name).map(<[u8]>::to_vec).collect::<Vec<_>>();
                assert_eq!(values(lines), values(Lines::Map(&map)), "{name}");
                assert_eq!(lines.get(&name), Lines::Map(&map).get(&name), "{name}");
            }
            assert_eq!(map.get_all("x-a").iter().count(), 2);
            assert!(!map.contains_key("te"));
            assert_eq!(map.contains_key("x-forwarded-host"), is_trusted);
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
