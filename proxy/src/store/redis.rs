//! The store in Redis, which a fleet of proxies shares.

mod batch;
mod connection;
mod health;
mod log;
mod oversized;
mod pool;
mod resp;
mod tls;
mod tracking;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bb8_redis::redis::{Client, RedisError};
use bytes::Bytes;
use server::PerWorker;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use batch::Batches;
use connection::Bounds;
use health::Health;
use log::LogWriter;
use oversized::Oversized;
use pool::{Commands, ConnectionPool};
use resp::{RedisReply, Unread};

use super::feed::Listeners;
use super::{
    Feed, Listener, Locks, LogCopy, PurgeLog, PurgeLogSettings, RefusedCommand, Store, StoreError, Values,
    Write,
};
use crate::key::Key;
use crate::purge::{LoggedPurge, Purge, PurgeId};

/// Beside the body, a value has a head, and a pickle the names of its classes.
const BESIDE_THE_BODY: usize = 1 << 20;

/// Pages in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    workers: Arc<PerWorker<Worker>>,
    health: Arc<Health>,
    oversized: Arc<Oversized>,
    /// They also get the writes of this process, at once and not by way of Redis.
    listeners: Arc<Listeners>,
    /// Whether changes arrive; set when they are first asked for.
    is_followed: Arc<OnceLock<bool>>,
    log_writer: Arc<LogWriter>,
}

/// The connections of one worker. What takes long to write holds up no read.
struct Worker {
    connections: Arc<ConnectionPool>,
    reads: Batches,
    writes: Batches,
}

impl Worker {
    fn new(connections: ConnectionPool) -> Self {
        let connections = Arc::new(connections);
        let (reads, writes) = (Batches::new(connections.clone()), Batches::new(connections.clone()));
        Self { connections, reads, writes }
    }
}

impl RedisStore {
    /// A store at a Redis URL. Connects on first use; while Redis is down, every lookup is a miss. `deadline` is how long
    /// Redis may be silent; a value that is much longer than `max_entry` bytes is not read.
    pub fn new(url: &str, deadline: Duration, max_entry: u64) -> Result<Self, RedisError> {
        let health = Arc::new(Health::new());
        let client = Client::open(url)?;
        let longest_value = usize::try_from(max_entry).unwrap_or(usize::MAX).saturating_add(BESIDE_THE_BODY);
        let bounds = Bounds { silence: deadline, longest_value };
        let workers = PerWorker::new(|_| {
            Worker::new(ConnectionPool::new(client.get_connection_info(), bounds, &health))
        });
        Ok(Self {
            log_writer: Arc::new(LogWriter::new(client.clone(), deadline)),
            client,
            workers: Arc::new(workers),
            health,
            oversized: Arc::default(),
            listeners: Arc::default(),
            is_followed: Arc::default(),
        })
    }

    /// Sends a read with those of other requests.
    async fn read(&self, name: &'static str, arguments: &[&[u8]]) -> Result<RedisReply, StoreError> {
        self.allowed()?;
        // A batch dies only with the runtime of another request.
        for _ in 0..2 {
            let part = self.workers.own().reads.read(name, arguments);
            if let Some([outcome]) = part.outcomes().await {
                return outcome.clone();
            }
        }
        Err(unanswered())
    }

    /// Sends a command that changes something with those of other requests.
    async fn write(&self, name: &'static str, arguments: &[&[u8]]) -> Result<RedisReply, StoreError> {
        self.write_all(|batch| batch.push(name, arguments)).await?.pop().ok_or_else(unanswered)
    }

    /// Sends the commands that `add` pushes in one round trip. Returns their replies, or the first error.
    async fn write_all(&self, add: impl FnOnce(&mut Commands)) -> Result<Vec<RedisReply>, StoreError> {
        self.allowed()?;
        let part = self.workers.own().writes.join(|batch| {
            let first = batch.len();
            add(batch);
            (first, batch.len() - first)
        });
        part.outcomes().await.ok_or_else(unanswered)?.iter().cloned().collect()
    }

