//! The entry: a stored response.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{AGE, CONTENT_LENGTH, HeaderMap, HeaderValue};

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
    /// When it stops being fresh, in seconds since 1970; unknown for entries that Django wrote.
    pub(crate) expires: Option<u64>,
    /// When it was made, in seconds since 1970, if a cache behind the proxy has sent an `Age`.
    pub(crate) born: Option<i64>,
    /// How long the origin took to make it; zero unless the rule has `early_refresh`.
    pub(crate) cost: Duration,
    /// Proves which request it was stored for (see [`crate::key::PageId::proof`]); absent in entries that Django wrote.
    pub(crate) proof: Option<Bytes>,
    /// By which purges find it; absent if the proxy that stored it did not purge.
    pub(crate) stamp: Option<Box<Stamp>>,
}

impl Entry {
    /// Whether HTTP can send this entry as it is. Others write into the store, too: a status without a body, a header of
    /// the connection, or a wrong length would break the connection of each client that gets the page. Names and values
    /// are valid by their types.
    pub(crate) fn is_sendable(&self) -> bool {
        const BODILESS: [StatusCode; 3] =
            [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
        let has_body = !self.status.is_informational() && !BODILESS.contains(&self.status);
        let is_whole = self.headers.get_all(CONTENT_LENGTH).iter().eq([&HeaderValue::from(self.body.len())]);
        has_body && is_whole && !self.headers.keys().any(is_hop_by_hop)
    }
}

/// When a page was made that arrives now, by its `Age` (RFC 9111 §5.1); `None` without one.
pub(crate) fn born(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    /// What a larger number counts as (RFC 9111 §1.2.2).
    const OLDEST: i64 = 1 << 31;
    let age = headers.get(AGE)?.to_str().ok()?.split(',').next()?.trim();
    let is_number = !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| seconds(now) - age.parse().unwrap_or(OLDEST).min(OLDEST))
}

/// Parses a date, with any day of the week: Django does not check that.
pub(crate) fn parse_date(text: &str) -> Option<SystemTime> {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let with = |day: &str| httpdate::parse_http_date(&format!("{day}{}", text.get(3..)?)).ok();
    httpdate::parse_http_date(text).ok().or_else(|| DAYS.into_iter().find_map(with))
}

/// Whole seconds since 1970, negative before.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// Whole seconds since 1970; an earlier time counts as 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    u64::try_from(seconds(time)).unwrap_or(0)
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
            reason: None,
            body: Bytes::from_static(b"body"),
            expires: None,
            born: None,
            cost: Duration::ZERO,
            proof: None,
            stamp: None,
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

    #[test]
    fn an_age_is_a_number_of_seconds() {
        let now = UNIX_EPOCH + Duration::from_secs(5_000_000_000);
        for (age, expected) in [
            ("0", Some(0)),
            ("30", Some(30)),
            ("30, 7", Some(30)),
            ("99999999999999999999", Some(1 << 31)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("young", None),
        ] {
            let headers = HeaderMap::from_iter([(AGE, HeaderValue::from_static(age))]);
            assert_eq!(born(&headers, now).map(|born| seconds(now) - born), expected, "{age}");
        }
        assert_eq!(born(&HeaderMap::new(), now), None);
    }
}
