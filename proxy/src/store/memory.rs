//! A store in the memory of this process, for use without Redis.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quick_cache::sync::{EntryAction, EntryResult};
use tokio::time::Instant;

use super::{
    Feed, Listener, Locks, LogCopy, NodeNumber, PurgeLog, PurgeLogSettings, Store, StoreError, Values, Write,
};
use crate::key::Key;
use crate::purge::{Epoch, LogEntry, LoggedPurge, Purge, PurgeId};
use crate::weight::{self, Bounded, Evictions, Shares, Weigh};

/// A century: longer than any process runs.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The most purges that are kept for operators.
const LISTED: usize = 10_000;

/// Pages in memory, up to a limit in bytes; beyond it the least used are evicted.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    values: Bounded<Key, TimedValue>,
    evictions: Evictions,
    log: OnceLock<Arc<LogCopy>>,
    /// The last purges, for operators.
    purges: Mutex<VecDeque<LoggedPurge>>,
}

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
    /// A store that takes about this much memory, for values of up to 1 MiB.
    pub fn new(limit: u64) -> Self {
        Self::of_values(limit, 1 << 20)
    }

    /// A store for values of up to `largest` bytes. It takes about `limit` bytes, together with the memory that a proxy needs
    /// beside it.
    pub fn of_values(limit: u64, largest: u64) -> Self {
        let evictions = Evictions::default();
        let values = weight::cache(Shares::of(limit).pages, largest, &evictions);
        Self(Arc::new(Memory { values, evictions, log: OnceLock::new(), purges: Mutex::default() }))
    }

    fn set(&self, key: &Key, bytes: Bytes, ttl: Duration) {
        self.0.values.insert(key.clone(), TimedValue { bytes, expires: Instant::now() + ttl });
    }

    fn holds(&self, key: &Key, token: &Bytes) -> bool {
        self.fresh(key.as_bytes()).as_ref() == Some(token)
    }

    fn fresh(&self, key: &[u8]) -> Option<Bytes> {
        self.0.values.get(key).filter(|value| value.expires > Instant::now()).map(|value| value.bytes)
    }
}

impl Store for MemoryStore {
    async fn connect(&self) {}

    fn evictions(&self) -> u64 {
        self.0.evictions.count()
    }
}

impl Values for MemoryStore {
    const IS_IMMEDIATE: bool = true;

    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        Ok(keys.map(|key| self.fresh(key)))
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        let left =
            self.0.values.get(key).map(|value| value.expires.saturating_duration_since(Instant::now()));
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

    async fn replace(
        &self,
        key: &Key,
        start: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let now = Instant::now();
        let replaced = self.0.values.entry(key, None, |_, old| {
            let is_old = old.expires > now && old.bytes.starts_with(start);
            if is_old {
                *old = TimedValue { bytes: value, expires: now + ttl };
            }
            EntryAction::Retain(is_old)
        });
        Ok(matches!(replaced, EntryResult::Retained(true)))
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        keys.iter().for_each(|key| drop(self.0.values.remove(key)));
        Ok(())
    }
}

/// A process with its own store is a fleet of one, so the locks are its own.
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
            self.0.values.remove(key);
        }
        Ok(is_held)
    }
}

/// The log of a fleet of one. Its contents are always known.
impl PurgeLog for MemoryStore {
    fn follow_log(&self, _: &[Vec<u8>], settings: PurgeLogSettings) -> Arc<LogCopy> {
        let log = self.0.log.get_or_init(|| {
            // Pages keep the position of the last purge, however old it is, so no purge is too old.
            let log = LogCopy::new(PurgeLogSettings { horizon: Duration::MAX, ..settings });
            log.add(
                &[(
                    PurgeId { milliseconds: 0, number: 1 },
                    LogEntry::Epoch(Epoch { replication: 0, nonce: 0 }),
                )],
                UNIX_EPOCH,
            );
            log.certain(NodeNumber::default(), Instant::now() + FOREVER);
            Arc::new(log)
        });
        log.clone()
    }

    async fn append(&self, purge: Purge, _: u32, now: SystemTime) -> Result<PurgeId, StoreError> {
        let Some(log) = self.0.log.get() else {
            return Err(StoreError::Refused("it has no purge log".to_owned()));
        };
        let milliseconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut purges = self.0.purges.lock().unwrap_or_else(PoisonError::into_inner);
        let last = log.last();
        let next = PurgeId { number: last.number + 1, ..last };
        let id = next.max(PurgeId { milliseconds, number: 0 });
        log.add(&[(id, LogEntry::Purge(purge.clone(), 0))], now);
        if purges.len() == LISTED {
            purges.pop_front();
        }
        purges.push_back(LoggedPurge { id, purge });
        Ok(id)
    }

    async fn purges(&self, after: PurgeId) -> Result<Vec<LoggedPurge>, StoreError> {
        let purges = self.0.purges.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(purges.iter().filter(|logged| logged.id > after).cloned().collect())
    }
}

/// Only this process changes the store, so there is nothing to report.
impl Feed for MemoryStore {
    fn follow(&self, _: &[Vec<u8>], _: Vec<Arc<dyn Listener>>) -> bool {
        false
    }
}
