//! The marker of a page that varies: the names of the headers, stored under the page's base key.

use std::fmt;

use hyper::header::HeaderName;

use crate::policy::VaryList;
use crate::weight;

/// The names of the headers that the variants of a page vary on, stored under its base key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VaryMarker {
    Path(PathMarker),
    Django(Vec<String>),
}

/// The marker of a page that varies: the names of the headers, and a nonce. Each new marker has a new nonce, so that
/// deleting the marker makes all its variants unreachable at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathMarker {
    pub(crate) nonce: String,
    pub(crate) vary: VaryList,
}

impl PathMarker {
    const START: &'static str = "cachepage/1 vary ";

    /// Makes a marker. No other marker may have this nonce.
    pub(crate) fn new(vary: VaryList, nonce: u128) -> Self {
        Self { nonce: format!("{nonce:032x}"), vary }
    }

    /// `cachepage/1 vary NONCE accept,cookie` and a line feed, so that a truncated marker is recognised.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let names = self.vary.names().iter().map(HeaderName::as_str).collect::<Vec<_>>().join(",");
        format!("{}{} {names}\n", Self::START, self.nonce).into_bytes()
    }

    /// `None` for anything that `encode` did not write.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        // The start is checked first: most values here are pages, which are not worth reading whole.
        let text = value.strip_prefix(Self::START.as_bytes())?.strip_suffix(b"\n")?;
        let text = std::str::from_utf8(text).ok()?;
        let (nonce, names) = text.split_once(' ')?;
        let is_nonce = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        let names: Result<Vec<_>, _> =
            names.split(',').map(|name| HeaderName::from_bytes(name.as_bytes())).collect();
        let vary = VaryList::from_names(names.ok()?).ok()?;
        is_nonce.then(|| Self { nonce: nonce.to_owned(), vary })
    }
}

impl VaryMarker {
    /// The memory that it holds in an `Arc`, in bytes.
    pub(crate) fn size(&self) -> usize {
        let held = match self {
            Self::Path(marker) => {
                let names = marker.vary.names();
                let texts = names.iter().map(|name| weight::shared(name.as_str().len())).sum::<usize>();
                weight::block(marker.nonce.len()) + weight::block(size_of_val(names)) + texts
            }
            Self::Django(list) => {
                let texts = list.iter().map(|name| weight::block(name.len())).sum::<usize>();
                weight::block(size_of_val(&list[..])) + texts
            }
        };
        weight::counted(size_of::<Self>()) + held
    }
}

impl fmt::Display for VaryMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(marker) => {
                let names: Vec<_> = marker.vary.names().iter().map(|name| name.as_str()).collect();
                f.write_str(&names.join(", "))
            }
            Self::Django(list) if list.is_empty() => f.write_str("nothing"),
            Self::Django(list) => f.write_str(&list.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_nothing_else_does() {
        let names = ["accept", "cookie"].map(HeaderName::from_static).to_vec();
        let marker = PathMarker::new(VaryList::from_names(names).unwrap(), 7);
        let encoded = marker.encode();
        assert_eq!(PathMarker::decode(&encoded), Some(marker.clone()));
        assert_ne!(PathMarker::new(marker.vary.clone(), 8).nonce, marker.nonce);
        for end in 0..encoded.len() {
            assert_eq!(PathMarker::decode(&encoded[..end]), None, "{end}");
        }
        for foreign in
            [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"\x80\x05]\x94.", b"cachepage/1 vary x accept\n", b"\xff"]
        {
            assert_eq!(PathMarker::decode(foreign), None);
        }
    }
}
