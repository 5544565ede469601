//! A store in the memory of this process, for where there is no Redis.

use std::time::Duration;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::{Store, StoreError, Write};
use crate::key::Key;
use crate::near::Near;

use std::sync::Arc;

/// Pages in memory, up to a limit in bytes; past it the least used go first.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Cache<Key, Value, ByKeyAndValue>>);

#[derive(Clone, Debug)]
struct Value {
    bytes: Bytes,
    expires: Instant,
}

#[derive(Clone, Debug)]
struct ByKeyAndValue;

impl Weighter<Key, Value> for ByKeyAndValue {
    fn weight(&self, key: &Key, value: &Value) -> u64 {
        /// About what the cache itself keeps for an entry.
        const OVERHEAD: usize = 128;
        (key.as_bytes().len() + value.bytes.len() + OVERHEAD) as u64
    }
}

impl MemoryStore {
    /// A store that holds about this many bytes of keys and values.
    pub fn new(limit: u64) -> Self {
        /// Only the size of the first table.
        const TYPICAL_PAGE: u64 = 16 * 1024;
        let pages = usize::try_from(limit / TYPICAL_PAGE).unwrap_or(usize::MAX);
        Self(Arc::new(Cache::with_weighter(pages.clamp(16, 1 << 20), limit, ByKeyAndValue)))
    }

    fn fresh(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key).filter(|value| value.expires > Instant::now()).map(|value| value.bytes)
    }
}

impl Store for MemoryStore {
    async fn get<const N: usize>(&self, keys: [&Key; N]) -> Result<[Option<Bytes>; N], StoreError> {
        Ok(keys.map(|key| self.fresh(key)))
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Duration>, StoreError> {
        let left = self.0.get(key).map(|value| value.expires.saturating_duration_since(Instant::now()));
        Ok(left.filter(|left| !left.is_zero()))
    }

    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        // The one process whose memory this is lets one of its requests ask at a time.
        let is_free = self.fresh(key).is_none();
        if is_free {
            self.0.insert(key.clone(), Value { bytes: token.clone(), expires: Instant::now() + ttl });
        }
        Ok(is_free)
    }

    async fn hold(&self, key: &Key, token: &Bytes, ttl: Option<Duration>) -> Result<bool, StoreError> {
        let is_held = self.fresh(key).as_ref() == Some(token);
        match ttl.filter(|_| is_held) {
            Some(ttl) => {
                self.0.insert(key.clone(), Value { bytes: token.clone(), expires: Instant::now() + ttl });
            }
            None if is_held => drop(self.0.remove(key)),
            None => {}
        }
        Ok(is_held)
    }

    async fn connect(&self) {}

    /// It is near.
    fn follow(&self, _: &[u8], _: Option<u64>) -> Option<Arc<Near>> {
        None
    }

    /// Whoever changes it is in this process, and tells by other ways.
    fn changed(&self, _: &Key) -> impl Future<Output = ()> + Send + use<> {
        std::future::pending()
    }

    async fn put(&self, writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        let expires = Instant::now() + ttl;
        for write in writes {
            match write {
                Write::Set(key, bytes) => self.0.insert(key, Value { bytes, expires }),
                Write::Extend(key) => {
                    if let Some(bytes) = self.fresh(&key) {
                        self.0.insert(key, Value { bytes, expires });
                    }
                }
            }
        }
        Ok(())
    }
}
