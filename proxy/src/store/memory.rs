//! A store in the memory of this process, for use without Redis.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::{Feed, Listener, Locks, Store, StoreError, Values, Write};
use crate::key::Key;
use crate::weight::{self, ByBytes, Shares, Weigh};

/// Pages in memory, up to a limit in bytes; beyond it the least used are evicted.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Cache<Key, TimedValue, ByBytes>>);

#[derive(Clone, Debug)]
struct TimedValue {
    bytes: Bytes,
    expires: Instant,
}

impl Weigh for TimedValue {
    fn weigh(&self) -> usize {
        weight::shared(self.bytes.len())
    }
}

impl MemoryStore {
    /// A store that takes about this many bytes, for values of up to 1 MiB.
    pub fn new(limit: u64) -> Self {
        Self::of_values(limit, 1 << 20)
    }

    /// A store that takes about this many bytes, together with what a proxy keeps beside it, for values of up to
    /// `largest` bytes.
    pub fn of_values(limit: u64, largest: u64) -> Self {
        Self(Arc::new(weight::cache(Shares::of(limit).pages, largest)))
    }

    fn set(&self, key: &Key, bytes: Bytes, ttl: Duration) {
        self.0.insert(key.clone(), TimedValue { bytes, expires: Instant::now() + ttl });
    }

    fn holds(&self, key: &Key, token: &Bytes) -> bool {
        self.fresh(key.as_bytes()).as_ref() == Some(token)
    }

    fn fresh(&self, key: &[u8]) -> Option<Bytes> {
        self.0.get(key).filter(|value| value.expires > Instant::now()).map(|value| value.bytes)
    }
}

impl Store for MemoryStore {
    async fn connect(&self) {}
}

impl Values for MemoryStore {
    const IS_IMMEDIATE: bool = true;

    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        Ok(keys.map(|key| self.fresh(key)))
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        let left = self.0.get(key).map(|value| value.expires.saturating_duration_since(Instant::now()));
        Ok(left.filter(|left| !left.is_zero()))
    }

    async fn put(&self, writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        for write in writes {
            match write {
                Write::Set(key, bytes) => self.set(&key, bytes, ttl),
                Write::Extend(key) => {
                    if let Some(bytes) = self.fresh(key.as_bytes()) {
                        self.set(&key, bytes, ttl);
                    }
                }
            }
        }
        Ok(())
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        keys.iter().for_each(|key| drop(self.0.remove(key)));
        Ok(())
    }
}

/// The locks of a fleet of one: this process.
impl Locks for MemoryStore {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let is_free = self.fresh(key.as_bytes()).is_none();
        if is_free {
            self.set(key, token.clone(), ttl);
        }
        Ok(is_free)
    }

    async fn renew(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let is_held = self.holds(key, token);
        if is_held {
            self.set(key, token.clone(), ttl);
        }
        Ok(is_held)
    }

    async fn release(&self, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        let is_held = self.holds(key, token);
        if is_held {
            self.0.remove(key);
        }
        Ok(is_held)
    }
}

/// Only this process changes the store, so there is nothing to report.
impl Feed for MemoryStore {
    fn follow(&self, _: &[u8], _: Vec<Arc<dyn Listener>>) -> bool {
        false
    }
}
