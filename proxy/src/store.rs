//! Where pages are kept: bytes under keys, locks, and the feed of what changes.

mod breaker;
mod feed;
mod memory;
mod redis;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::key::Key;

pub use feed::Listener;
pub use memory::MemoryStore;
pub use redis::RedisStore;

/// All that a proxy needs of a store. None of its operations takes longer than the store's own deadline.
pub trait Store: Values + Locks + Feed + Clone + 'static {
    /// Makes the calling worker's connection, if there is one to make, so that the first request does not wait for it.
    fn connect(&self) -> impl Future<Output = ()> + Send;
}

/// Values that end by themselves. One suite tests this contract for each store:
/// * `get` answers in the order of the keys; what was never put, was deleted, or is past its time is `None`.
/// * `ttl` says how long `get` will still give the value.
/// * `put` does all its writes for one lifetime; a later write wins.
/// * A failure never leaves half a value.
pub trait Values: Send + Sync {
    /// Whether reads are answered without waiting.
    const IS_IMMEDIATE: bool = false;

    /// Reads some keys in one round trip.
    fn get<const N: usize>(
        &self,
        keys: [&[u8]; N],
    ) -> impl Future<Output = Result<[Option<Bytes>; N], StoreError>> + Send;

    /// The time that a key has left; `None` if it is not there or stays for ever.
    fn ttl(&self, key: &[u8]) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;

    /// Writes in one round trip. `ttl` is in whole seconds, at least one.
    fn put(&self, writes: Vec<Write>, ttl: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes keys in one round trip.
    fn delete(&self, keys: &[Key]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Locks by tokens. Of several that `claim` a key one succeeds, and only its token renews or releases the lock.
pub trait Locks: Send + Sync {
    /// Puts a token under a key if there is nothing; whether it did.
    fn claim(
        &self,
        key: &Key,
        token: &Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives a token that is still under its key a new lifetime; whether it was there.
    fn renew(
        &self,
        key: &Key,
        token: &Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes a token that is still under its key; whether it was there.
    fn release(&self, key: &Key, token: &Bytes) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The changes of a store as they happen.
pub trait Feed: Send + Sync {
    /// Tells the listeners of the changes of all keys with this prefix from now on. Whether the store tells of changes; a
    /// store has one proxy, so that only the first call counts.
    fn follow(&self, prefix: &[u8], listeners: Vec<Arc<dyn Listener>>) -> bool;
}

/// One change of a store.
#[derive(Clone, Debug)]
pub enum Write {
    /// Puts a value under a key, whatever was there.
    Set(Key, Bytes),
    /// Gives what is under a key the new lifetime, if it is still there.
    Extend(Key),
}

impl Write {
    /// What it changes.
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Set(key, _) | Self::Extend(key) => key,
        }
    }
}

/// Why a store did not answer as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// No answer within the deadline.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The store answered, and it was a refusal: another type at the key, read-only, out of memory, loading.
    #[error("the store refused: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether asking again at once would be in vain.
    pub(crate) fn is_outage(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}
