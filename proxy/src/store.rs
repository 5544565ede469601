//! Where pages are kept.

mod breaker;
mod feed;
mod memory;
mod redis;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::key::Key;
use crate::near::Near;

pub use memory::MemoryStore;
pub use redis::RedisStore;

/// A store of values that end by themselves.
///
/// The contract, which one suite tests for each store:
/// * `get` answers in the order of the keys; what was never put, was deleted, or is past its time is `None`.
/// * `ttl` says how long `get` will still give the value.
/// * Of several who `claim` a key one succeeds; only who has the token can `hold` it.
/// * `put` does all its writes for one lifetime; a later write wins.
/// * Neither takes longer than the store's own deadline. A failure never leaves half a value.
pub trait Store: Clone + Send + Sync + 'static {
    /// Reads some keys in one round trip.
    fn get<const N: usize>(
        &self,
        keys: [&Key; N],
    ) -> impl Future<Output = Result<[Option<Bytes>; N], StoreError>> + Send;

    /// The seconds that a key has left; `None` if it is not there or stays for ever.
    fn ttl(&self, key: &Key) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;

    /// Puts a token under a key if there is nothing; whether it did.
    fn claim(
        &self,
        key: &Key,
        token: &Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives a token that is still under its key a new lifetime, or removes it; whether it was there.
    fn hold(
        &self,
        key: &Key,
        token: &Bytes,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Makes the calling worker's connection, if there is one to make, so that the first request does not wait for it.
    fn connect(&self) -> impl Future<Output = ()> + Send;

    /// Hears of the changes of all keys with this prefix from now on, if the store tells of them: for
    /// [`changed`](Self::changed), and for a near cache of at most so many bytes, if one is wanted.
    fn follow(&self, prefix: &[u8], near: Option<u64>) -> Option<Arc<Near>>;

    /// Ends when a key has changed after this call, or may have; never, while the store does not tell of changes.
    fn changed(&self, key: &Key) -> impl Future<Output = ()> + Send + use<Self>;

    /// Writes in one round trip. `ttl` is in whole seconds, at least one.
    fn put(&self, writes: Vec<Write>, ttl: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;
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
