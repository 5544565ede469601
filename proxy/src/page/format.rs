//! Stored bytes ⇄ entries and markers. What cannot be read is `None` or unusable, and so a miss.

pub(crate) mod http;
mod pickled;

use bytes::Bytes;

use crate::key::{self, Marker};
use crate::page::entry::Entry;
pub use pickled::Pickled;

/// How values are written.
#[derive(Clone, Debug)]
pub enum Format {
    /// The HTTP response as text.
    Http,
    /// The pickles of a Django that shares the cache.
    Pickled(Box<Pickled>),
}

/// What lies under a base key.
pub(crate) enum Base {
    Page(Entry),
    Marker(Marker),
    Unusable,
}

impl Format {
    /// The value of an entry; `None` if it cannot have one.
    pub(crate) fn encode(&self, entry: &Entry) -> Option<Bytes> {
        match self {
            Self::Http => Some(http::encode(entry)),
            Self::Pickled(pickled) => pickled.encode(entry),
        }
    }

    /// The entry of a value.
    pub(crate) fn decode(&self, value: &Bytes) -> Option<Entry> {
        match self {
            Self::Http => http::decode(value),
            Self::Pickled(pickled) => pickled.decode(value),
        }
    }

    /// What comes before the body in a value, where the one is text and the other lies in it as it is.
    pub(crate) fn head<'a>(&self, value: &'a Bytes, entry: &Entry) -> Option<&'a [u8]> {
        match self {
            Self::Http => value.get(..value.len().checked_sub(entry.body.len())?),
            Self::Pickled(_) => None,
        }
    }

    /// The value of a marker.
    pub(crate) fn encode_marker(&self, marker: &Marker) -> Bytes {
        match (marker, self) {
            (Marker::Path(marker), _) => marker.encode().into(),
            (Marker::Django(list), Self::Pickled(pickled)) => pickled.encode_list(list),
            (Marker::Django(list), Self::Http) => crate::pickle::write_list(list),
        }
    }

    /// What a value under a base key is: with readable keys the page itself or its marker, with Django's a list only.
    pub(crate) fn base(&self, value: &Bytes) -> Base {
        let found = match self {
            Self::Http => key::PathMarker::decode(value)
                .map(|marker| Base::Marker(Marker::Path(marker)))
                .or_else(|| http::decode(value).map(Base::Page)),
            Self::Pickled(pickled) => {
                pickled.decode_list(value).map(|list| Base::Marker(Marker::Django(list)))
            }
        };
        found.unwrap_or(Base::Unusable)
    }
}

/// The name of a header in the case that people write: `Content-Type`.
pub(crate) fn title_case(name: &str) -> impl Iterator<Item = u8> {
    let mut at_word = true;
    name.bytes().map(move |byte| {
        let cased = if at_word { byte.to_ascii_uppercase() } else { byte };
        at_word = byte == b'-';
        cased
    })
}

/// Appends a header line as people write it, with its end.
pub(crate) fn push_line(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    text.extend(title_case(name));
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}
