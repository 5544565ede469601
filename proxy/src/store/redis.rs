//! The store in Redis, which a fleet of proxies shares.

mod connect;
mod reads;
mod tracking;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bb8::Pool;
use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{Client, Cmd, Pipeline, RedisError, Value, cmd, pipe};
use bytes::Bytes;
use server::{PerWorker, in_time};
use smallvec::{SmallVec, smallvec};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use connect::{Handle, Health, Manager, pool};
use reads::{KeyList, Outcomes, ReadOutcome, Reads};

use super::feed::Listeners;
use super::{Feed, Listener, Locks, Store, StoreError, Values, Write};
use crate::key::Key;

/// Pages in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    workers: Arc<PerWorker<Worker>>,
    deadline: Duration,
    health: Arc<Health>,
    /// They also get the writes of this process, at once and not by way of Redis.
    listeners: Arc<Listeners>,
}

/// The state of one worker.
struct Worker {
    pool: Pool<Manager>,
    reads: Reads,
}

impl RedisStore {
    /// A store at a Redis URL. Connects on first use; while Redis is down, every lookup is a miss.
    pub fn new(url: &str, deadline: Duration) -> Result<Self, RedisError> {
        let health = Arc::new(Health::new());
        let client = Client::open(url)?;
        let workers = PerWorker::new(|_| Worker {
            pool: pool(client.clone(), deadline, &health),
            reads: Reads::default(),
        });
        Ok(Self { client, workers: Arc::new(workers), deadline, health, listeners: Arc::default() })
    }

    /// Reads values, in one batch with other requests that read now.
    async fn read<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        let deadline = Instant::now() + self.deadline;
        let keys: KeyList = keys.into_iter().map(Key::from).collect();
        let mut part = self.workers.own().reads.join(keys.clone());
        if let Some(mut leader) = part.leader.take() {
            let Some(reads) = leader.close(deadline).await else {
                return Err(StoreError::Deadline(self.deadline));
            };
            let outcomes = self.read_batch(&reads, deadline).await;
            leader.answer(outcomes);
        }
        // No deadline is needed here: the leader began earlier and answers by its own deadline.
        match part.outcome().await {
            Some(outcome) => values_of(outcome),
            None => self.read_batch(&[keys], deadline).await.first().map_or_else(unanswered, values_of),
        }
    }

    async fn read_batch(&self, reads: &[KeyList], deadline: Instant) -> Outcomes {
        if let [keys] = reads {
            let replies = self.run_until(&Commands::One(read(keys)), deadline).await;
            return smallvec![replies.and_then(|mut replies| replies.pop().map_or_else(unanswered, values))];
        }
        let mut pipeline = Pipeline::with_capacity(reads.len());
        for keys in reads {
            pipeline.add_command(read(keys));
        }
        match self.run_until(&Commands::Many(pipeline, reads.len()), deadline).await {
            Ok(replies) => replies.into_iter().map(values).collect(),
            Err(error) => smallvec![Err(error); reads.len()],
        }
    }

    /// Runs one command. An error reply becomes a `StoreError`.
    async fn run(&self, command: Cmd) -> Result<Value, StoreError> {
        let replies = self.run_until(&Commands::One(command), Instant::now() + self.deadline).await?;
        replies.into_iter().next().map_or_else(unanswered, |reply| Ok(reply.extract_error()?))
    }

    /// Runs commands within the deadline, checkout included, and marks a connection that broke.
    async fn run_until(&self, commands: &Commands, deadline: Instant) -> Result<Replies, StoreError> {
        if !self.health.breaker.allows(Instant::now()) {
            return Err(StoreError::Unreachable("it has just failed and is skipped for a moment".to_owned()));
        }
        let result = match in_time(deadline, self.connection()).await {
            Some(Ok(connection)) => self.send(connection, commands, deadline).await,
            Some(Err(error)) => Err(error),
            None => Err(StoreError::Deadline(self.deadline)),
        };
        self.health.note(&result);
        result
    }

    /// Runs a script on a lock if it has this token. Returns whether it had.
    async fn if_held(&self, script: &str, key: &Key, token: &Bytes, ttl: u64) -> Result<bool, StoreError> {
        let mut command = cmd("EVAL");
        command.arg(script).arg(1).arg(key.as_bytes()).arg(token.as_ref()).arg(ttl);
        Ok(matches!(self.run(command).await?, Value::Int(1)))
    }

    async fn send(
        &self,
        mut connection: Handle,
        commands: &Commands,
        deadline: Instant,
    ) -> Result<Replies, StoreError> {
        let result = match in_time(deadline, commands.query(&mut connection.multiplexed)).await {
            Some(result) => result.map_err(StoreError::from),
            None => Err(StoreError::Deadline(self.deadline)),
        };
        if result.as_ref().is_err_and(StoreError::is_outage) {
            connection.broken.store(true, Ordering::Relaxed);
        }
        result
    }

    /// A handle on a working connection. The checkout ends at once, since many requests share the connection.
    async fn connection(&self) -> Result<Handle, StoreError> {
        loop {
            // When bb8 cannot connect, its waiters wait on; this notification ends their wait.
            let connect_failed = self.health.connect_failed.notified();
            let checkout = tokio::select! {
                biased;
                checkout = self.workers.own().pool.get() => checkout.map_err(|error| StoreError::Unreachable(error.to_string()))?,
                () = connect_failed => return Err(StoreError::Unreachable("cannot connect".to_owned())),
            };
            if !checkout.is_broken() {
                return Ok(checkout.clone());
            }
        }
    }
}

