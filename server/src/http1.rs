//! HTTP/1.1 with clients.

pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod farewell;
pub(crate) mod front;
pub(crate) mod guard;
pub(crate) mod head;
pub(crate) mod inlet;
pub(crate) mod rest;
pub(crate) mod scan;
pub(crate) mod socket;
pub(crate) mod target;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tunnel;
pub(crate) mod writer;
