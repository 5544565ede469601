//! A stored page, ready to be served. Work that all hits of a page share is done once.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::{
    ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, DATE, EXPIRES, HeaderMap, HeaderValue,
};
use hyper::{Method, Response, StatusCode};
use smallvec::SmallVec;

use super::entry::{Entry, Version};
use super::forms::Form;
use super::head::{Aging, HeadText, PageHead, SentForm};
use crate::policy::{Part, Stored, Whole, seconds};
use crate::purge::{PurgeNames, Stamp};
use crate::request::{Coding, Lines};
use crate::status::CacheStatus;
use crate::weight;

/// A stored page. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StoredPage(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    head: Arc<PageHead>,
    body: Bytes,
    /// The bytes of its coded forms.
    coded: Bytes,
}

/// Some bytes of a page's body, or all of them.
#[derive(Clone, Debug)]
pub struct PageBytes {
    page: StoredPage,
    range: Range<usize>,
}

impl AsRef<[u8]> for PageBytes {
    fn as_ref(&self) -> &[u8] {
        self.page.body().get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Entry> for StoredPage {
    fn from(entry: Entry) -> Self {
        let Entry { status, mut headers, reason, body, forms, expires, born, version, cost, proof, stamp } =
            entry;
        let aging = Aging::of(&headers, born, version);
        // Room for the headers that a hit adds, so that its copy of the map does not grow.
        headers.reserve(3);
        if aging.is_some() {
            headers.insert(AGE, HeaderValue::from_static("0"));
        }
        CacheStatus::name_hit(&mut headers);
        let head = PageHead {
            status,
            headers,
            reason,
            expires,
            cost,
            proof,
            stamp,
            valid_at: AtomicU64::new(0),
            aging,
            forms: SentForm::all(&forms),
            text: OnceLock::new(),
            not_modified: OnceLock::new(),
        };
        Self::new(Arc::new(head), body, forms.bytes().clone())
    }
}

impl StoredPage {
    /// A page with a head that was parsed before.
    pub(crate) fn new(head: Arc<PageHead>, body: Bytes, coded: Bytes) -> Self {
        Self(Arc::new(Parts { head, body, coded }))
    }

    /// The same page in memory of its own. Bytes of more than `longest` have memory of their own already.
    pub(crate) fn apart(&self, longest: usize) -> Self {
        if self.body().len() + self.coded().len() > longest {
            return self.clone();
        }
        let [body, coded] = [self.body(), self.coded()].map(|bytes| Bytes::copy_from_slice(bytes));
        Self::new(self.head().clone(), body, coded)
    }

    pub(crate) fn head(&self) -> &Arc<PageHead> {
        &self.0.head
    }

    pub(crate) fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// The bytes of its coded forms.
    pub(crate) fn coded(&self) -> &Bytes {
        &self.0.coded
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.head().status
    }

    pub(crate) fn expires(&self) -> Option<u64> {
        self.head().expires
    }

    /// The facts that `judge` needs of the page. `ended` is the time of the soft purge that ended it.
    pub(crate) fn stored(&self, ended: Option<u64>) -> Stored {
        let of_http = match self.head().aging {
            Some(Aging::Http { born, staleness, .. }) => Some((born, staleness)),
            _ => None,
        };
        Stored { expires: self.expires(), cost: self.head().cost, of_http, ended }
    }

    /// Its version, under HTTP's policy.
    pub(crate) fn version(&self) -> Option<Version> {
        match self.head().aging {
            Some(Aging::Http { version, .. }) => Some(version),
            _ => None,
        }
    }

    pub(crate) fn proof(&self) -> Option<&[u8]> {
        self.head().proof.as_deref()
    }

    /// The stamp by which purges find the page.
    pub(crate) fn stamp(&self) -> Option<&Stamp> {
        self.head().stamp.as_deref()
    }

    /// The generation of the purge log at which it was last found valid, or 0.
    pub(crate) fn valid_at(&self) -> &AtomicU64 {
        &self.head().valid_at
    }

    /// The names in its headers by which purges find it.
    pub(crate) fn names(&self) -> PurgeNames {
        PurgeNames::of(self.headers())
    }

    /// The stored headers, and those that each hit adds.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head().headers
    }

    /// Whether the page is served with the `Date` that it was stored with. Pickles hold no `Date`.
    pub(crate) fn has_date(&self) -> bool {
        matches!(self.head().aging, Some(Aging::Http { .. })) && self.headers().contains_key(DATE)
    }

    /// The seconds that the page stays fresh, negative if it has ended; unknown for pages that Django wrote.
    pub(crate) fn ttl(&self, now: SystemTime) -> Option<i64> {
        let expires = i64::try_from(self.expires()?).unwrap_or(i64::MAX);
        Some(expires.saturating_sub(seconds(now)))
    }

    /// The `Age` of the page in seconds, if it is known.
    pub(crate) fn age(&self, now: SystemTime) -> Option<u64> {
        self.head().aging.map(|aging| aging.age(now))
    }

    /// When it was stored, if that is known; 1970 otherwise.
    pub(crate) fn stored_at(&self) -> SystemTime {
        let stored = match self.head().aging {
            Some(Aging::Http { born, .. }) => Some(born),
            // The page ends `max-age` seconds after it was stored.
            Some(Aging::Django { lifetime: Some((expires, max_age)), .. }) => {
                let ends = self.expires().and_then(|ends| i64::try_from(ends).ok());
                Some(ends.unwrap_or(expires).saturating_sub(max_age))
            }
            Some(Aging::Django { lifetime: None, .. }) | None => None,
        };
        let stored = stored.and_then(|stored| u64::try_from(stored).ok()).unwrap_or_default();
        UNIX_EPOCH + Duration::from_secs(stored)
    }

    /// The part of this page that a request asks for.
    pub(crate) fn part(&self, method: &Method, lines: Lines<'_>) -> Part {
        let length = Some(self.body().len() as u64);
        let (status, headers) = (self.status(), self.headers());
        Part::asked_for(method, lines, Whole { status, headers, length, has_date: self.has_date() })
    }

    /// The part of this page that a request asks for, and the form to send. There is a form only if the page has several and
    /// the rule wants some. `codings` are the wanted ones, the best first.
    pub(crate) fn asked_for(
        &self,
        codings: &[Coding],
        method: &Method,
        lines: Lines<'_>,
    ) -> (Part, Option<Form>) {
        let Some(forms) = self.head().forms.as_deref().filter(|_| !codings.is_empty()) else {
            return (self.part(method, lines), None);
        };
        match self.clone().in_form(Some(Form::Identity)).part(method, lines) {
            // A range is a range of identity, which every client accepts.
            part @ (Part::Bytes(_) | Part::Unsatisfiable) => (part, Some(Form::Identity)),
            part => {
                let is_stored = |coding: &Coding| forms.iter().any(|sent| sent.form == Form::Coded(*coding));
                let stored: SmallVec<[_; 3]> = codings.iter().copied().filter(is_stored).collect();
                let best = Coding::preferred(lines.get_all(&ACCEPT_ENCODING), &stored);
                (part, Some(best.map_or(Form::Identity, Form::Coded)))
            }
        }
    }

    /// This page as it is sent in a form.
    pub(crate) fn in_form(self, form: Option<Form>) -> Self {
        let sent = form.and_then(|form| self.head().forms.iter().flatten().find(|sent| sent.form == form));
        let Some(SentForm { form, range, head }) = sent else { return self };
        let body = match form {
            Form::Identity => self.body().clone(),
            Form::Coded(_) => self.coded().slice(range.clone()),
        };
        let head = head.get_or_init(|| Arc::new(self.head().in_form(*form, body.len())));
        Self::new(head.clone(), body, Bytes::new())
    }

    /// The bytes of a part.
    pub(crate) fn bytes(self, part: &Part) -> PageBytes {
        let range = match part {
            Part::Whole => 0..self.body().len(),
            // A range is within the body, so its ends fit into `usize`.
            Part::Bytes(range) => range.start as usize..range.end as usize,
            Part::NotModified | Part::Unsatisfiable => 0..0,
        };
        PageBytes { page: self, range }
    }

    /// The answer to one client, for hyper to write.
    pub(crate) fn response(&self, now: SystemTime, cache: CacheStatus, part: &Part) -> Response<Bytes> {
        let mut response = self.shared_response(part);
        if let Some(aging) = self.head().aging {
            response.headers_mut().insert(AGE, HeaderValue::from(aging.age(now)));
        }
        cache.append(response.headers_mut());
        response
    }

    /// The part of the answer that all clients share, with `Age` and without `Cache-Status`.
    fn shared_response(&self, part: &Part) -> Response<Bytes> {
        let PageHead { status, headers, reason, .. } = &**self.head();
        // hyper takes the map, so each hit needs its own copy.
        let whole = response(*status, headers.clone(), reason.clone(), self.body().clone());
        cut(whole, part, self.body().len() as u64, |body, range| body.slice(range))
    }

    /// The head of the answer to one client, as [`response`](Self::response) and hyper would write it, without the `Date` that
    /// the proxy adds.
    pub(crate) fn write_head(&self, now: SystemTime, cache: CacheStatus, part: &Part) -> Vec<u8> {
        /// Room for the headers that are added here and by the server.
        const MORE: usize = 192;
        let head = self.head();
        let has_age = head.aging.is_some();
        let made = || HeadText::of(&self.shared_response(part), has_age);
        let made_now;
        let HeadText { before_age, after_age } = match part {
            Part::Whole => head.text.get_or_init(made),
            Part::NotModified => head.not_modified.get_or_init(|| Box::new(made())),
            Part::Bytes(_) | Part::Unsatisfiable => {
                made_now = made();
                &made_now
            }
        };
        let mut text = Vec::with_capacity(before_age.len() + after_age.len() + MORE);
        text.extend_from_slice(before_age);
        if let Some(aging) = head.aging {
            text.extend_from_slice(itoa::Buffer::new().format(aging.age(now)).as_bytes());
        }
        text.extend_from_slice(after_age);
        cache.write(&mut text);
        text
    }

    /// The entry without the headers of a hit, for followers. The age that a cache behind the proxy has sent is kept.
    pub(crate) fn entry(&self, now: SystemTime) -> Entry {
        let PageHead { status, headers, reason, expires, cost, proof, aging, stamp, .. } = &**self.head();
        let forms = self.head().coded_forms().in_bytes(self.coded().clone());
        let mut headers = headers.clone();
        // The last header is removed first, so that the others keep their order.
        CacheStatus::unname(&mut headers);
        let (born, version) = match aging {
            Some(Aging::Http { born, version, .. }) => (Some(*born), Some(*version)),
            Some(Aging::Django { born, .. }) => (*born, None),
            None => (None, None),
        };
        match aging.filter(|_| born.is_some()) {
            Some(aging) => drop(headers.insert(AGE, aging.age(now).into())),
            None => drop(headers.remove(AGE)),
        }
        let (status, reason, proof) = (*status, reason.clone(), proof.clone());
        let (body, stamp) = (self.body().clone(), stamp.clone());
        let (expires, cost) = (*expires, *cost);
        Entry { status, headers, reason, body, forms, expires, born, version, cost, proof, stamp }
    }

    /// The memory that it holds, in bytes. A long body is a slice of the stored value, which begins with the head.
    pub(crate) fn size(&self) -> usize {
        let value = self.head().text_len() + self.body().len() + self.coded().len();
        weight::counted(size_of::<Parts>()) + self.head().size() + weight::shared(value)
    }
}

/// Cuts an answer with a whole page of this length down to a part. `slice` cuts the body.
pub(crate) fn cut<B: Default>(
    mut response: Response<B>,
    part: &Part,
    length: u64,
    slice: impl FnOnce(B, Range<usize>) -> B,
) -> Response<B> {
    if *part == Part::Whole {
        return response;
    }
    *response.status_mut() = part.status(response.status());
    response.extensions_mut().remove::<ReasonPhrase>();
    let headers = response.headers_mut();
    if let Part::Bytes(range) = part {
        let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
        headers.extend(HeaderValue::try_from(text).map(|text| (CONTENT_RANGE, text)));
        let range = range.start as usize..range.end as usize;
        return response.map(|body| slice(body, range));
    }
    // Headers that describe the content do not belong to an answer without content (RFC 9110 §15.4.5).
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
        headers.remove(name);
    }
    if *part == Part::Unsatisfiable {
        // A cache in front must not store this answer as the page.
        headers.remove(CACHE_CONTROL);
        headers.remove(EXPIRES);
        let text = HeaderValue::try_from(format!("bytes */{length}"));
        headers.extend(text.map(|text| (CONTENT_RANGE, text)));
    }
    response.map(|_| B::default())
}

