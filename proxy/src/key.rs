//! Keys name pages in the store. A key is a pure function of the request, the rule and the vary list.
//!
//! There are two schemes: the readable keys of the article (`path`) and those of real Django (`django`). In both, the
//! proxy learns what a page varies on when it first fetches the page. The names of those headers are therefore stored
//! too: a [`VaryMarker`], under the base key, which the request alone gives.

mod django;
mod marker;
mod path;

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap};
use md5::{Digest as _, Md5};
use serde::Serialize;

pub(crate) use django::is_usable;
pub use django::{Django, Generation, Language, Locale};
pub(crate) use marker::{PathMarker, VaryMarker};
pub use path::Key;
pub(crate) use path::KeyText;
use path::{Selection, page_key, variant_key};

use crate::policy::{self, CachePolicy, Rule, Variance};
use crate::request::Question;
use crate::request::site::Site;
use crate::text::hex;

/// How keys are made.
#[derive(Clone, Debug)]
pub enum Keys {
    /// The readable key of the article.
    Path(Placement),
    /// The keys of a Django that shares the cache.
    Django(Arc<Django>),
}

/// Where the variants of a page are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Under keys that differ from the page's key in the digest only.
    Anywhere,
    /// Under keys that share the slot of the page's key in a cluster, so that one command reads marker and variant.
    OneSlot,
}

/// The identity of a page: its key, and the request that it must have been stored for.
#[derive(Clone, Debug)]
pub(crate) struct PageId {
    key: KeyText,
    identity: Identity,
}

#[derive(Clone, Debug)]
enum Identity {
    Path(Selection, Placement),
    Django(Arc<django::DjangoId>),
}

/// A text whose md5 is part of a key, for `explain`.
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

/// Where an admitted page is stored.
pub(crate) struct Destination {
    pub(crate) id: PageId,
    /// The marker that leads to it, if the page is a variant.
    pub(crate) marker: Option<MarkerWrite>,
    /// Where the page was until now, if it would still be found there.
    pub(crate) left: Option<Key>,
}

/// How a marker is written under each of its keys.
pub(crate) struct MarkerWrite {
    pub(crate) keys: Vec<Key>,
    /// `None`: the stored marker only gets a new lifetime. If it was deleted meanwhile, it stays deleted.
    pub(crate) new: Option<VaryMarker>,
    /// The key for all variants that differ by headers alone, if headers select.
    pub(crate) variants: Option<Key>,
}

impl Keys {
    /// The prefixes of the keys of all pages and markers. Keys of pages without variants begin with the first prefix.
    pub(crate) fn prefixes(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Path(Placement::Anywhere) => vec![path::START.to_vec()],
            Self::Path(Placement::OneSlot) => vec![path::START.to_vec(), [b"{", path::START].concat()],
            Self::Django(django) => vec![django.prefix()],
        }
    }

    /// The value of the setting `keys`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Django(_) => "django",
        }
    }
}

impl PageId {
    /// The page that the request alone names, under its base key.
    pub(crate) fn of(question: &Question<'_>, rule: &Rule, keys: &Keys, site: &Site) -> Self {
        match keys {
            Keys::Path(placement) => {
                let selection = Selection::of(question, rule, site);
                let key = page_key(rule, question.page_method(), question.path, &selection);
                Self { key, identity: Identity::Path(selection, *placement) }
            }
            Keys::Django(django) => {
                let id = django::DjangoId::of(question, rule, django);
                Self { key: id.header_key(rule), identity: Identity::Django(Arc::new(id)) }
            }
        }
    }

    /// The bytes of the key.
    pub(crate) fn key_text(&self) -> &[u8] {
        &self.key
    }

    /// The key.
    pub(crate) fn key(&self) -> Key {
        Key::from(&self.key[..])
    }

    /// Where the marker for all queries of the path is stored (`No-Vary-Search`). It counts under HTTP's policy, with readable
    /// keys.
    pub(crate) fn of_path(&self, rule: &Rule) -> Option<Self> {
        match &self.identity {
            Identity::Path(selection, placement) if rule.policy != CachePolicy::Django => {
                let selection = selection.of_path();
                let key = variant_key(&self.key, &selection, Placement::Anywhere);
                Some(Self { key, identity: Identity::Path(selection, *placement) })
            }
            _ => None,
        }
    }

    /// The page under this key or, if a marker lies there, the one that it selects.
    pub(crate) fn selected(&self, marker: Option<&VaryMarker>, question: &Question<'_>, rule: &Rule) -> Self {
        marker.map_or_else(|| self.clone(), |marker| self.variant(marker, question, rule))
    }

    /// The variant of this page for a request.
    pub(crate) fn variant(&self, marker: &VaryMarker, question: &Question<'_>, rule: &Rule) -> Self {
        match (&self.identity, marker) {
            (Identity::Path(selection, placement), VaryMarker::Path(marker)) => {
                let selection = selection.variant(marker, question, rule);
                let of_path = if marker.variance.search.is_default() { None } else { self.of_path(rule) };
                let base = of_path.as_ref().unwrap_or(self);
                let key = variant_key(&base.key, &selection, *placement);
                Self { key, identity: Identity::Path(selection, *placement) }
            }
            (Identity::Django(id), VaryMarker::Django(list)) => {
                let key = id.page_key(rule, "GET", list, question.lines);
                Self { key, identity: self.identity.clone() }
            }
            // Unreachable: a page and its markers belong to the same scheme.
            _ => self.clone(),
        }
    }

