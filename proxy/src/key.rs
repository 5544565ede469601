//! Keys: what names a page in the store. A key is a pure function of the request, the rule and the vary list.
//!
//! There are two schemes, the readable keys of the article (`path`) and those of real Django (`django`). In both, what
//! a page varies on is not known before it was fetched once, so that the names of the headers lie in the store as well:
//! a [`Marker`], under the base key that the request alone gives.

mod django;
mod path;
mod selection;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use md5::Md5;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub(crate) use django::is_usable;
pub use django::{Django, Generation, Language, Locale};
pub use path::Key;
pub(crate) use path::Marker as PathMarker;
use path::{page_key, variant_key};
use selection::Selection;

use crate::page::entry::{Entry, Proved};
use crate::policy::{self, Rule, VaryList};
use crate::request::site::Site;

/// How keys are made.
#[derive(Clone, Debug)]
pub enum Keys {
    /// The readable key of the article.
    Path,
    /// The keys of a Django that shares the cache.
    Django(Arc<Django>),
}

/// A page, as it is asked for: where it lies, and what it must have been stored for.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) key: Key,
    pub(crate) rule: Arc<Rule>,
    identity: Identity,
}

#[derive(Clone, Debug)]
enum Identity {
    Path(Selection),
    Django(Arc<django::Asked>),
}

/// The names of the headers that the pages under a base key vary on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    Path(path::Marker),
    Django(Vec<String>),
}

/// A text whose md5 is in a key, for people.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Hashed {
    pub(crate) of: &'static str,
    pub(crate) text: String,
    pub(crate) md5: String,
}

impl Hashed {
    fn new(of: &'static str, text: &[u8]) -> Self {
        let mut md5 = [0; 32];
        hex(&Md5::digest(text), &mut md5);
        let md5 = String::from_utf8_lossy(&md5).into_owned();
        Self { of, text: String::from_utf8_lossy(text).into_owned(), md5 }
    }
}

/// Where an admitted page goes.
pub(crate) struct Place {
    pub(crate) page: Page,
    /// The marker of the base key, if the page lies under one.
    pub(crate) marker: Option<Placed>,
}

/// A marker on its way into the store.
pub(crate) enum Placed {
    /// Known and only extended, never written again: if it was deleted meanwhile, it stays deleted.
    Extended(Key),
    New(Key, Marker),
}

impl Keys {
    /// What all keys of pages and markers begin with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        match self {
            Self::Path => path::START.to_vec(),
            Self::Django(django) => django.prefix(),
        }
    }
}

impl Marker {
    /// About what it holds, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Path(marker) => marker.nonce.len() + size_of_val(marker.vary.names()),
            Self::Django(list) => list.iter().map(|name| name.len() + size_of::<String>()).sum(),
        }
    }
}

impl Page {
    /// The page that the request alone names: at its base key.
    pub(crate) fn of(request: &Parts, rule: &Arc<Rule>, keys: &Keys, site: &Site) -> Self {
        let (key, identity) = match keys {
            Keys::Path => {
                let selection = Selection::of(request, rule, site);
                (page_key(rule, request.uri.path(), &selection), Identity::Path(selection))
            }
            Keys::Django(django) => {
                let asked = django::Asked::of(request, rule, django);
                (asked.header_key(rule), Identity::Django(Arc::new(asked)))
            }
        };
        Self { key, rule: rule.clone(), identity }
    }

    /// The variant of this page for the headers of a request.
    pub(crate) fn variant(&self, marker: &Marker, headers: &HeaderMap) -> Self {
        match (&self.identity, marker) {
            (Identity::Path(selection), Marker::Path(marker)) => {
                let selection = selection.variant(marker, headers);
                let key = variant_key(&self.key, &selection);
                Self { key, rule: self.rule.clone(), identity: Identity::Path(selection) }
            }
            (Identity::Django(asked), Marker::Django(list)) => {
                let key = asked.page_key(&self.rule, "GET", list, headers);
                Self { key, rule: self.rule.clone(), identity: self.identity.clone() }
            }
            // A page and its markers are of one scheme.
            _ => self.clone(),
        }
    }

