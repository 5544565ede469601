//! Stored pages and their formats.

pub(crate) mod entry;
pub(crate) mod etag;
pub(crate) mod format;
pub(crate) mod forms;
pub(crate) mod head;
pub(crate) mod stored;
