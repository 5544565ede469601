//! What was last seen under a key: guesses that save work, and are compared with what the store says at each use.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;

use crate::entry::{Entry, Head, Ready};
use crate::format::Format;
use crate::key::{Key, Marker};

/// How many keys are remembered, some hundred bytes each, or as much as the head of the page.
const KEYS: usize = 10_000;

/// The last seen of each key.
#[derive(Debug)]
pub(crate) struct Known(Cache<Key, Seen>);

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// The marker of a page that varies: it and the variant are then asked for in one round trip.
    Marker(Arc<Marker>),
    /// The head of a page: while the stored text begins the same, it need not be read again.
    Head(Arc<Text>),
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
        Self(Cache::new(KEYS))
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