    /// What the digests are made of: of the base key, or, with its marker, of a variant's.
    pub(crate) fn hashed(&self, marker: Option<&Marker>, request: &Parts) -> Vec<Hashed> {
        match (&self.identity, marker) {
            (Identity::Path(selection), Some(Marker::Path(marker))) => {
                vec![Hashed::new("selection", &selection.variant(marker, &request.headers).0)]
            }
            (Identity::Path(selection), _) => vec![Hashed::new("selection", &selection.0)],
            (Identity::Django(asked), Some(Marker::Django(list))) => {
                asked.hashed(Some(list), &request.headers)
            }
            (Identity::Django(asked), _) => asked.hashed(None, &request.headers),
        }
    }

    /// Where this page goes, which varies on `vary`, when its base key has the `known` marker.
    pub(crate) fn place(
        self,
        known: Option<&Marker>,
        vary: VaryList,
        page: &HeaderMap,
        request: &HeaderMap,
    ) -> Place {
        let new = match (&self.identity, known) {
            (Identity::Path(_), _) if vary.is_empty() => return Place { page: self, marker: None },
            (Identity::Path(_), Some(marker @ Marker::Path(path))) if path.vary == vary => {
                let page = self.variant(marker, request);
                return Place { page, marker: Some(Placed::Extended(self.key)) };
            }
            (Identity::Path(_), _) => Marker::Path(path::Marker::new(vary)),
            // Django writes its list with each page, so that the list of the last page counts.
            (Identity::Django(asked), _) => Marker::Django(asked.header_list(page).unwrap_or_default()),
        };
        let page = self.variant(&new, request);
        Place { page, marker: Some(Placed::New(self.key, new)) }
    }

    /// Whether an entry found here may answer the request: it was stored for this very request, as far as that can be
    /// known (Django keeps no proof), and it is not for others.
    pub(crate) fn serves(&self, entry: Proved<'_>, request: &Parts) -> bool {
        let is_same = entry.proof.is_none_or(|proof| self.is_proved(proof, entry.headers, request));
        // A page of Django's is told apart by credentials only if it says so.
        let is_apart = entry.proof.is_some() || policy::varies_on_authorization(entry.headers);
        is_same && self.rule.serves(&request.headers, entry.headers, is_apart)
    }

    /// What Django adds outside of `cache_page` by the language of the request, to a page that it has stored itself.
    pub(crate) fn complete(&self, entry: &mut Entry) {
        if let (Identity::Django(asked), None) = (&self.identity, &entry.proof) {
            asked.add_language(&mut entry.headers);
        }
    }

    /// What is stored with an entry and compared on a hit: a store may mix its answers up, and digests collide.
    pub(crate) fn proof(&self, page: &HeaderMap, request: &HeaderMap) -> Bytes {
        match &self.identity {
            Identity::Path(selection) if selection.is_empty() => Bytes::copy_from_slice(self.key.as_bytes()),
            Identity::Path(selection) => [self.key.as_bytes(), b" ", &selection.proof()].concat().into(),
            Identity::Django(asked) => Bytes::copy_from_slice(&asked.proof(page, request)),
        }
    }

    /// Whether that is the proof of this page. Nothing is copied for a page that the path alone selects.
    fn is_proved(&self, proof: &Bytes, page: &HeaderMap, request: &Parts) -> bool {
        match &self.identity {
            Identity::Path(selection) if selection.is_empty() => proof == self.key.as_bytes(),
            _ => *proof == self.proof(page, &request.headers),
        }
    }
}

impl fmt::Display for Marker {
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

fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// A digest that cannot be made to collide, as md5 can. A digest and not the text, which may hold cookies and passwords.
fn sha256_hex(text: &[u8]) -> [u8; 64] {
    let mut digest = [0; 64];
    hex(&Sha256::digest(text), &mut digest);
    digest
}