impl Store for RedisStore {
    async fn connect(&self) {
        /// Longer than a connection takes on a busy machine. Without Redis the proxy starts after this time.
        const PATIENCE: Duration = Duration::from_millis(250);
        const PAUSE: Duration = Duration::from_millis(10);
        let connected = async {
            while self.connection().await.is_err() {
                sleep(PAUSE).await;
            }
        };
        // After a timeout, the first request tries again.
        let _ = timeout(PATIENCE, connected).await;
    }
}

impl Values for RedisStore {
    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        self.read(keys).await
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        let mut command = cmd("PTTL");
        command.arg(key);
        // Negative: the key does not exist, or never expires.
        let milliseconds = match self.run(command).await? {
            Value::Int(milliseconds) => u64::try_from(milliseconds).ok(),
            _ => None,
        };
        Ok(milliseconds.map(Duration::from_millis))
    }

    async fn put(&self, writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        let seconds = ttl.as_secs().max(1);
        let mut pipeline = pipe();
        for write in &writes {
            match write {
                Write::Set(key, value) => {
                    pipeline.cmd("SETEX").arg(key.as_bytes()).arg(seconds).arg(value.as_ref())
                }
                Write::Extend(key) => pipeline.cmd("EXPIRE").arg(key.as_bytes()).arg(seconds),
            };
        }
        let deadline = Instant::now() + self.deadline;
        let replies = self.run_until(&Commands::Many(pipeline, writes.len()), deadline).await;
        let result = replies.and_then(|replies| {
            replies.into_iter().try_for_each(|reply| Ok(reply.extract_error().map(drop)?))
        });
        writes.iter().for_each(|write| self.listeners.changed(write.key().as_bytes()));
        result
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut command = cmd("DEL");
        for key in keys {
            command.arg(key.as_bytes());
        }
        let result = self.run(command).await.map(drop);
        keys.iter().for_each(|key| self.listeners.changed(key.as_bytes()));
        result
    }
}

impl Locks for RedisStore {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let mut command = cmd("SET");
        command.arg(key.as_bytes()).arg(token.as_ref()).arg("NX").arg("PX").arg(milliseconds(ttl));
        Ok(matches!(self.run(command).await?, Value::Okay))
    }

    async fn renew(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.if_held(RENEW, key, token, milliseconds(ttl)).await
    }

    async fn release(&self, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        self.if_held(RELEASE, key, token, 0).await
    }
}

impl Feed for RedisStore {
    fn follow(&self, prefix: &[u8], listeners: Vec<Arc<dyn Listener>>) -> bool {
        if !self.listeners.set(listeners) {
            return true;
        }
        let followed = tracking::follow(&self.client, prefix, &self.listeners);
        if let Err(error) = &followed {
            warn!(%error, "changes in Redis do not arrive: no near cache");
        }
        followed.is_ok()
    }
}

/// Only the holder of the token may renew: another proxy may have claimed the lock meanwhile.
const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The replies to commands, in order.
type Replies = SmallVec<[Value; 1]>;

/// The commands of one round trip.
enum Commands {
    One(Cmd),
    /// A pipeline and the number of its commands.
    Many(Pipeline, usize),
}

impl Commands {
    /// Sends the commands. Each reply may be an error.
    async fn query(&self, connection: &mut MultiplexedConnection) -> Result<Replies, RedisError> {
        // query_async would box its future.
        match self {
            Self::One(command) => connection.send_packed_command(command).await.map(|value| smallvec![value]),
            Self::Many(pipeline, count) => {
                connection.send_packed_commands(pipeline, 0, *count).await.map(Replies::from_vec)
            }
        }
    }
}

/// A read of one key is a GET, as people expect in MONITOR; a read of two keys is an MGET.
fn read(keys: &KeyList) -> Cmd {
    let name = if keys.len() == 1 { "GET" } else { "MGET" };
    let length = keys.iter().map(|key| key.as_bytes().len()).sum::<usize>();
    let mut command = Cmd::with_capacity(1 + keys.len(), name.len() + length);
    command.arg(name);
    for key in keys {
        command.arg(key.as_bytes());
    }
    command
}

/// The values of a reply, moved out of it without a copy.
fn values(reply: Value) -> ReadOutcome {
    let value = |value| match value {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    };
    match reply.extract_error()? {
        Value::Array(replies) => Ok(replies.into_iter().map(value).collect()),
        reply => Ok(smallvec![value(reply)]),
    }
}

/// Copies the values of a shared read.
fn values_of<const N: usize>(outcome: &ReadOutcome) -> Result<[Option<Bytes>; N], StoreError> {
    let values = outcome.as_ref().map_err(Clone::clone)?;
    Ok(std::array::from_fn(|index| values.get(index).cloned().flatten()))
}

fn unanswered<T>() -> Result<T, StoreError> {
    Err(StoreError::Unreachable("it sent no reply".to_owned()))
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        // After an error reply the connection is usable; any other error may have left half a reply on it.
        if error.code().is_some() && !error.is_unrecoverable_error() {
            return Self::Refused(error.to_string());
        }
        Self::Unreachable(error.to_string())
    }
}