/// Builds a response.
pub(crate) fn response(
    status: StatusCode,
    headers: HeaderMap,
    reason: Option<ReasonPhrase>,
    body: Bytes,
) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::forms::Forms;
    use crate::policy::unix_seconds;
    use crate::status::{Hit, Source};

    fn hit(entry: Entry, now: SystemTime, hit: Hit) -> Response<Bytes> {
        let page = StoredPage::from(entry);
        page.response(now, CacheStatus::Hit(hit, Source::Store, page.ttl(now)), &Part::Whole)
    }

    const NOW: &str = "Sun, 22 Nov 2026 20:09:06 GMT";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_page_says_when_it_was_stored() {
        let entry = |pairs, expires, born, version| Entry {
            status: StatusCode::OK,
            headers: headers(pairs),
            reason: None,
            body: Bytes::new(),
            forms: Forms::default(),
            expires,
            born,
            version,
            cost: Duration::ZERO,
            proof: None,
            stamp: None,
        };
        let cached = [("expires", "Thu, 01 Jan 1970 00:16:40 GMT"), ("cache-control", "max-age=60")];
        for (entry, stored) in [
            (entry(&cached, Some(1000), None, None), 940),
            // The proxy's own end of the page counts, whatever the origin says.
            (entry(&cached, Some(2000), None, None), 1940),
            // A page as Django writes it.
            (entry(&cached, None, None, None), 940),
            (entry(&cached[1..], Some(1000), None, None), 0),
            (entry(&cached, Some(1000), Some(900), Some(Version::Unknown)), 900),
            (entry(&[], Some(1000), None, None), 0),
        ] {
            let stored = UNIX_EPOCH + Duration::from_secs(stored);
            assert_eq!(StoredPage::from(entry.clone()).stored_at(), stored, "{entry:?}");
        }
    }

    /// Measured on Django 5.2.19: each row is a stored head and the Age of a hit.
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
                Aging::of(&headers(&[("expires", expires), ("cache-control", control)]), None, None)
                    .map(|aging| aging.age(now)),
                age_expected,
                "{expires} {control}"
            );
        }
    }

    #[test]
    fn a_page_is_no_younger_than_the_cache_behind_the_proxy_says() {
        let now = httpdate::parse_http_date(NOW).unwrap();
        for (born, lines, expected) in [
            // 30 s old at the fetch, which was 30 s ago.
            (60, &[("expires", "Sun, 22 Nov 2026 20:09:36 GMT"), ("cache-control", "max-age=60")][..], 60),
            // The inner cache has set `Expires`, so its 40 s are included.
            (40, &[("expires", "Sun, 22 Nov 2026 20:09:26 GMT"), ("cache-control", "max-age=60")], 40),
            (40, &[("expires", "Wed, 21 Oct 2099 07:28:00 GMT"), ("cache-control", "max-age=60")], 40),
            (40, &[("expires", "0"), ("cache-control", "max-age=60")], 40),
            (40, &[("expires", "Sun, 22 Nov 2026 20:02:13 GMT"), ("cache-control", "max-age=60")], 473),
            (40, &[], 40),
            // The clocks of two proxies differ.
            (-5, &[], 0),
        ] {
            let aging = Aging::of(&headers(lines), Some(seconds(now) - born), None).unwrap();
            assert_eq!(aging.age(now), expected, "{born} {lines:?}");
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
            forms: Forms::default(),
            expires: Some(unix_seconds(now + Duration::from_secs(30))),
            born: None,
            version: None,
            cost: Duration::ZERO,
            proof: None,
            stamp: None,
        };
        let response = hit(entry, now, Hit::Fresh);
        let names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["age", "x-b", "expires", "cache-control", "x-a", "x-cache", "cache-status"]);
        assert_eq!(response.headers()[AGE], "30");
        assert_eq!(response.headers()["cache-status"], "cachepage; hit; ttl=30");
        assert_eq!(response.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
    }

    #[test]
    fn an_expired_entry_and_a_clock_before_1970_are_served() {
        let entry = |expires| Entry {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            reason: None,
            body: Bytes::new(),
            forms: Forms::default(),
            expires: Some(expires),
            born: None,
            version: None,
            cost: Duration::ZERO,
            proof: None,
            stamp: None,
        };
        let before = UNIX_EPOCH - Duration::from_secs(10);
        let status = |expires, now, hit| {
            let response = self::hit(entry(expires), now, hit);
            response.headers()["cache-status"].clone()
        };
        let after = UNIX_EPOCH + Duration::from_secs(9);
        assert_eq!(status(0, after, Hit::Fresh), "cachepage; hit; ttl=0");
        assert_eq!(status(0, after, Hit::Grace), "cachepage; hit; ttl=-9; detail=grace");
        assert_eq!(status(5, before, Hit::Fresh), "cachepage; hit; ttl=15");
    }
}
