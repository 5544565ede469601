//! Stored pages, and how they are written.

pub(crate) mod entry;
pub(crate) mod format;
pub(crate) mod stored;
