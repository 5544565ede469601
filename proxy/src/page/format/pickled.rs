//! The format of a Django that shares the cache: pickles, and the headers that Django's outer middleware adds on each hit.

use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{
    CONTENT_LENGTH, DATE, EXPIRES, HeaderMap, HeaderName, HeaderValue, SERVER, X_FRAME_OPTIONS,
};

use crate::key;
use crate::page::entry::{Entry, Version};
use crate::page::etag::add_etag;
use crate::page::forms::Forms;
use crate::pickle::{self, Compressor, PickledPage, Protocol};
use crate::policy::{CacheControl, parse_any_day, seconds};
use crate::purge::{Since, Stamp, Tags};
use crate::text::title_case;

/// How pages are shared with a Django.
#[derive(Clone, Debug)]
pub struct Pickled {
    /// `COMPRESSOR` of django-redis, for writing. Values of every compressor are read.
    pub compressor: Compressor,
    /// The headers that the middleware outside of `cache_page` adds to each answer. They are added to hits and not stored.
    pub hit_headers: HeaderMap,
    /// Whether pages get the `ETag` of `ConditionalGetMiddleware`, which works outside of `cache_page`, too.
    pub conditional_get: bool,
    /// The largest value that is read, in bytes after decompression.
    pub limit: usize,
}

impl Pickled {
    pub(super) fn encode(&self, entry: &Entry) -> Option<Bytes> {
        let page = PickledPage {
            status: entry.status.as_u16(),
            reason: entry.reason.as_ref().map(|reason| latin_1(reason.as_bytes())),
            headers: self.stored_headers(entry),
            body: entry.body.clone(),
            frame_exempt: !entry.headers.contains_key(X_FRAME_OPTIONS),
            note: Some(Note::write(entry)),
            forms: entry.forms.packed(),
        };
        // The oldest protocol that both of Django's Redis backends write.
        let value = pickle::write_page(&page, Protocol::Four)?;
        Some(pickle::compress(self.compressor, &value))
    }

    /// Django keeps one value for each name, so lines of one name are joined to a list (RFC 9110 §5.3). `Set-Cookie`, which
    /// is no list, is never stored. The tags are stored as headers: Django gives them to each cache that asks it.
    fn stored_headers(&self, entry: &Entry) -> Vec<(String, String)> {
        let tags = entry.stamp.iter().flat_map(|stamp| stamp.tags.headers());
        let headers = &entry
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .chain(tags)
            .chain(expires_for_django(entry))
            .collect::<HeaderMap>();
        let made_on_each_hit = |name: &HeaderName| {
            *name == CONTENT_LENGTH
                || (entry.version.is_none() && [DATE, SERVER].contains(name))
                || self.hit_headers.get(name) == headers.get(name)
        };
        let stored = headers.keys().filter(|name| !made_on_each_hit(name));
        stored
            .map(|name| {
                let lines: Vec<_> =
                    headers.get_all(name).iter().map(|line| latin_1(line.as_bytes())).collect();
                (title_case(name.as_str()).map(char::from).collect(), lines.join(", "))
            })
            .collect()
    }

    pub(super) fn decode(&self, value: &Bytes) -> Option<Entry> {
        let page = pickle::read_page(&pickle::decompress(value, self.limit)?)?;
        let mut headers = HeaderMap::with_capacity(page.headers.len() + self.hit_headers.len() + 4);
        for (name, value) in page.headers {
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, header_value(&value)?);
        }
        // The view decides whether its page is exempt, so the exemption is stored with the page.
        let is_exempt = |name: &HeaderName| page.frame_exempt && *name == X_FRAME_OPTIONS;
        for (name, value) in self.hit_headers.iter().filter(|(name, _)| !is_exempt(name)) {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        if self.conditional_get {
            add_etag(&mut headers, &page.body);
        }
        let tags = Tags::take(&mut headers);
        let status = StatusCode::from_u16(page.status).ok()?;
        if status != StatusCode::NO_CONTENT {
            headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(page.body.len()));
        }
        let (note, stamp) = match page.note.as_deref() {
            // A note that cannot be read comes from another version of the proxy.
            Some(note) => Note::read(note, tags).map(|(note, stamp)| (Some(note), stamp))?,
            None => (None, stamp_of_django(&headers, tags)),
        };
        let reason = page.reason.and_then(|reason| ReasonPhrase::try_from(bytes_of(&reason)?).ok());
        Some(Entry {
            status,
            headers,
            reason,
            body: page.body,
            forms: page.forms.and_then(Forms::unpacked).unwrap_or_default(),
            expires: note.as_ref().map(|note| note.expires),
            // Under Django's policy this is as in Django, which forgets the `Age` of an inner cache.
            born: note.as_ref().and_then(|note| note.born),
            version: note.as_ref().and_then(|note| note.born.map(|_| Version::Unknown)),
            cost: Duration::ZERO,
            proof: note.map(|note| note.proof),
            stamp: stamp.map(Box::new),
        })
    }

    /// Where the body is in a value that is not compressed. The rest of the value does not depend on an `ETag` that is made
    /// from the body.
    pub(super) fn content(&self, value: &Bytes, entry: &Entry) -> Option<Range<usize>> {
        let Entry { body, forms, .. } = entry;
        if self.conditional_get || !forms.is_empty() || body.is_empty() {
            return None;
        }
        // The body is a slice of the value, or has memory of its own.
        let start = body.as_ptr().addr().checked_sub(value.as_ptr().addr())?;
        let end = start + body.len();
        (end <= value.len()).then_some(start..end)
    }

    pub(super) fn encode_list(&self, list: &[String]) -> Bytes {
        pickle::compress(self.compressor, &pickle::write_list(list))
    }

    pub(super) fn decode_list(&self, value: &Bytes) -> Option<Vec<String>> {
        pickle::read_list(&pickle::decompress(value, self.limit)?).filter(|list| key::is_usable(list))
    }
}

