//! The question: all that a request is decided by, borrowed from where it was read.

use std::net::SocketAddr;

use hyper::Method;
use hyper::Request;
use hyper::header::HOST;
use hyper::http::request::Parts;
use server::RequestHead;

use super::receive::{X_FORWARDED_PROTO, check_host};
use super::{Lines, Refusal};

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
    pub(crate) fn get(path: &'a str, query: &'a str, headers: &'a hyper::header::HeaderMap) -> Self {
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
