//! What a stored page carries so that purges find it.

use super::position::Position;
use super::tags::Tags;

/// Since when a page is, and by what it is purged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    pub(crate) since: Since,
    /// Its URL, as [`super::url_of`] writes it.
    pub(crate) url: Box<str>,
    pub(crate) tags: Tags,
}

/// The purges before this are older than a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Since {
    /// A place in the log that was read before the origin was asked.
    Position(Position),
    /// Seconds since 1970, for pages that Django wrote.
    Time(u64),
}

impl Stamp {
    /// The memory that it holds, besides itself, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.url.len() + self.tags.text().len()
    }
}
