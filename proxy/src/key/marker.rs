//! The marker of a page that varies: names what selects the variants. It is stored under the page's base key.

use std::fmt;

use hyper::header::HeaderName;

use crate::policy::{SearchVariance, Variance, VaryList};
use crate::weight;

/// The marker of a page that varies. It is stored under the base key, and names what selects the variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VaryMarker {
    Path(PathMarker),
    Django(Vec<String>),
}

/// The headers and parameters that select the variants of a page, and a nonce. Each new marker has a new nonce, so that deleting the marker makes all
/// its variants unreachable at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathMarker {
    pub(crate) nonce: String,
    pub(crate) variance: Variance,
}

impl PathMarker {
    const START: &'static str = "cachepage/1 vary ";

    /// Makes a marker. No other marker may have this nonce.
    pub(crate) fn new(variance: Variance, nonce: u128) -> Self {
        Self { nonce: format!("{nonce:032x}"), variance }
    }

    /// The text is `cachepage/1 vary NONCE accept,cookie`, and a line feed, so that a truncated marker is recognised. If the
    /// page has a `No-Vary-Search`, it stands before this, with a blank between.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Variance { vary, search } = &self.variance;
        let names = vary.names().iter().map(HeaderName::as_str).collect::<Vec<_>>().join(",");
        let search = if search.is_default() { String::new() } else { format!(" {search}") };
        format!("{}{} {names}{search}\n", Self::START, self.nonce).into_bytes()
    }

    /// `None` for anything that `encode` did not write.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        // The start is checked first: most values here are pages, which are not worth reading whole.
        let text = value.strip_prefix(Self::START.as_bytes())?.strip_suffix(b"\n")?;
        let text = std::str::from_utf8(text).ok()?;
        let (nonce, text) = text.split_once(' ')?;
        let is_nonce = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (names, search) = match text.split_once(' ') {
            Some((names, field)) => (names, SearchVariance::parse(field.as_bytes())?),
            None => (text, SearchVariance::default()),
        };
        let names = names.split(',').filter(|name| !name.is_empty());
        let names: Result<Vec<_>, _> = names.map(|name| HeaderName::from_bytes(name.as_bytes())).collect();
        let variance = Variance { vary: VaryList::from_names(names.ok()?).ok()?, search };
        (is_nonce && !variance.is_none()).then(|| Self { nonce: nonce.to_owned(), variance })
    }
}

impl VaryMarker {
    /// Whether lookups with other queries find it, too.
    pub(super) fn is_for_queries(&self) -> bool {
        matches!(self, Self::Path(marker) if !marker.variance.search.is_default())
    }

    /// Whether headers select among the variants.
    pub(crate) fn has_headers(&self) -> bool {
        match self {
            Self::Path(marker) => !marker.variance.vary.is_empty(),
            Self::Django(_) => true,
        }
    }

    /// The memory of it in an `Arc`, in bytes.
    pub(crate) fn size(&self) -> usize {
        let held = match self {
            Self::Path(marker) => {
                let names = marker.variance.vary.names();
                let texts = names.iter().map(|name| weight::shared(name.as_str().len())).sum::<usize>();
                let headers = weight::block(size_of_val(names)) + texts;
                weight::block(marker.nonce.len()) + headers + held(marker.variance.search.names())
            }
            Self::Django(list) => held(list),
        };
        weight::counted(size_of::<Self>()) + held
    }
}

impl fmt::Display for VaryMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(marker) => {
                let Variance { vary, search } = &marker.variance;
                let names = vary.names().iter().map(|name| name.as_str());
                let search = (!search.is_default()).then(|| format!("No-Vary-Search: {search}"));
                let vary = (!vary.is_empty()).then(|| names.collect::<Vec<_>>().join(", "));
                f.write_str(&vary.into_iter().chain(search).collect::<Vec<_>>().join("; "))
            }
            Self::Django(list) if list.is_empty() => f.write_str("nothing"),
            Self::Django(list) => f.write_str(&list.join(", ")),
        }
    }
}

/// The memory of some texts, in bytes.
fn held(texts: &[String]) -> usize {
    weight::block(size_of_val(texts)) + texts.iter().map(|text| weight::block(text.len())).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_nothing_else_does() {
        let names = ["accept", "cookie"].map(HeaderName::from_static).to_vec();
        let vary = VaryList::from_names(names).unwrap();
        let search = SearchVariance::parse(b"key-order, params, except=(\"a b\" \"c,d\")").unwrap();
        for variance in [
            vary.clone().into(),
            Variance { vary, search: search.clone() },
            Variance { vary: VaryList::default(), search },
        ] {
            let marker = PathMarker::new(variance, 7);
            let encoded = marker.encode();
            assert_eq!(PathMarker::decode(&encoded), Some(marker.clone()));
            assert_ne!(PathMarker::new(marker.variance.clone(), 8).nonce, marker.nonce);
            for end in 0..encoded.len() {
                assert_eq!(PathMarker::decode(&encoded[..end]), None, "{end}");
            }
        }
        let nonce = "0".repeat(32);
        for foreign in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"\x80\x05]\x94.",
            b"cachepage/1 vary x accept\n",
            b"\xff",
            format!("cachepage/1 vary {nonce} \n").as_bytes(),
            format!("cachepage/1 vary {nonce}  key-order=1\n").as_bytes(),
        ] {
            assert_eq!(PathMarker::decode(foreign), None, "{}", foreign.escape_ascii());
        }
    }
}
