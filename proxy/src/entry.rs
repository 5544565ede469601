//! A stored page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use hyper::header::{AGE, EXPIRES, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::body::Body;
use crate::policy::CacheControl;
use crate::status::{CacheStatus, Hit};

/// A response as it was stored, with what the store needs to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Only if it is not the usual one.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) body: Bytes,
    /// When it leaves the store, in seconds since 1970; unknown of entries that Django wrote.
    pub(crate) expires: Option<u64>,
    /// How long the origin took to make it, if the rule wants to know.
    pub(crate) cost: Duration,
    /// The proof of what it was stored for (see [`crate::key`]); none in entries that Django wrote.
    pub(crate) proof: Option<Bytes>,
}

impl Entry {
    /// The page as a hit: the stored headers in their order, then `Age`.
    pub(crate) fn into_response(self, now: SystemTime, hit: Hit) -> Response<Body> {
        let ttl = self.expires.map(|expires| ttl(expires, now));
        let age = age(&self.headers, now);
        let mut response = self.response();
        if let Some(age) = age {
            response.headers_mut().insert(AGE, HeaderValue::from(age));
        }
        CacheStatus::Hit(hit, ttl).apply(response.headers_mut());
        response
    }

    /// The page as it came from the origin, for another request.
    pub(crate) fn collapsed(self, status: CacheStatus) -> Response<Body> {
        let mut response = self.response();
        status.apply(response.headers_mut());
        response
    }

    fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::Stored(Full::new(self.body)));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(reason) = self.reason {
            response.extensions_mut().insert(reason);
        }
        response
    }
}

/// The seconds that a page has left, or less than 0.
fn ttl(expires: u64, now: SystemTime) -> i64 {
    i64::try_from(expires).unwrap_or(i64::MAX).saturating_sub(seconds(now))
}

/// `max(0, max-age - (Expires - now))`, as Django's FetchFromCacheMiddleware computes it: none without both headers,
/// none if `Expires` is no date.
fn age(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let expires = parse_date(headers.get(EXPIRES)?.to_str().ok()?)?;
    let max_age = CacheControl::of(headers).max_age()?;
    let remaining = seconds(expires).saturating_sub(seconds(now));
    u64::try_from(max_age.saturating_sub(remaining)).ok().or(Some(0))
}

/// A date, whatever its day of the week: Django does not look at that.
fn parse_date(text: &str) -> Option<SystemTime> {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let with = |day: &str| httpdate::parse_http_date(&format!("{day}{}", text.get(3..)?)).ok();
    httpdate::parse_http_date(text).ok().or_else(|| DAYS.into_iter().find_map(with))
}

/// Whole seconds since 1970, negative before.
fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// Whole seconds since 1970; a clock before that counts as 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    u64::try_from(seconds(time)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "Sun, 22 Nov 2026 20:09:06 GMT";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    /// Measured on Django 5.2.19 (README §F): each row is a stored head, and the Age that a hit carries.
    #[test]
    fn age_is_djangos() {
        let now = httpdate::parse_http_date(NOW).unwrap();
        for (expires, control, age_expected) in [
            ("Sun, 22 Nov 2026 20:10:06 GMT", "max-age=60", Some(0)),
            ("Sun, 22 Nov 2026 20:09:36 GMT", "max-age=60", Some(30)),
            ("Sun, 22 Nov 2026 20:10:04 GMT", "max-age=10", Some(0)),
            ("Sun, 22 Nov 2026 20:02:13 GMT", "max-age=60", Some(473)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", "max-age=60", Some(1_795_378_206)),
            ("Wed, 21 Oct 2099 07:28:00 GMT", "max-age=60", Some(0)),
            ("Sun, 22 Nov 2026 20:10:06 GMT", "max-age=-1", Some(0)),
            ("Mon, 22 Nov 2026 20:09:36 GMT", "max-age=60", Some(30)),
            ("0", "max-age=60", None),
            ("Sun", "max-age=60", None),
            ("Sun, 22 Nov 2026 20:10:06 GMT", "public", None),
        ] {
            assert_eq!(
                age(&headers(&[("expires", expires), ("cache-control", control)]), now),
                age_expected,
                "{expires} {control}"
            );
        }
    }

    #[test]
    fn a_hit_keeps_the_stored_headers_and_overwrites_a_stored_age_in_place() {
        let now = httpdate::parse_http_date(NOW).unwrap();
        let entry = Entry {
            status: StatusCode::OK,
            headers: headers(&[
                ("age", "7"),
                ("x-b", "1"),
                ("expires", "Sun, 22 Nov 2026 20:09:36 GMT"),
                ("cache-control", "max-age=60"),
                ("x-a", "2"),
            ]),
            reason: Some(ReasonPhrase::from_static(b"Fine")),
            body: Bytes::from_static(b"body"),
            expires: Some(unix_seconds(now + Duration::from_secs(30))),
            cost: Duration::ZERO,
            proof: None,
        };
        let response = entry.into_response(now, Hit::Fresh);
        let names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["age", "x-b", "expires", "cache-control", "x-a", "x-cache", "cache-status"]);
        assert_eq!(response.headers()[AGE], "30");
        assert_eq!(response.headers()["cache-status"], "cachepage; hit; ttl=30");
        assert_eq!(response.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
    }

    #[test]
    fn an_entry_past_its_time_or_a_clock_before_1970_does_no_harm() {
        let entry = |expires| Entry {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            reason: None,
            body: Bytes::new(),
            expires: Some(expires),
            cost: Duration::ZERO,
            proof: None,
        };
        let before = UNIX_EPOCH - Duration::from_secs(10);
        assert_eq!(
            entry(0).into_response(UNIX_EPOCH + Duration::from_secs(9), Hit::Fresh).headers()["cache-status"],
            "cachepage; hit; ttl=0"
        );
        let stale = entry(0).into_response(UNIX_EPOCH + Duration::from_secs(9), Hit::Grace);
        assert_eq!(stale.headers()["cache-status"], "cachepage; hit; ttl=-9; detail=grace");
        assert_eq!(
            entry(5).into_response(before, Hit::Fresh).headers()["cache-status"],
            "cachepage; hit; ttl=15"
        );
    }
}
