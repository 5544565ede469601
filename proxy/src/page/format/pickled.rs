//! The format of a Django that shares the cache: pickles, and the headers that Django's outer middleware adds on each hit.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, SERVER, X_FRAME_OPTIONS};

use crate::key;
use crate::page::entry::Entry;
use crate::pickle::{self, Compressor, PickledPage, Protocol};
use crate::text::title_case;

/// How pages are shared with a Django.
#[derive(Clone, Debug)]
pub struct Pickled {
    /// `COMPRESSOR` of django-redis, for writing. Values of every compressor are read.
    pub compressor: Compressor,
    /// The headers that the middleware outside of `cache_page` adds to each answer. They are added to hits and not stored.
    pub hit_headers: HeaderMap,
    /// The largest value that is read, in bytes after decompression.
    pub limit: usize,
}

impl Pickled {
    pub(super) fn encode(&self, entry: &Entry) -> Option<Bytes> {
        let page = PickledPage {
            status: entry.status.as_u16(),
            reason: entry.reason.as_ref().map(|reason| latin_1(reason.as_bytes())),
            headers: self.stored_headers(&entry.headers),
            body: entry.body.clone(),
            frame_exempt: !entry.headers.contains_key(X_FRAME_OPTIONS),
            note: Some(note(entry)),
        };
        // The oldest protocol that both of Django's Redis backends write.
        let value = pickle::write_page(&page, Protocol::Four)?;
        Some(pickle::compress(self.compressor, &value))
    }

    /// Django keeps one value for each name, so lines of one name are joined to a list (RFC 9110 §5.3). `Set-Cookie`, which
    /// is no list, is never stored.
    fn stored_headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let made_on_each_hit = |name: &HeaderName| {
            [DATE, SERVER, CONTENT_LENGTH].contains(name) || self.hit_headers.get(name) == headers.get(name)
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
        headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(page.body.len()));
        let (expires, proof) = match page.note.as_deref().map(read_note) {
            // Written by another version of the proxy.
            Some(None) => return None,
            Some(Some((expires, proof))) => (Some(expires), Some(proof)),
            None => (None, None),
        };
        let reason = page.reason.and_then(|reason| ReasonPhrase::try_from(bytes_of(&reason)?).ok());
        Some(Entry {
            status: StatusCode::from_u16(page.status).ok()?,
            headers,
            reason,
            body: page.body,
            expires,
            // As in Django, which forgets the `Age` of an inner cache.
            born: None,
            cost: Duration::ZERO,
            proof,
        })
    }

    pub(super) fn encode_list(&self, list: &[String]) -> Bytes {
        pickle::compress(self.compressor, &pickle::write_list(list))
    }

    pub(super) fn decode_list(&self, value: &Bytes) -> Option<Vec<String>> {
        pickle::read_list(&pickle::decompress(value, self.limit)?).filter(|list| key::is_usable(list))
    }
}

/// The expiry and the proof, as `EXPIRES PROOF`.
fn note(entry: &Entry) -> String {
    let proof = entry.proof.as_deref().unwrap_or_default();
    format!("{} {}", entry.expires.unwrap_or_default(), String::from_utf8_lossy(proof))
}

fn read_note(note: &str) -> Option<(u64, Bytes)> {
    let (expires, proof) = note.split_once(' ')?;
    Some((expires.parse().ok()?, Bytes::copy_from_slice(proof.as_bytes())))
}

/// Each byte becomes one character.
fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Each character becomes one byte; `None` if the text is not Latin-1.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

fn header_value(text: &str) -> Option<HeaderValue> {
    match text.is_ascii() {
        true => HeaderValue::from_str(text).ok(),
        false => HeaderValue::from_maybe_shared(Bytes::from(bytes_of(text)?)).ok(),
    }
}
