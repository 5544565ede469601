//! The entry: a stored response.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::HeaderMap;

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
    /// How long the origin took to make it; zero unless the rule has `early_refresh`.
    pub(crate) cost: Duration,
    /// Proves which request it was stored for (see [`crate::key::PageId::proof`]); absent in entries that Django wrote.
    pub(crate) proof: Option<Bytes>,
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
