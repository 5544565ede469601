//! The entry: a stored response.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};

use super::forms::Forms;
use crate::purge::Stamp;
use crate::request::is_hop_by_hop;

/// A stored response and its metadata.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The reason phrase, if it is not the status's usual one.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) body: Bytes,
    /// The compressed forms of the body, if the rule wants them.
    pub(crate) forms: Forms,
    /// When it stops being fresh, in seconds since 1970; unknown for entries that Django wrote.
    pub(crate) expires: Option<u64>,
    /// When it was made, in seconds since 1970. Always known under HTTP's policy; under Django's only if a cache behind the
    /// proxy has sent an `Age`.
    pub(crate) born: Option<i64>,
    /// The version of a page of HTTP's policy; absent under Django's.
    pub(crate) version: Option<Version>,
    /// How long the origin took to make it; zero unless the rule has `early_refresh`.
    pub(crate) cost: Duration,
    /// Proves which request it was stored for (see [`crate::key::PageId::proof`]); absent in entries that Django wrote.
    pub(crate) proof: Option<Bytes>,
    /// The stamp by which purges find it; absent if the proxy that stored it had purging off.
    pub(crate) stamp: Option<Box<Stamp>>,
}

/// The version of a page. A 304 of the origin confirms one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// No other version of the page has this number.
    Number(u64),
    /// The version of a page in a format without version numbers.
    Unknown,
}

impl Entry {
    /// An entry with nothing but a body.
    #[cfg(test)]
    pub(crate) fn of_body(body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            reason: None,
            body: body.into(),
            forms: Forms::default(),
            expires: None,
            born: None,
            version: None,
            cost: Duration::ZERO,
            proof: None,
            stamp: None,
        }
    }

    /// The length of the body and its coded forms.
    pub(crate) fn content_length(&self) -> usize {
        self.body.len() + self.forms.bytes().len()
    }

    /// Whether HTTP can send this entry as it is. Other programs may write into the store, too. A status without a body, a
    /// header of the connection, or a wrong length would break the connection of each client that gets the page. Names and
    /// values are valid by their types.
    pub(crate) fn is_sendable(&self) -> bool {
        const UNSTORED: [StatusCode; 2] = [StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
        let is_final = !self.status.is_informational() && !UNSTORED.contains(&self.status);
        let mut lengths = self.headers.get_all(CONTENT_LENGTH).iter();
        let is_whole = match self.status {
            StatusCode::NO_CONTENT => self.body.is_empty() && lengths.next().is_none(),
            _ => lengths.eq([&HeaderValue::from(self.body.len())]),
        };
        is_final && is_whole && !self.headers.keys().any(|name| is_hop_by_hop(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn entry(status: u16, lines: &[(&str, &str)]) -> Entry {
        let line =
            |&(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        Entry {
            status: StatusCode::from_u16(status).unwrap(),
            headers: lines.iter().map(line).collect(),
            ..Entry::of_body("body")
        }
    }

    #[test]
    fn an_entry_is_sendable_if_nothing_in_it_breaks_a_connection() {
        const LENGTH: (&str, &str) = ("content-length", "4");
        for (status, lines, expected) in [
            (200, &[LENGTH][..], true),
            (999, &[("x-odd", "caf\u{e9}"), LENGTH], true),
            (100, &[LENGTH], false),
            (101, &[LENGTH], false),
            (204, &[LENGTH], false),
            (205, &[LENGTH], false),
            (304, &[LENGTH], false),
            (200, &[], false),
            (200, &[("content-length", "3")], false),
            (200, &[("content-length", "5")], false),
            (200, &[("content-length", "+4")], false),
            (200, &[("content-length", "4, 4")], false),
            (200, &[LENGTH, LENGTH], false),
            (200, &[LENGTH, ("transfer-encoding", "chunked")], false),
            (200, &[LENGTH, ("transfer-encoding", "")], false),
            (200, &[LENGTH, ("connection", "close")], false),
            (200, &[LENGTH, ("keep-alive", "timeout=5")], false),
            (200, &[LENGTH, ("upgrade", "h2c")], false),
            (200, &[LENGTH, ("trailer", "etag")], false),
            (200, &[LENGTH, ("proxy-authenticate", "Basic")], false),
        ] {
            assert_eq!(entry(status, lines).is_sendable(), expected, "{status} {lines:?}");
        }
    }
}
