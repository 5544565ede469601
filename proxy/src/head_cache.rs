//! The head or vary marker that was last read under each key. Such a guess saves work: each use compares it with the value
//! from the store.

use std::sync::Arc;

use bytes::Bytes;

use crate::key::{Key, VaryMarker};
use crate::page::entry::Entry;
use crate::page::format::Format;
use crate::page::head::PageHead;
use crate::page::stored::StoredPage;
use crate::weight::{self, Bounded, Evictions, Weigh};

/// A head of 60 KB takes this much memory here. A larger one is parsed on each hit.
const LARGEST: u64 = 256 << 10;

/// The head or marker that was last read under each key.
#[derive(Debug)]
pub(crate) struct HeadCache(Bounded<Key, Seen>);

/// The head or marker that was last read under one key.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// The marker of a page that varies: the next lookup reads it and the variant in one round trip.
    Marker(Arc<SeenMarker>),
    /// The head of a page: a value with the same text around its content need not be parsed again.
    Head(Arc<SeenHead>),
}

impl Weigh for Seen {
    fn weigh(&self) -> usize {
        match self {
            Self::Marker(seen) => {
                weight::counted(size_of::<SeenMarker>())
                    + weight::block(seen.value.len())
                    + seen.marker.size()
            }
            Self::Head(seen) => {
                let texts = weight::block(seen.before.len()) + weight::block(seen.after.len());
                weight::counted(size_of::<SeenHead>()) + texts + seen.head.size()
            }
        }
    }
}

/// A marker as stored, and parsed.
#[derive(Debug)]
pub(crate) struct SeenMarker {
    value: Box<[u8]>,
    pub(crate) marker: Arc<VaryMarker>,
}

/// The head of a page as stored, and parsed.
#[derive(Debug)]
pub(crate) struct SeenHead {
    /// The bytes of the value before and after the content.
    before: Box<[u8]>,
    after: Box<[u8]>,
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

    pub(crate) fn keep_marker(&self, key: Key, value: &[u8], marker: Arc<VaryMarker>) {
        self.0.insert(key, Seen::Marker(Arc::new(SeenMarker { value: value.into(), marker })));
    }

    /// Makes a page of the entry that `value` was decoded to, and remembers its head.
    pub(crate) fn keep_head(&self, key: &Key, value: &Bytes, entry: Entry, format: &Format) -> StoredPage {
        let content = format.content(value, &entry);
        let page = StoredPage::from(entry);
        if let Some(content) = content {
            let (before, after) = (value[..content.start].into(), value[content.end..].into());
            let lengths = [page.body().len(), page.coded().len()];
            let seen = SeenHead { before, after, head: page.head().clone(), lengths };
            self.0.insert(key.clone(), Seen::Head(Arc::new(seen)));
        }
        page
    }
}

impl Seen {
    /// The page of a value, if the value has this head. This saves the parsing, a fourth of the instructions of a hit.
    pub(crate) fn page(&self, value: &Bytes) -> Option<StoredPage> {
        let Self::Head(seen) = self else { return None };
        let SeenHead { before, after, head, lengths: [body, coded] } = &**seen;
        let (start, middle, end) = (before.len(), before.len() + body, before.len() + body + coded);
        let is_same = value.len() == end + after.len() && value.starts_with(before) && value.ends_with(after);
        is_same.then(|| StoredPage::new(head.clone(), value.slice(start..middle), value.slice(middle..end)))
    }

    /// The marker of a value, if it is this one.
    pub(crate) fn marker(&self, value: &Bytes) -> Option<Arc<VaryMarker>> {
        match self {
            Self::Marker(seen) if *seen.value == **value => Some(seen.marker.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderMap;

    use super::*;
    use crate::page::format::Pickled;
    use crate::pickle::Compressor;

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
        // Each head is in memory three times, in blocks of 40 KB: the text that is compared, the text that the values are
        // slices of, and the text for hits.
        assert!((100..=128).contains(&cache.0.len()), "{}", cache.0.len());
    }

    #[test]
    fn a_pickle_with_another_body_of_the_same_length_has_the_same_head() {
        let format = |conditional_get| {
            let (compressor, hit_headers) = (Compressor::None, HeaderMap::new());
            Format::Pickled(Box::new(Pickled { compressor, hit_headers, conditional_get, limit: 1 << 20 }))
        };
        let (cache, key, plain) = (HeadCache::new(LIMIT), Key::new("a"), format(false));
        let pickle = |head, body| plain.encode(&Format::Http.decode(&value(head, body)).unwrap()).unwrap();
        let stored = pickle(10, 1000);
        let entry = || plain.decode(&stored).unwrap();
        drop(cache.keep_head(&key, &stored, entry(), &format(true)));
        assert!(cache.get(key.as_bytes()).is_none(), "an ETag is made of the body");
        drop(cache.keep_head(&key, &stored, entry(), &plain));
        let Some(seen) = cache.get(key.as_bytes()) else { panic!() };
        let body = stored.windows(1000).position(|bytes| bytes.iter().all(|&byte| byte == b'b')).unwrap();
        let mut other = stored.to_vec();
        other[body..body + 1000].fill(b'B');
        let other = Bytes::from(other);
        assert_eq!(plain.decode(&other).unwrap().body, "B".repeat(1000));
        assert_eq!(seen.page(&other).unwrap().body(), &*"B".repeat(1000));
        for foreign in [pickle(11, 1000), pickle(10, 999), stored.slice(1..)] {
            assert!(seen.page(&foreign).is_none());
        }
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
