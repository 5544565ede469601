//! The question: all that a request is decided by, borrowed from where it was read.

use std::net::SocketAddr;

use hyper::Method;
use hyper::Request;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use server::RequestHead;

use super::Refusal;
use super::receive::{X_FORWARDED_PROTO, check_host, is_forwarded};

/// A request that was checked: its Host is one and good, and its target is a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) method: &'a Method,
    /// By which scheme the client asks, as the connection or a trusted peer says it.
    pub(crate) scheme: &'static str,
    /// The Host, as it was sent.
    pub(crate) authority: &'a [u8],
    /// As it was sent.
    pub(crate) path: &'a str,
    /// As it was sent, without the `?`; empty if there is none.
    pub(crate) query: &'a str,
    pub(crate) peer: SocketAddr,
    pub(crate) lines: Lines<'a>,
}

impl<'a> Question<'a> {
    /// The question of a plain request.
    pub(crate) fn of_head(
        head: &'a RequestHead<'a>,
        peer: SocketAddr,
        is_trusted: bool,
    ) -> Result<Self, Refusal> {
        let lines = Lines::Head { head, is_trusted };
        let (path, query) = head.target().split_once('?').unwrap_or((head.target(), ""));
        // The own reader has seen that there is one.
        let authority = head.values(HOST.as_str()).next().unwrap_or_default();
        check_host(authority)?;
        Ok(Self { method: head.method(), scheme: scheme(lines), authority, path, query, peer, lines })
    }

    /// The question of a request that was received (see [`super::receive`]).
    pub(crate) fn of_parts(parts: &'a Parts, peer: SocketAddr) -> Self {
        let lines = Lines::Map(&parts.headers);
        Self {
            method: &parts.method,
            scheme: scheme(lines),
            authority: lines.get(&HOST).unwrap_or_default(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            peer,
            lines,
        }
    }

    /// The question of a GET with these lines.
    #[cfg(test)]
    pub(crate) fn get(path: &'a str, query: &'a str, headers: &'a HeaderMap) -> Self {
        let (lines, peer) = (Lines::Map(headers), SocketAddr::from(([127, 0, 0, 1], 1)));
        let authority = lines.get(&HOST).unwrap_or_default();
        Self { method: &Method::GET, scheme: scheme(lines), authority, path, query, peer, lines }
    }

    /// The sign between path and query.
    pub(crate) fn mark(&self) -> &'static str {
        if self.query.is_empty() { "" } else { "?" }
    }

    /// The request that the origin gets for this question, if the answer outlives it.
    pub(crate) fn to_parts(self) -> Parts {
        let mut parts = Request::new(()).into_parts().0;
        parts.method = self.method.clone();
        parts.headers = self.lines.to_map();
        // Both were part of a target before.
        parts.uri = format!("{}{}{}", self.path, self.mark(), self.query).parse().unwrap_or_default();
        parts
    }
}

/// The scheme that a trusted peer names (a stranger's word is not among the lines): the first of a list, in this case only.
fn scheme(lines: Lines<'_>) -> &'static str {
    let named = lines.get(&X_FORWARDED_PROTO).unwrap_or_default();
    let is_https =
        named.split(|&byte| byte == b',').next().is_some_and(|first| first.trim_ascii() == b"https");
    if is_https { "https" } else { "http" }
}

/// Header lines, wherever they were read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lines<'a> {
    /// As the own reader left them. What is not forwarded is passed over at each look.
    Head {
        head: &'a RequestHead<'a>,
        /// Whether the peer is believed when it says for whom it asks.
        is_trusted: bool,
    },
    /// As hyper read them; what is not forwarded is gone.
    Map(&'a HeaderMap),
}

impl<'a> Lines<'a> {
    /// The values of all lines of this name, in their order.
    pub(crate) fn get_all<'n>(self, name: &'n HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let (head, map) = match self {
            Self::Head { head, is_trusted } => (is_forwarded(name, is_trusted).then_some(head), None),
            Self::Map(map) => (None, Some(map)),
        };
        let of_head = head.into_iter().flat_map(move |head| head.values(name.as_str()));
        of_head.chain(map.into_iter().flat_map(move |map| map.get_all(name)).map(HeaderValue::as_bytes))
    }

    /// The value of the first line of this name.
    pub(crate) fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Self::Head { .. } => self.get_all(name).next(),
            Self::Map(map) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// The lines as a map of their own.
    pub(crate) fn to_map(self) -> HeaderMap {
        match self {
            Self::Map(map) => map.clone(),
            Self::Head { head, is_trusted } => {
                let line = |(name, value)| {
                    let name = HeaderName::from_bytes(name).ok()?;
                    Some((name, HeaderValue::from_bytes(value).ok()?))
                };
                let lines = head.lines().filter_map(line);
                lines.filter(|(name, _)| is_forwarded(name, is_trusted)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use server::ClientLimits;

    use super::*;

    #[test]
    fn lines_are_the_same_wherever_they_were_read() {
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
}
