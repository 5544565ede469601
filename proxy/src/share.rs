//! Simultaneous requests for one page share one fetch: in a process, and in a fleet.

pub(crate) mod flights;
pub(crate) mod lease;
pub(crate) mod waiters;
