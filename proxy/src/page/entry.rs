//! A stored page.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use hyper::header::{AGE, EXPIRES, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use server::Answer;

use crate::page::format::push_line;
use crate::policy::CacheControl;
use crate::status::{CacheStatus, Hit, Source, decimal};
use crate::way::body::Body;

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
    /// The proof of the selection it was stored for (see [`crate::key`]); none in entries that Django wrote.
    pub(crate) proof: Option<Bytes>,
}

/// An entry on its way to clients. Its head is shared by all hits of the page: what they have in common is done once.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) head: Arc<Head>,
    pub(crate) body: Bytes,
}

/// The head of all hits of an entry: but for `Age` and `Cache-Status` it is always the same.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// The stored headers in their order, then `Age`, then `X-Cache`.
    headers: HeaderMap,
    reason: Option<ReasonPhrase>,
    pub(crate) expires: Option<u64>,
    pub(crate) cost: Duration,
    proof: Option<Bytes>,
    aging: Option<Aging>,
    /// Made at the first use.
    text: OnceLock<Text>,
}

/// A head as it is written, up to the value of `Age` and from there on.
#[derive(Debug)]
struct Text {
    before_age: Vec<u8>,
    after_age: Vec<u8>,
}

/// What the age of an entry is computed of, in seconds: its `Expires`, since 1970, and its `max-age`.
#[derive(Clone, Copy, Debug)]
struct Aging {
    expires: i64,
    max_age: i64,
}

/// What tells for which requests an entry is: its proof, and its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proved<'a> {
    pub(crate) proof: Option<&'a Bytes>,
    pub(crate) headers: &'a HeaderMap,
}

impl Entry {
    pub(crate) fn proved(&self) -> Proved<'_> {
        Proved { proof: self.proof.as_ref(), headers: &self.headers }
    }

    /// The page as it came from the origin, for another request.
    pub(crate) fn collapsed(mut self, status: CacheStatus) -> Response<Body> {
        status.apply(&mut self.headers);
        response(self.status, self.headers, self.reason, self.body)
    }
}

impl From<Entry> for Ready {
    fn from(entry: Entry) -> Self {
        let Entry { status, mut headers, reason, body, expires, cost, proof } = entry;
        let aging = Aging::of(&headers);
        // Room for all that a hit adds: its copy of the map need not grow.
        headers.reserve(3);
        if aging.is_some() {
            headers.insert(AGE, HeaderValue::from_static("0"));
        }
        CacheStatus::name_hit(&mut headers);
        Self {
            head: Arc::new(Head {
                status,
                headers,
                reason,
                expires,
                cost,
                proof,
                aging,
                text: OnceLock::new(),
            }),
            body,
        }
    }
}

impl Ready {
    /// The page for one client.
    pub(crate) fn response(&self, now: SystemTime, hit: Hit, source: Source) -> Response<Body> {
        let Head { status, headers, reason, expires, aging, .. } = &*self.head;
        // hyper takes the map: a copy is what each hit must have for its own.
        let mut headers = headers.clone();
        if let Some(aging) = aging {
            headers.insert(AGE, HeaderValue::from(aging.age(now)));
        }
        let ttl = expires.map(|expires| ttl(expires, now));
        CacheStatus::Hit(hit, source, ttl).append(&mut headers);
        response(*status, headers, reason.clone(), self.body.clone())
    }

    /// The page for one client, as [`response`](Self::response) and hyper would write it.
    pub(crate) fn answer(&self, now: SystemTime, hit: Hit, source: Source) -> Answer {
        /// For what is added here and by the server.
        const MORE: usize = 192;
        let Head { expires, aging, .. } = &*self.head;
        let Text { before_age, after_age } = self.head.text.get_or_init(|| Text::of(&self.head));
        let mut head = Vec::with_capacity(before_age.len() + after_age.len() + MORE);
        head.extend_from_slice(before_age);
        if let Some(aging) = aging {
            head.extend_from_slice(decimal(&mut [0; 20], aging.age(now)));
        }
        head.extend_from_slice(after_age);
        CacheStatus::Hit(hit, source, expires.map(|expires| ttl(expires, now))).write(&mut head);
        Answer { head, body: self.body.clone(), at: now }
    }