    fn allowed(&self) -> Result<(), StoreError> {
        match self.health.breaker.allows(Instant::now()) {
            true => Ok(()),
            false => {
                Err(StoreError::Unreachable("it has just failed and is skipped for a moment".to_owned()))
            }
        }
    }

    /// Runs a script on a lock if it has this token. Returns whether it had.
    async fn if_held(&self, held: &Held, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        let (key, ttl) = (key.as_bytes(), held.ttl.to_string());
        let script = self.write("EVAL", &[held.script.as_bytes(), b"1", key, token, ttl.as_bytes()]).await;
        if !matches!(script, Err(StoreError::Refused(_))) {
            return Ok(matches!(script?, RedisReply::Number(1)));
        }
        // A user without EVAL: another proxy may claim the lock between the two commands, and fetch the page once more.
        let [value] = self.get([key]).await?;
        if value.as_ref() != Some(token) {
            return Ok(false);
        }
        let arguments: &[&[u8]] = if held.command == "DEL" { &[key] } else { &[key, ttl.as_bytes()] };
        Ok(matches!(self.write(held.command, arguments).await?, RedisReply::Number(1)))
    }
}

/// A change of a lock that only the holder of its token may make: another proxy may have claimed it meanwhile.
struct Held {
    script: &'static str,
    /// The command in the script.
    command: &'static str,
    /// In milliseconds.
    ttl: u64,
}

impl Store for RedisStore {
    async fn connect(&self) {
        /// Longer than a connection takes on a busy machine. Without Redis the proxy starts after this time.
        const PATIENCE: Duration = Duration::from_millis(250);
        const PAUSE: Duration = Duration::from_millis(10);
        let connected = async {
            while self.workers.own().connections.connect().await.is_err() {
                sleep(PAUSE).await;
            }
        };
        // After a timeout, the first request tries again.
        let _ = timeout(PATIENCE, connected).await;
    }

    fn is_up(&self) -> bool {
        !self.health.breaker.is_open()
    }

    async fn refusals(&self, prefix: &[u8]) -> Vec<RefusedCommand> {
        let key = [prefix, b"none"].concat();
        let mut commands = Commands::default();
        // None of these changes anything: the key does not exist, and no value may live for 0 seconds.
        commands.push("GET", &[&key]);
        commands.push("MGET", &[&key, &key]);
        commands.push("PTTL", &[&key]);
        commands.push("SETEX", &[&key, b"0", b""]);
        commands.push("EXPIRE", &[&key, b"1"]);
        commands.push("PEXPIRE", &[&key, b"1"]);
        commands.push("DEL", &[&key]);
        commands.push("SET", &[&key, b"", b"XX", b"PX", b"1"]);
        commands.push("EVAL", &[RENEW.as_bytes(), b"1", &key, b"", b"1"]);
        let outcomes = self.workers.own().connections.ask(&commands).await;
        for (name, outcome) in commands.names().zip(outcomes) {
            if let Ok(RedisReply::Error(text)) = outcome
                && !text.starts_with("ERR invalid expire time")
            {
                self.health.refused(name, &text);
            }
        }
        self.health.refusals()
    }
}

