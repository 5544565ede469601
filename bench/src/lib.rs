//! The laboratory: what shows that the cache is worth it, and what the tests of all programs run on.
//!
//! * [`stack`] finds or starts PostgreSQL and Redis.

pub mod stack;
