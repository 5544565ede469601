//! The stamp of a stored page, by which purges find it.

use hyper::header::{HeaderMap, HeaderName};

use super::position::Position;
use super::tags::{Tags, groups};

const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// The place in the log from which purges count for a page, and the names by which they find it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    pub(crate) since: Since,
    /// Its URL, as [`super::url_of`] writes it.
    pub(crate) url: Box<str>,
    pub(crate) tags: Tags,
}

/// Where purges begin to count for a page. Earlier purges are older than the page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Since {
    /// A place in the log that was read before the origin was asked.
    Position(Position),
    /// Seconds since 1970, for pages that Django wrote.
    Time(u64),
}

/// The names of a page, besides those in its stamp, by which purges find it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct PurgeNames {
    /// Its groups (RFC 9875).
    pub(crate) groups: Vec<String>,
    /// Whether it may answer requests with other queries than that of its URL. Then a purge of any query of its path names it.
    pub(crate) has_queries: bool,
}

impl PurgeNames {
    /// The names in the headers of a page.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self { groups: groups(headers), has_queries: headers.contains_key(NO_VARY_SEARCH) }
    }
}

impl Stamp {
    /// The memory that it holds, besides itself, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.url.len() + self.tags.text().len()
    }
}