impl Values for RedisStore {
    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        self.oversized.check(&keys)?;
        // A GET for one key, as people expect in MONITOR.
        match self.read(if N == 1 { "GET" } else { "MGET" }, &keys).await? {
            RedisReply::Values(mut values) if values.len() == N => {
                Ok(std::array::from_fn(|index| values[index].take()))
            }
            RedisReply::Unread(Unread::TooLong { index, length }) => {
                self.oversized.remember(keys[index], length);
                Err(StoreError::TooLong(length))
            }
            RedisReply::Unread(Unread::TooSlow) => Err(StoreError::TooSlow),
            _ => Err(unanswered()),
        }
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        // Negative: the key does not exist, or never expires.
        let milliseconds = match self.read("PTTL", &[key]).await? {
            RedisReply::Number(milliseconds) => u64::try_from(milliseconds).ok(),
            _ => None,
        };
        Ok(milliseconds.map(Duration::from_millis))
    }

    async fn put(&self, writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        let ttl = ttl.as_secs().max(1).to_string();
        let add = |batch: &mut Commands| {
            for write in &writes {
                match write {
                    Write::Set(key, value) => batch.push("SETEX", &[key.as_bytes(), ttl.as_bytes(), value]),
                    Write::Extend(key) => batch.push("EXPIRE", &[key.as_bytes(), ttl.as_bytes()]),
                }
            }
        };
        let result = self.write_all(add).await.map(drop);
        self.health.wrote(matches!(result, Err(StoreError::Refused(_))));
        if result.is_ok() {
            self.oversized.forget(&writes);
        }
        writes.iter().for_each(|write| self.listeners.changed(write.key().as_bytes()));
        result
    }

    async fn replace(
        &self,
        key: &Key,
        start: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let ttl = ttl.as_secs().max(1).to_string();
        let arguments: &[&[u8]] = &[REPLACE.as_bytes(), b"1", key.as_bytes(), start, ttl.as_bytes(), &value];
        let reply = self.write("EVAL", arguments).await;
        self.listeners.changed(key.as_bytes());
        Ok(matches!(reply?, RedisReply::Number(1)))
    }

    fn takes_writes(&self) -> bool {
        self.health.takes_writes()
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let arguments: Vec<_> = keys.iter().map(Key::as_bytes).collect();
        let result = self.write("DEL", &arguments).await.map(drop);
        keys.iter().for_each(|key| self.listeners.changed(key.as_bytes()));
        result
    }
}

impl Locks for RedisStore {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let ttl = milliseconds(ttl).to_string();
        let arguments: &[&[u8]] = &[key.as_bytes(), token, b"NX", b"PX", ttl.as_bytes()];
        Ok(matches!(self.write("SET", arguments).await?, RedisReply::Status))
    }

    async fn renew(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let held = Held { script: RENEW, command: "PEXPIRE", ttl: milliseconds(ttl) };
        self.if_held(&held, key, token).await
    }

    async fn release(&self, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        self.if_held(&Held { script: RELEASE, command: "DEL", ttl: 0 }, key, token).await
    }
}

impl Feed for RedisStore {
    fn follow(&self, prefix: &[u8], listeners: Vec<Arc<dyn Listener>>) -> bool {
        self.listeners.set(listeners);
        self.is_followed(prefix)
    }
}

impl PurgeLog for RedisStore {
    fn follow_log(&self, prefix: &[u8], settings: PurgeLogSettings) -> Arc<LogCopy> {
        let log = self.listeners.set_log(|| LogCopy::new(settings));
        self.is_followed(prefix);
        log
    }

    async fn append(&self, purge: Purge, replicas: u32, _: SystemTime) -> Result<PurgeId, StoreError> {
        self.log_writer.append(self.log()?, purge, replicas).await
    }

    async fn purges(&self, after: PurgeId) -> Result<Vec<LoggedPurge>, StoreError> {
        self.log_writer.purges(self.log()?, after).await
    }
}

impl RedisStore {
    /// Follows the changes of Redis from the first call on. Returns whether that is possible.
    fn is_followed(&self, prefix: &[u8]) -> bool {
        *self.is_followed.get_or_init(|| {
            let followed = tracking::follow(&self.client, prefix, &self.listeners, &self.health);
            if let Err(error) = &followed {
                warn!(%error, "changes in Redis do not arrive: no near cache");
            }
            followed.is_ok()
        })
    }

    fn log(&self) -> Result<&LogCopy, StoreError> {
        let log = self.listeners.log().filter(|log| !log.is_off());
        log.map(|log| &**log).ok_or_else(|| StoreError::Refused("it has no purge log".to_owned()))
    }
}

const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

const REPLACE: &str = "local old = redis.call('GET', KEYS[1]) if old and string.sub(old, 1, #ARGV[1]) == ARGV[1] then redis.call('SETEX', KEYS[1], ARGV[2], ARGV[3]) return 1 end return 0";

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn unanswered() -> StoreError {
    StoreError::Unreachable("it sent no reply of use".to_owned())
}