    pub(crate) fn proved(&self) -> Proved<'_> {
        Proved { proof: self.head.proof.as_ref(), headers: &self.head.headers }
    }

    /// The entry again, for who gets it as the answer to another's request.
    pub(crate) fn entry(&self) -> Entry {
        let Head { status, headers, reason, expires, cost, proof, .. } = &*self.head;
        let mut headers = headers.clone();
        // The last first, so that the others keep their order.
        CacheStatus::unname(&mut headers);
        headers.remove(AGE);
        let (status, reason, proof) = (*status, reason.clone(), proof.clone());
        Entry { status, headers, reason, body: self.body.clone(), expires: *expires, cost: *cost, proof }
    }

    /// About what it holds, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.head.size() + self.body.len()
    }
}

impl Text {
    fn of(head: &Head) -> Self {
        let reason = head.reason.as_ref().map(ReasonPhrase::as_bytes);
        let reason = reason.or_else(|| head.status.canonical_reason().map(str::as_bytes)).unwrap_or_default();
        let mut text = [b"HTTP/1.1 ", head.status.as_str().as_bytes(), b" ", reason, b"\r\n"].concat();
        let mut before_age = None;
        for (name, value) in &head.headers {
            if *name == AGE && head.aging.is_some() {
                text.extend_from_slice(b"Age: ");
                before_age = Some(std::mem::replace(&mut text, b"\r\n".to_vec()));
            } else {
                push_line(&mut text, name.as_str(), value.as_bytes());
            }
        }
        match before_age {
            Some(before_age) => Self { before_age, after_age: text },
            None => Self { before_age: text, after_age: Vec::new() },
        }
    }
}

impl Head {
    /// About what it holds, in bytes.
    pub(crate) fn size(&self) -> usize {
        /// What the map has for each line, besides its text, which is there twice.
        const LINE: usize = 96;
        let lines = self.headers.iter().map(|(name, value)| 2 * (name.as_str().len() + value.len()) + LINE);
        size_of::<Self>() + lines.sum::<usize>()
    }
}

fn response(
    status: StatusCode,
    headers: HeaderMap,
    reason: Option<ReasonPhrase>,
    body: Bytes,
) -> Response<Body> {
    let mut response = Response::new(Body::Stored(Full::new(body)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    response
}

/// The seconds that a page has left, or less than 0.
fn ttl(expires: u64, now: SystemTime) -> i64 {
    i64::try_from(expires).unwrap_or(i64::MAX).saturating_sub(seconds(now))
}

impl Aging {
    /// `None` without both headers, and if `Expires` is no date.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let expires = parse_date(headers.get(EXPIRES)?.to_str().ok()?)?;
        let max_age = CacheControl::of(headers).max_age()?;
        Some(Self { expires: seconds(expires), max_age })
    }

    /// `max(0, max-age - (Expires - now))`, as Django's FetchFromCacheMiddleware computes it.
    fn age(self, now: SystemTime) -> u64 {
        let remaining = self.expires.saturating_sub(seconds(now));
        u64::try_from(self.max_age.saturating_sub(remaining)).unwrap_or(0)
    }
}

/// A date, whatever its day of the week: Django does not look at that.
pub(crate) fn parse_date(text: &str) -> Option<SystemTime> {
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
                Aging::of(&headers(&[("expires", expires), ("cache-control", control)]))
                    .map(|aging| aging.age(now)),
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
        let response = Ready::from(entry).response(now, Hit::Fresh, Source::Store);
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
        let status = |expires, now, hit| {
            let response = Ready::from(entry(expires)).response(now, hit, Source::Store);
            response.headers()["cache-status"].clone()
        };
        let after = UNIX_EPOCH + Duration::from_secs(9);
        assert_eq!(status(0, after, Hit::Fresh), "cachepage; hit; ttl=0");
        assert_eq!(status(0, after, Hit::Grace), "cachepage; hit; ttl=-9; detail=grace");
        assert_eq!(status(5, before, Hit::Fresh), "cachepage; hit; ttl=15");
    }
}
