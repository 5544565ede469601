//! The head or vary marker that was last read under each key. It is only a guess, which saves work: each use compares it
//! with what the store returns.

use std::sync::Arc;

use bytes::Bytes;

use crate::key::{Key, VaryMarker};
use crate::page::entry::Entry;
use crate::page::format::Format;
use crate::page::head::PageHead;
use crate::page::stored::StoredPage;
use crate::weight::{self, Bounded, Evictions, Weigh};

/// A head of 60 KB takes this much. A larger one is parsed on each hit.
const LARGEST: u64 = 256 << 10;

/// The head or marker that was last read under each key.
#[derive(Debug)]
pub(crate) struct HeadCache(Bounded<Key, Seen>);

/// The head or marker that was last read under one key.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// The marker of a page that varies: the next lookup reads it and the variant in one round trip.
    Marker(Arc<VaryMarker>),
    /// The head of a page: a value that begins with the same text need not be parsed again.
    Head(Arc<SeenHead>),
}

impl Weigh for Seen {
    fn weigh(&self) -> usize {
        match self {
            Self::Marker(marker) => marker.size(),
            Self::Head(head) => {
                weight::counted(size_of::<SeenHead>()) + weight::block(head.text.len()) + head.head.size()
            }
        }
    }
}

/// The head of a page as stored, and parsed.
#[derive(Debug)]
pub(crate) struct SeenHead {
    text: Box<[u8]>,
    head: Arc<PageHead>,
    /// The lengths of the body and of its coded forms.
    lengths: [usize; 2],
}

impl HeadCache {
    /// A cache of this many bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self(weight::cache(limit, LARGEST, &Evictions::default()))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Seen> {
        self.0.get(key)
    }

    pub(crate) fn keep_marker(&self, key: Key, marker: Arc<VaryMarker>) {
        self.0.insert(key, Seen::Marker(marker));
    }

    /// Makes a page of the entry that `value` was decoded to, and remembers its head.
    pub(crate) fn keep_head(&self, key: &Key, value: &Bytes, entry: Entry, format: &Format) -> StoredPage {
        let text = format.head(value, &entry).map(Box::from);
        let page = StoredPage::from(entry);
        if let Some(text) = text {
            let seen = SeenHead {
                text,
                head: page.head().clone(),
                lengths: [page.body().len(), page.coded().len()],
            };
            self.0.insert(key.clone(), Seen::Head(Arc::new(seen)));
        }
        page
    }
}

impl Seen {
    /// The page of a value, if the value begins with this head. This saves the parsing, a fourth of the instructions of a
    /// hit.
    pub(crate) fn page(&self, value: &Bytes) -> Option<StoredPage> {
        let Self::Head(seen) = self else { return None };
        let SeenHead { text, head, lengths: [body, coded] } = &**seen;
        let (start, end) = (text.len(), text.len() + body);
        let is_same = value.starts_with(text) && value.len() == end + coded;
        is_same.then(|| StoredPage::new(head.clone(), value.slice(start..end), value.slice(end..)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 16 << 20;

    /// The value of a page with a head of about `head` bytes and a body of `body` bytes.
    fn value(head: usize, body: usize) -> Bytes {
        let (line, body) = ("h".repeat(head), "b".repeat(body));
        format!(
            "HTTP/1.1 200 OK\r\nCachepage-Expires: 9\r\nA: {line}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into()
    }

    fn remember(cache: &HeadCache, key: &Key, value: &Bytes) {
        drop(cache.keep_head(key, value, Format::Http.decode(value).unwrap(), &Format::Http));
    }

    #[test]
    fn a_remembered_head_does_not_keep_the_body_alive() {
        let (cache, key, value) = (HeadCache::new(LIMIT), Key::new("a"), value(10, 1 << 20));
        remember(&cache, &key, &value);
        assert!(matches!(cache.get(key.as_bytes()), Some(Seen::Head(_))));
        assert!(value.is_unique());
    }

    #[test]
    fn the_head_cache_is_bounded_in_bytes() {
        let cache = HeadCache::new(LIMIT);
        for index in 0..2_000 {
            remember(&cache, &Key::new(index.to_string()), &value(32 << 10, 0));
        }
        assert!(cache.0.weight() <= LIMIT, "{}", cache.0.weight());
        // Each head is held three times (the text that is compared, the one that the values are parts of, and that of hits)
        // in blocks of 40 KB.
        assert!((100..=128).contains(&cache.0.len()), "{}", cache.0.len());
    }

    #[test]
    fn a_head_is_reused_only_if_it_is_equal_and_the_body_is_whole() {
        let value =
            Bytes::from_static(b"HTTP/1.1 200 OK\r\nCachepage-Expires: 9\r\nContent-Length: 4\r\n\r\nbody");
        let (cache, key) = (HeadCache::new(LIMIT), Key::new("a"));
        let entry = Format::Http.decode(&value).unwrap();
        cache.keep_head(&key, &value, entry, &Format::Http);
        let Some(text) = cache.get(key.as_bytes()) else { panic!() };
        assert_eq!(text.page(&value).unwrap().body(), "body");
        let other = Bytes::from(value.iter().copied().rev().collect::<Vec<_>>());
        let later = Bytes::from(String::from_utf8_lossy(&value).replace(": 9", ": 8"));
        for foreign in [other, later, value.slice(..value.len() - 1), [&value[..], b"x"].concat().into()] {
            assert!(text.page(&foreign).is_none(), "{foreign:?}");
        }
    }
}
