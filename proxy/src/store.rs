//! The store: bytes under keys, locks, a feed of changes, and the purge log.

mod breaker;
mod feed;
mod held_lock;
mod log_copy;
mod marks;
mod memory;
mod recent_purges;
mod redis;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::histogram::Durations;
use crate::key::Key;
use crate::purge::{LoggedPurge, Purge, PurgeId};

/// The memory that a short value may hold by being a slice of it.
pub(crate) const SHARED_MEMORY: usize = 64 << 10;

pub(crate) use feed::Certainty;
pub use feed::{Listener, NodeNumber};
pub(crate) use held_lock::HeldLock;
pub use log_copy::{LogCopy, PurgeLogSettings};
pub(crate) use marks::Verdict;
pub use memory::MemoryStore;
#[cfg(any(test, fuzzing))]
pub(crate) use redis::replies_in;
pub use redis::{RedisKind, RedisOptions, RedisSettings, RedisStore};

/// The operations that a proxy needs from a store. Each ends within the store's own deadline.
pub trait Store: Values + Locks + Feed + PurgeLog + Clone + 'static {
    /// Connects the calling worker, if the store needs connections, so that the first request does not wait for that.
    fn connect(&self) -> impl Future<Output = ()> + Send;

    /// Tries each command that the proxy needs, on a key under each of these prefixes, without changing anything. Returns the
    /// commands that the store has refused so far.
    fn refusals(&self, _prefixes: &[Vec<u8>]) -> impl Future<Output = Vec<RefusedCommand>> + Send {
        async { Vec::new() }
    }

    /// Whether it answers, as far as is known.
    fn is_up(&self) -> bool {
        true
    }

    /// Counts operations from now on, if the store is reached over a connection.
    fn count_operations(&self) {}

    /// The counts of each operation.
    fn operations(&self) -> Vec<OperationTotals> {
        Vec::new()
    }

    /// How many values were dropped to make room, if this process is the store.
    fn evictions(&self) -> u64 {
        0
    }

    /// Its nodes, as far as they are known.
    fn nodes(&self) -> Vec<NodeState> {
        Vec::new()
    }
}

/// A node of a store, for operators.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Where it is.
    pub address: String,
    /// `primary` or `replica`.
    pub role: &'static str,
    /// Whether it answers, as far as is known.
    pub is_up: bool,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationEnd {
    Ok,
    /// None of the keys has a value.
    Miss,
    /// The store answered with an error, or the value is longer than any page.
    Refused,
    /// No answer came in time.
    Deadline,
    /// There was no connection, or it broke, or the store is skipped since it fails.
    Down,
}

impl OperationEnd {
    pub(crate) const ALL: [Self; 5] = [Self::Ok, Self::Miss, Self::Refused, Self::Deadline, Self::Down];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Miss => "miss",
            Self::Refused => "refused",
            Self::Deadline => "deadline",
            Self::Down => "down",
        }
    }
}

/// The counts of an operation, summed over all workers.
#[derive(Clone, Debug, Default)]
pub struct OperationTotals {
    pub(crate) name: &'static str,
    /// In the order of [`OperationEnd::ALL`].
    pub(crate) ends: [u64; OperationEnd::ALL.len()],
    pub(crate) durations: Durations,
}

/// A command that a store refuses.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{command}: {reply}")]
pub struct RefusedCommand {
    /// Its name.
    pub command: &'static str,
    /// The reply of the store.
    pub reply: String,
}

/// Values that expire. One test suite checks this contract for each store:
/// * `get` returns the values in the order of the keys; one that was never put, was deleted or has expired is `None`.
/// * `ttl` says how long `get` will still return the value.
/// * `put` gives all its writes the same lifetime; the last write to a key wins.
/// * A failure never leaves half a value.
pub trait Values: Send + Sync {
    /// Whether reads are answered without waiting.
    const IS_IMMEDIATE: bool = false;

    /// Reads some keys in one round trip.
    fn get<const N: usize>(
        &self,
        keys: [&[u8]; N],
    ) -> impl Future<Output = Result<[Option<Bytes>; N], StoreError>> + Send;

    /// The time that a key has left; `None` if it does not exist or does not expire.
    fn ttl(&self, key: &[u8]) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;

    /// Writes in one round trip. `ttl` counts in whole seconds, at least one.
    fn put(&self, writes: Vec<Write>, ttl: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces a value that begins with `start`, in one step. Returns whether it did. Any other value stays, and a key
    /// without a value stays so.
    fn replace(
        &self,
        key: &Key,
        start: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Whether a write to this key would be taken, as far as is known.
    fn takes_writes(&self, _key: &Key) -> bool {
        true
    }

    /// Deletes keys in one round trip.
    fn delete(&self, keys: &[Key]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Locks by token. One of several simultaneous claims of a key succeeds, and only its token renews or releases the lock.
pub trait Locks: Send + Sync {
    /// Puts a token under a key without a value. Returns whether it did.
    fn claim(
        &self,
        key: &Key,
        token: &Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives the lock a new lifetime, if its token is still there. Returns whether it was.
    fn renew(
        &self,
        key: &Key,
        token: &Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes the lock, if its token is still there. Returns whether it was.
    fn release(&self, key: &Key, token: &Bytes) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Reports the changes of a store as they happen.
pub trait Feed: Send + Sync {
    /// From now on reports changes of all keys with one of these prefixes to the listeners. Returns whether the store can report
    /// changes. A store belongs to one proxy, so only the first call has an effect.
    fn follow(&self, prefixes: &[Vec<u8>], listeners: Vec<Arc<dyn Listener>>) -> bool;

    /// The node that has a key now. When the key moves, the listeners hear that its old node is `lost`.
    fn node_of(&self, _key: &[u8]) -> NodeNumber {
        NodeNumber::default()
    }
}

/// The log of purges, for every proxy that shares the store.
pub trait PurgeLog: Send + Sync {
    /// The copy of the log, which is kept up to date from now on. A store belongs to one proxy, so only the first call has an
    /// effect.
    fn follow_log(&self, prefixes: &[Vec<u8>], settings: PurgeLogSettings) -> Arc<LogCopy>;

    /// Appends a purge, also to the copy. Waits until so many replicas have it. A store without a clock uses `now`.
    fn append(
        &self,
        purge: Purge,
        replicas: u32,
        now: SystemTime,
    ) -> impl Future<Output = Result<PurgeId, StoreError>> + Send;

    /// The purges after an entry, oldest first. Their number is bounded.
    fn purges(&self, after: PurgeId) -> impl Future<Output = Result<Vec<LoggedPurge>, StoreError>> + Send;
}

/// A write to a store.
#[derive(Clone, Debug)]
pub enum Write {
    /// Puts a value under a key, in place of any other.
    Set(Key, Bytes),
    /// Gives the value under a key the new lifetime, if it still exists.
    Extend(Key),
}

impl Write {
    /// The key that is written.
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Set(key, _) | Self::Extend(key) => key,
        }
    }
}

/// Why an operation of a store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no connection, or it broke.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// There was no answer within the deadline.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The store answered with an error: wrong type, read-only, out of memory, loading.
    #[error("the store refused: {0}")]
    Refused(String),
    /// A value is longer than any page can be. It has not been read.
    #[error("the stored value has {0} bytes, more than any page can have")]
    TooLong(usize),
    /// The value arrives too slowly.
    #[error("the stored value comes too slowly")]
    TooSlow,
}

impl StoreError {
    /// Whether the store cannot be reached or is silent. An error reply is an answer, and no outage.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Deadline(_))
    }
}
