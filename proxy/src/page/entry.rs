//! The entry: a stored response.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{AGE, HeaderMap};

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
    use hyper::header::HeaderValue;

    use super::*;

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
