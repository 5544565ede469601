//! The stamp of a stored page, by which purges find it.

use hyper::header::{HeaderMap, HeaderName};

use super::position::Position;
use super::tags::{Tags, groups};

const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// From where in the log purges count for a page, and the names by which they find it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    pub(crate) since: Since,
    /// Its URL, as [`super::url_of`] writes it.
    pub(crate) url: Box<str>,
    pub(crate) tags: Tags,
}

/// From here on purges count for a page; those before are older than it.
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
    /// Whether it may answer other queries than that of its URL. Then a purge of any query of its path names it.
    pub(crate) has_queries: bool,
}

impl PurgeNames {
    /// Those that the headers of a page say.
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
