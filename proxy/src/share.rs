//! Many requests for one page made one.

pub(crate) mod flights;
pub(crate) mod lease;
pub(crate) mod waiters;
