//! Stored bytes ⇄ entries and markers. A value that cannot be decoded is a miss.

pub(crate) mod http;
mod pickled;

use std::ops::Range;

use bytes::Bytes;

use crate::key::{PathMarker, VaryMarker};
use crate::page::entry::{Entry, Version};
pub use pickled::Pickled;

/// The format of stored values.
#[derive(Clone, Debug)]
pub enum Format {
    /// The HTTP response as text.
    Http,
    /// The pickles of a Django that shares the cache.
    Pickled(Box<Pickled>),
}

/// The value under a base key.
#[expect(clippy::large_enum_variant, reason = "it is matched where it is made")]
pub(crate) enum Base {
    Page(Entry),
    Marker(VaryMarker),
    Unusable,
}

impl Format {
    /// The value of an entry; `None` if the entry cannot be encoded.
    pub(crate) fn encode(&self, entry: &Entry) -> Option<Bytes> {
        match self {
            Self::Http => Some(http::encode(entry)),
            Self::Pickled(pickled) => pickled.encode(entry),
        }
    }

    /// As [`encode`](Self::encode), but also returns the entry. If the format stores content unchanged, the returned entry's
    /// content is a slice of the value. There is no value if the entry cannot be encoded.
    pub(crate) fn encode_in_place(&self, entry: Entry) -> (Option<Bytes>, Entry) {
        match self {
            Self::Http => {
                let (value, entry) = http::encode_in_place(entry);
                (Some(value), entry)
            }
            Self::Pickled(pickled) => (pickled.encode(&entry), entry),
        }
    }

    /// Decodes the entry of a value, if HTTP can send it as it is.
    pub(crate) fn decode(&self, value: &Bytes) -> Option<Entry> {
        let entry = match self {
            Self::Http => http::decode(value),
            Self::Pickled(pickled) => pickled.decode(value),
        };
        entry.filter(Entry::is_sendable)
    }

    /// The beginning of this entry's value, which differs for each version of a page; `None` in a format without versions.
    pub(crate) fn start(&self, entry: &Entry) -> Option<Bytes> {
        match self {
            Self::Http => matches!(entry.version, Some(Version::Number(_))).then(|| http::start(entry)),
            Self::Pickled(_) => None,
        }
    }

    /// Whether pages may be stored past their time. A Django that shares the cache would serve such pages as fresh.
    pub(crate) fn keeps_stale(&self) -> bool {
        matches!(self, Self::Http)
    }

    /// Where the content of an entry is in its value, if the other bytes of the value determine the rest of the entry.
    pub(crate) fn content(&self, value: &Bytes, entry: &Entry) -> Option<Range<usize>> {
        match self {
            Self::Http => Some(value.len().checked_sub(entry.content_length())?..value.len()),
            Self::Pickled(pickled) => pickled.content(value, entry),
        }
    }

    /// The value of a marker.
    pub(crate) fn encode_marker(&self, marker: &VaryMarker) -> Bytes {
        match (marker, self) {
            (VaryMarker::Path(marker), _) => marker.encode().into(),
            (VaryMarker::Django(list), Self::Pickled(pickled)) => pickled.encode_list(list),
            (VaryMarker::Django(list), Self::Http) => crate::pickle::write_list(list),
        }
    }

    /// Decodes a value under a base key. With readable keys it is a page or a marker, with Django's keys only a list.
    pub(crate) fn base(&self, value: &Bytes) -> Base {
        let found = match self {
            Self::Http => PathMarker::decode(value)
                .map(|marker| Base::Marker(VaryMarker::Path(marker)))
                .or_else(|| self.decode(value).map(Base::Page)),
            Self::Pickled(pickled) => {
                pickled.decode_list(value).map(|list| Base::Marker(VaryMarker::Django(list)))
            }
        };
        found.unwrap_or(Base::Unusable)
    }
}