    /// The texts whose digests are in this key. `marker` led to this key.
    pub(crate) fn hashed(&self, marker: Option<&VaryMarker>, question: &Question<'_>) -> Vec<Hashed> {
        match (&self.identity, marker) {
            (Identity::Path(selection, _), _) => vec![Hashed::new("selection", selection.as_bytes())],
            (Identity::Django(id), Some(VaryMarker::Django(list))) => id.hashed(Some(list), question.lines),
            (Identity::Django(id), _) => id.hashed(None, question.lines),
        }
    }

    /// The place for this page, which answers other requests as `variance` says. `known` is the marker that the lookup found.
    /// `nonce` returns a number that no other marker has.
    pub(crate) fn destination(
        self,
        known: Option<&VaryMarker>,
        variance: &Variance,
        page: &HeaderMap,
        (question, rule): (&Question<'_>, &Rule),
        nonce: impl FnOnce() -> u128,
    ) -> Destination {
        let until_now = known.map(|known| (known, self.variant(known, question, rule)));
        let left = until_now.as_ref().filter(|(known, _)| known.is_for_queries()).map(|(_, id)| id.key());
        let left = |id: &Self| left.filter(|left| left.as_bytes() != id.key_text());
        let new = match (&self.identity, until_now) {
            (Identity::Path(..), _) if variance.is_none() => {
                return Destination { left: left(&self), id: self, marker: None };
            }
            (Identity::Path(..), Some((VaryMarker::Path(path), id))) if path.variance == *variance => {
                let marker = self.marker_write(variance, None, question, rule);
                return Destination { id, marker: Some(marker), left: None };
            }
            (Identity::Path(..), _) => VaryMarker::Path(PathMarker::new(variance.clone(), nonce())),
            // Django writes its list with each page, and the list of the last page counts.
            (Identity::Django(id), _) => VaryMarker::Django(id.header_list(page).unwrap_or_default()),
        };
        let id = self.variant(&new, question, rule);
        let marker = self.marker_write(variance, Some(new), question, rule);
        Destination { left: left(&id), id, marker: Some(marker) }
    }

    /// The write of a marker with this variance.
    fn marker_write(
        &self,
        Variance { vary, search }: &Variance,
        new: Option<VaryMarker>,
        question: &Question<'_>,
        rule: &Rule,
    ) -> MarkerWrite {
        let of_path = if search.is_default() { None } else { self.of_path(rule) };
        let variants = match &self.identity {
            Identity::Path(selection, _) => {
                let selection = selection.searched(search, question.query);
                // The page's own digest depends on parameters that do not select, so it is not part of this key.
                let key = || variant_key(&self.key, &selection, Placement::Anywhere);
                (!vary.is_empty()).then(|| Key::from(&key()[..]))
            }
            Identity::Django(_) => Some(self.key()),
        };
        let keys = [Some(self.key()), of_path.map(|id| id.key())].into_iter().flatten().collect();
        MarkerWrite { keys, new, variants }
    }

    /// Whether the page found under this key may answer the request. Its proof must match (pages that Django wrote have
    /// none), and `Authorization` must allow it.
    pub(crate) fn serves(
        &self,
        proof: Option<&[u8]>,
        page: &HeaderMap,
        question: &Question<'_>,
        rule: &Rule,
    ) -> bool {
        let is_same = proof.is_none_or(|proof| self.is_proved(proof, page, question));
        // A page that Django wrote is kept apart by credentials only if its `Vary` names them.
        let is_apart = proof.is_some() || policy::varies_on(page, &AUTHORIZATION);
        is_same && rule.serves(question.lines, page, is_apart)
    }

    /// Adds the headers that Django's `LocaleMiddleware` adds on each hit, to a page that Django wrote.
    pub(crate) fn add_language(&self, page: &mut HeaderMap) {
        if let Identity::Django(id) = &self.identity {
            id.add_language(page);
        }
    }

    /// The proof is stored with an entry and compared on a hit: a store may mix up its answers, and md5 digests collide.
    pub(crate) fn proof(&self, page: &HeaderMap, question: &Question<'_>) -> Bytes {
        match &self.identity {
            Identity::Path(selection, _) if selection.is_empty() => Bytes::copy_from_slice(&self.key),
            Identity::Path(selection, _) => {
                [&self.key[..], b" ", &selection.digests().sha256].concat().into()
            }
            Identity::Django(id) => Bytes::copy_from_slice(&id.proof(page, question.lines)),
        }
    }

    /// Whether this is the proof of this page.
    fn is_proved(&self, proof: &[u8], page: &HeaderMap, question: &Question<'_>) -> bool {
        match &self.identity {
            Identity::Path(selection, _) => match proof.strip_prefix(&self.key[..]) {
                Some(b"") => selection.is_empty(),
                Some([b' ', digest @ ..]) => *digest == selection.digests().sha256,
                _ => false,
            },
            Identity::Django(id) => *proof == id.proof(page, question.lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{SearchVariance, VaryList};

    #[test]
    fn queries_that_share_a_page_share_the_count_of_its_variants_wherever_these_are() {
        let (headers, rule) = (HeaderMap::new(), Rule::new("/p/*", 60).unwrap());
        let vary = VaryList::from_names(vec![hyper::header::ACCEPT]).unwrap();
        let search = SearchVariance::parse(b"params=(\"a\")").unwrap();
        let variance = Variance { vary, search };
        for placement in [Placement::Anywhere, Placement::OneSlot] {
            let counted = |query| {
                let question = Question::get("/p/", query, &headers);
                let id = PageId::of(&question, &rule, &Keys::Path(placement), &Site::localhost(8000));
                let to = id.destination(None, &variance, &headers, (&question, &rule), || 1);
                to.marker.unwrap().variants.unwrap()
            };
            assert_eq!(counted("id=1&a=1"), counted("a=2&id=1"), "{placement:?}");
            assert_ne!(counted("id=1"), counted("id=2"), "{placement:?}");
        }
    }
}