/// The note in one of the proxy's entries: `EXPIRES PROOF`, then ` born=BORN` under HTTP's policy and, with purging, the
/// page's place in the purge log and its URL.
struct Note {
    expires: u64,
    proof: Bytes,
    born: Option<i64>,
}

impl Note {
    fn write(entry: &Entry) -> String {
        let proof = entry.proof.as_deref().unwrap_or_default();
        let mut note = format!("{} {}", entry.expires.unwrap_or_default(), String::from_utf8_lossy(proof));
        if let Some(born) = entry.born.filter(|_| entry.version.is_some()) {
            note.push_str(&format!(" born={born}"));
        }
        if let Some(Stamp { since: Since::Position(position), url, .. }) = entry.stamp.as_deref() {
            note.push_str(&format!(" {position} {url}"));
        }
        note
    }

    fn read(note: &str, tags: Tags) -> Option<(Self, Option<Stamp>)> {
        let mut words = note.splitn(3, ' ');
        let (expires, proof, mut rest) = (words.next()?.parse().ok()?, words.next()?, words.next());
        let mut born = None;
        if let Some(text) = rest.and_then(|rest| rest.strip_prefix("born=")) {
            let (number, further) =
                text.split_once(' ').map_or((text, None), |(born, rest)| (born, Some(rest)));
            (born, rest) = (Some(number.parse().ok()?), further);
        }
        let stamp = match rest.map(|rest| rest.split_once(' ')) {
            None => None,
            Some(None) => return None,
            Some(Some((position, url))) => {
                Some(Stamp { since: Since::Position(position.parse().ok()?), url: url.into(), tags })
            }
        };
        Some((Self { expires, proof: Bytes::copy_from_slice(proof.as_bytes()), born }, stamp))
    }
}

/// The `Expires` for a page that has a `max-age` and no `Expires`, since Django fails on such a page. Caches prefer `max-age`
/// to it. Under Django's policy the page has an `Expires` already.
fn expires_for_django(entry: &Entry) -> Option<(HeaderName, HeaderValue)> {
    let is_missing =
        !entry.headers.contains_key(EXPIRES) && CacheControl::of(&entry.headers).max_age().is_some();
    let end = UNIX_EPOCH + Duration::from_secs(entry.expires.filter(|_| is_missing)?);
    Some((EXPIRES, HeaderValue::try_from(httpdate::fmt_http_date(end)).ok()?))
}

/// The stamp of a page that Django wrote, without its URL. The page was made `max-age` seconds before its `Expires`.
fn stamp_of_django(headers: &HeaderMap, tags: Tags) -> Option<Stamp> {
    let expires = parse_any_day(headers.get(EXPIRES)?.to_str().ok()?)?;
    let made = seconds(expires) - CacheControl::of(headers).max_age()?;
    Some(Stamp { since: Since::Time(u64::try_from(made).ok()?), url: Box::default(), tags })
}

/// Latin-1: each byte becomes one character.
fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Latin-1: each character becomes one byte; `None` if the text has other characters.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

fn header_value(text: &str) -> Option<HeaderValue> {
    match text.is_ascii() {
        true => HeaderValue::from_str(text).ok(),
        false => HeaderValue::from_maybe_shared(Bytes::from(bytes_of(text)?)).ok(),
    }
}
