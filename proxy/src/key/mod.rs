//! Keys: what names a page in the store. A key is a pure function of the request, the rule and the vary list.

mod path;
mod selection;

use hyper::header::HeaderMap;
use hyper::http::request::Parts;

pub use path::Key;
pub(crate) use path::Marker;
use path::page_key;
use selection::Selection;

use crate::policy::Rule;
use crate::site::Site;

/// A page, as it is asked for: where it lies, and what it must have been stored for.
#[derive(Clone, Debug)]
pub(crate) struct Page<'a> {
    pub(crate) key: Key,
    pub(crate) rule: &'a Rule,
    path: &'a str,
    selection: Selection,
}

impl<'a> Page<'a> {
    /// The page that the request alone names.
    pub(crate) fn of(request: &'a Parts, rule: &'a Rule, site: &Site) -> Self {
        Self::new(rule, request.uri.path(), Selection::of(request, rule, site))
    }

    /// The variant of this page for the headers of a request.
    pub(crate) fn variant(&self, marker: &Marker, headers: &HeaderMap) -> Self {
        Self::new(self.rule, self.path, self.selection.variant(marker, headers))
    }

    fn new(rule: &'a Rule, path: &'a str, selection: Selection) -> Self {
        Self { key: page_key(rule, path, &selection), rule, path, selection }
    }

    /// What is stored with an entry and compared on a hit; empty if the path alone selects the page.
    pub(crate) fn proof(&self) -> bytes::Bytes {
        if self.selection.is_empty() {
            return bytes::Bytes::new();
        }
        bytes::Bytes::copy_from_slice(&self.selection.proof())
    }
}
