//! A store in which a rule of purging does not hold, to show that the checkers find it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proxy::{
    Feed, Key, Listener, Locks, LogCopy, LoggedPurge, NodeNumber, Purge, PurgeId, PurgeLog, PurgeLogSettings,
    RedisStore, Store, StoreError, Target, Values, Write,
};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::LOG;

/// A rule that makes purges exact, which the checker must miss if it does not hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Broken {
    Nothing,
    /// Pages get their position when they are stored, and not before the origin is asked.
    Position,
    /// A log that was lost goes unnoticed.
    Loss,
    /// A page that a 304 confirms takes the place of whatever is there.
    Renewal,
    /// A proxy says that it has purged, and has not.
    Purge,
}

/// A purge that is in the log.
#[derive(Clone)]
pub(super) struct Appended {
    pub(super) began: Instant,
    pub(super) targets: Vec<Target>,
}

/// A store in which a rule does not hold.
#[derive(Clone)]
pub(crate) struct Tampered {
    store: RedisStore,
    /// Of one Redis; rules are broken on no other store.
    client: Option<Arc<bb8_redis::redis::Client>>,
    broken: Broken,
    appended: broadcast::Sender<Appended>,
}

impl Tampered {
    pub(crate) fn new(store: RedisStore, url: &str, broken: Broken) -> Self {
        let client = bb8_redis::redis::Client::open(url).ok();
        Self { store, client: client.map(Arc::new), broken, appended: broadcast::Sender::new(1) }
    }

    /// Tells of each purge.
    pub(super) fn telling(self, appended: broadcast::Sender<Appended>) -> Self {
        Self { appended, ..self }
    }

    /// The value with the position that the log has now.
    async fn restamped(&self, value: &Bytes) -> Option<Bytes> {
        let text = std::str::from_utf8(value).ok()?;
        let (before, rest) = text.split_once("Cachepage-Log: ")?;
        let after = rest.split_once("\r\n")?.1;
        let position = self.position().await?;
        Some(format!("{before}Cachepage-Log: {position}\r\n{after}").into())
    }

    /// The last epoch of the log, and its last entry.
    pub(crate) async fn position(&self) -> Option<String> {
        let mut connection = self.client.as_ref()?.get_multiplexed_async_connection().await.ok()?;
        let mut read = bb8_redis::redis::cmd("XREVRANGE");
        let entries: Vec<(String, Vec<String>)> =
            read.arg(LOG).arg("+").arg("-").query_async(&mut connection).await.ok()?;
        let epoch = entries.iter().find(|(_, fields)| fields[1] == "epoch")?.1[3].clone();
        Some(format!("{epoch}/{}", entries.first()?.0))
    }

    /// Whether the epoch of a value is not in the log any more.
    async fn is_of_a_lost_log(&self, value: &Bytes) -> bool {
        let text = String::from_utf8_lossy(value);
        let epoch = text.split("Cachepage-Log: ").nth(1).and_then(|rest| rest.split('/').next());
        let position = self.position().await;
        matches!((epoch, position), (Some(epoch), Some(position)) if !position.starts_with(epoch))
    }
}

impl Store for Tampered {
    async fn connect(&self) {}
}

impl Values for Tampered {
    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        let mut values = self.store.get(keys).await?;
        if self.broken == Broken::Loss {
            for value in values.iter_mut().flatten() {
                if self.is_of_a_lost_log(value).await
                    && let Some(restamped) = self.restamped(value).await
                {
                    *value = restamped;
                }
            }
        }
        Ok(values)
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        self.store.ttl(key).await
    }

    async fn put(&self, mut writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        if self.broken == Broken::Position {
            for write in &mut writes {
                if let Write::Set(_, value) = write
                    && let Some(restamped) = self.restamped(value).await
                {
                    *value = restamped;
                }
            }
        }
        self.store.put(writes, ttl).await
    }

    async fn replace(
        &self,
        key: &Key,
        start: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        match self.broken {
            Broken::Renewal => self.store.put(vec![Write::Set(key.clone(), value)], ttl).await.map(|()| true),
            _ => self.store.replace(key, start, value, ttl).await,
        }
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.store.delete(keys).await
    }
}

impl Locks for Tampered {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.store.claim(key, token, ttl).await
    }

    async fn renew(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.store.renew(key, token, ttl).await
    }

    async fn release(&self, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        self.store.release(key, token).await
    }
}

impl Feed for Tampered {
    fn node_of(&self, key: &[u8]) -> NodeNumber {
        self.store.node_of(key)
    }

    fn follow(&self, prefixes: &[Vec<u8>], listeners: Vec<Arc<dyn Listener>>) -> bool {
        self.store.follow(prefixes, listeners)
    }
}

impl PurgeLog for Tampered {
    fn follow_log(&self, prefixes: &[Vec<u8>], settings: PurgeLogSettings) -> Arc<LogCopy> {
        self.store.follow_log(prefixes, settings)
    }

    async fn append(&self, purge: Purge, replicas: u32, now: SystemTime) -> Result<PurgeId, StoreError> {
        let appended = Appended { began: Instant::now(), targets: purge.targets.clone() };
        let id = match self.broken {
            Broken::Purge => PurgeId::default(),
            _ => self.store.append(purge, replicas, now).await?,
        };
        // There may be no listener.
        let _ = self.appended.send(appended);
        Ok(id)
    }

    async fn purges(&self, after: PurgeId) -> Result<Vec<LoggedPurge>, StoreError> {
        self.store.purges(after).await
    }
}
