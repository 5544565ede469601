//! What was last seen under a key: guesses that save work, and are compared with what the store says at each use.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::key::{Key, Marker};
use crate::page::entry::{Entry, Head, Ready};
use crate::page::format::Format;

/// How much is remembered, in bytes: of some ten thousand pages.
const LIMIT: u64 = 16 << 20;

/// How many keys there is room for at first.
const KEYS: usize = 10_000;

/// The last seen of each key.
#[derive(Debug)]
pub(crate) struct Known(Cache<Key, Seen, ByBytes>);

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// The marker of a page that varies: it and the variant are then asked for in one round trip.
    Marker(Arc<Marker>),
    /// The head of a page: while the stored text begins the same, it need not be read again.
    Head(Arc<Text>),
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<Key, Seen> for ByBytes {
    fn weight(&self, key: &Key, seen: &Seen) -> u64 {
        /// About what the cache itself keeps.
        const OVERHEAD: usize = 192;
        let size = match seen {
            Seen::Marker(marker) => marker.size(),
            Seen::Head(text) => text.text.len() + text.head.size(),
        };
        (key.as_bytes().len() + size + OVERHEAD) as u64
    }
}

/// The head of a page as it lies in the store, and what it says.
#[derive(Debug)]
pub(crate) struct Text {
    text: Box<[u8]>,
    head: Arc<Head>,
    /// Of the body.
    length: usize,
}

impl Known {
    pub(crate) fn new() -> Self {
        Self(Cache::with_weighter(KEYS, LIMIT, ByBytes))
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Seen> {
        self.0.get(key)
    }

    /// The marker last seen, if that was what was seen last.
    pub(crate) fn remember_marker(&self, key: Key, marker: Arc<Marker>) {
        self.0.insert(key, Seen::Marker(marker));
    }

    /// A page that was read from this value, ready for clients.
    pub(crate) fn remember_page(&self, key: &Key, value: &Bytes, entry: Entry, format: &Format) -> Ready {
        let text = format.head(value, &entry).map(Box::from);
        let ready = Ready::from(entry);
        if let Some(text) = text {
            let text = Text { text, head: ready.head.clone(), length: ready.body.len() };
            self.0.insert(key.clone(), Seen::Head(Arc::new(text)));
        }
        ready
    }
}

impl Text {
    /// The page of a value that begins with this very head. Reading it again would say the same, for a fourth of the
    /// instructions of a hit.
    pub(crate) fn page(&self, value: &Bytes) -> Option<Ready> {
        let is_same = value.starts_with(&self.text) && value.len() == self.text.len() + self.length;
        is_same.then(|| Ready { head: self.head.clone(), body: value.slice(self.text.len()..) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page's value, with a head of about so many bytes and a body of that many.
    fn value(head: usize, body: usize) -> Bytes {
        let (line, body) = ("h".repeat(head), "b".repeat(body));
        format!(
            "HTTP/1.1 200 OK\r\nCachepage-Expires: 9\r\nA: {line}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into()
    }

    fn remember(known: &Known, key: &Key, value: &Bytes) {
        drop(known.remember_page(key, value, Format::Http.decode(value).unwrap(), &Format::Http));
    }

    #[test]
    fn what_is_remembered_of_a_page_does_not_hold_its_body() {
        let (known, key, value) = (Known::new(), Key::new("a"), value(10, 1 << 20));
        remember(&known, &key, &value);
        assert!(matches!(known.get(&key), Some(Seen::Head(_))));
        assert!(value.is_unique());
    }

    #[test]
    fn it_is_bounded_in_bytes_whatever_the_heads_are() {
        let known = Known::new();
        for index in 0..2_000 {
            remember(&known, &Key::new(index.to_string()), &value(32 << 10, 0));
        }
        assert!(known.0.weight() <= LIMIT, "{}", known.0.weight());
        // The text that is compared, and the head with its own: about three for one.
        assert!((150..=256).contains(&known.0.len()), "{}", known.0.len());
    }

    #[test]
    fn a_head_is_known_again_only_if_it_is_the_same_and_the_body_whole() {
        let value =
            Bytes::from_static(b"HTTP/1.1 200 OK\r\nCachepage-Expires: 9\r\nContent-Length: 4\r\n\r\nbody");
        let (known, key) = (Known::new(), Key::new("a"));
        let entry = Format::Http.decode(&value).unwrap();
        known.remember_page(&key, &value, entry, &Format::Http);
        let Some(Seen::Head(text)) = known.get(&key) else { panic!() };
        assert_eq!(text.page(&value).unwrap().body, "body");
        let other = Bytes::from(value.iter().copied().rev().collect::<Vec<_>>());
        let later = Bytes::from(String::from_utf8_lossy(&value).replace(": 9", ": 8"));
        for foreign in [other, later, value.slice(..value.len() - 1), [&value[..], b"x"].concat().into()] {
            assert!(text.page(&foreign).is_none(), "{foreign:?}");
        }
    }
}
