//! Redis, the store that a fleet shares.

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
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use connect::{Handle, Health, Manager, pool};
use reads::{Outcome, Part, Reads};

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
    /// Told of what is written here, too, without waiting for Redis to tell.
    listeners: Arc<Listeners>,
}

/// What a worker has for itself.
struct Worker {
    pool: Pool<Manager>,
    reads: Reads,
}

impl RedisStore {
    /// A store at a Redis URL. Connects at the first use; a Redis that is down only makes misses.
    pub fn new(url: &str, deadline: Duration) -> Result<Self, RedisError> {
        let health = Arc::new(Health::new());
        let client = Client::open(url)?;
        let workers = PerWorker::new(|_| Worker {
            pool: pool(client.clone(), deadline, &health),
            reads: Reads::default(),
        });
        Ok(Self { client, workers: Arc::new(workers), deadline, health, listeners: Arc::default() })
    }

    /// Reads values, together with who else asks for them now.
    async fn read<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        let deadline = Instant::now() + self.deadline;
        match self.workers.own().reads.part(keys.into_iter().map(Key::new).collect()) {
            Part::Lead(mut lead) => {
                if !lead.close(deadline).await {
                    return Err(StoreError::Deadline(self.deadline));
                }
                let outcome = self.read_alone(&keys, deadline).await;
                let values = values_of(&outcome);
                lead.answer(outcome);
                values
            }
            // Without a deadline of its own: who leads began earlier, and tells by then.
            Part::Join(read) => match read.outcome().await {
                Some(outcome) => values_of(outcome),
                None => values_of(&self.read_alone(&keys, deadline).await),
            },
        }
    }

    async fn read_alone(&self, keys: &[&[u8]], deadline: Instant) -> Outcome {
        let replies = self.run_until(&Commands::read(keys), deadline).await?;
        Ok(replies.into_iter().map(bytes).collect())
    }

    /// Runs commands within the deadline, checkout included, and marks the connection if it did not survive.
    async fn run(&self, commands: &Commands) -> Result<Vec<Value>, StoreError> {
        self.run_until(commands, Instant::now() + self.deadline).await
    }

    async fn run_until(&self, commands: &Commands, deadline: Instant) -> Result<Vec<Value>, StoreError> {
        if !self.health.breaker.allows(Instant::now()) {
            return Err(StoreError::Unreachable(
                "it has just failed and is not asked for a moment".to_owned(),
            ));
        }
        let result = match in_time(deadline, self.connection()).await {
            Some(Ok(connection)) => self.send(connection, commands, deadline).await,
            Some(Err(error)) => Err(error),
            None => Err(StoreError::Deadline(self.deadline)),
        };
        self.health.note(&result);
        result
    }

    /// Runs a script on a lock that has this token; whether it had.
    async fn if_held(&self, script: &str, key: &Key, token: &Bytes, ttl: u64) -> Result<bool, StoreError> {
        let mut command = cmd("EVAL");
        command.arg(script).arg(1).arg(key.as_bytes()).arg(token.as_ref()).arg(ttl);
        let reply = self.run(&Commands::One(command)).await?;
        Ok(matches!(reply.first(), Some(Value::Int(1))))
    }

    async fn send(
        &self,
        mut connection: Handle,
        commands: &Commands,
        deadline: Instant,
    ) -> Result<Vec<Value>, StoreError> {
        let result = match in_time(deadline, commands.query(&mut connection.multiplexed)).await {
            Some(result) => result.map_err(StoreError::from),
            None => Err(StoreError::Deadline(self.deadline)),
        };
        if result.as_ref().is_err_and(StoreError::is_outage) {
            connection.broken.store(true, Ordering::Relaxed);
        }
        result
    }

    /// A handle on a living connection. The checkout ends at once: commands of many requests share the connection.
    async fn connection(&self) -> Result<Handle, StoreError> {
        loop {
            // bb8 lets its waiters wait on when a connection cannot be made; this tells them.
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
        /// Longer than a connection takes on a busy machine; a Redis that is not there does not keep the proxy from starting.
        const PATIENCE: Duration = Duration::from_millis(250);
        const PAUSE: Duration = Duration::from_millis(10);
        let connected = async {
            while self.connection().await.is_err() {
                sleep(PAUSE).await;
            }
        };
        // The first request tries again.
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
        let reply = self.run(&Commands::One(command)).await?;
        // Negative: not there, or there for ever.
        let milliseconds = reply.first().and_then(|value| match value {
            Value::Int(milliseconds) => u64::try_from(*milliseconds).ok(),
            _ => None,
        });
        Ok(milliseconds.map(Duration::from_millis))
    }

    async fn put(&self, writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        let seconds = ttl.as_secs().max(1);
        let mut pipeline = pipe();
        for write in &writes {
            match write {
                Write::Set(key, value) => {
                    pipeline.cmd("SETEX").arg(key.as_bytes()).arg(seconds).arg(value.as_ref()).ignore()
                }
                Write::Extend(key) => pipeline.cmd("EXPIRE").arg(key.as_bytes()).arg(seconds).ignore(),
            };
        }
        let result = self.run(&Commands::Many(pipeline)).await.map(drop);
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
        let result = self.run(&Commands::One(command)).await.map(drop);
        keys.iter().for_each(|key| self.listeners.changed(key.as_bytes()));
        result
    }
}

impl Locks for RedisStore {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let mut command = cmd("SET");
        command.arg(key.as_bytes()).arg(token.as_ref()).arg("NX").arg("PX").arg(milliseconds(ttl));
        let reply = self.run(&Commands::One(command)).await?;
        Ok(matches!(reply.first(), Some(Value::Okay)))
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
            warn!(%error, "changes in Redis are not heard of: no near cache");
        }
        followed.is_ok()
    }
}

/// For the holder of the token alone: another may have taken over meanwhile.
const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What goes out in one round trip.
enum Commands {
    One(Cmd),
    Many(Pipeline),
}

impl Commands {
    fn read(keys: &[&[u8]]) -> Self {
        let mut command = cmd(if keys.len() == 1 { "GET" } else { "MGET" });
        for key in keys {
            command.arg(*key);
        }
        Self::One(command)
    }

    async fn query(&self, connection: &mut MultiplexedConnection) -> Result<Vec<Value>, RedisError> {
        match self {
            // Not by query_async, which boxes its future.
            Self::One(command) => match connection.send_packed_command(command).await?.extract_error()? {
                Value::Array(values) => Ok(values),
                value => Ok(vec![value]),
            },
            Self::Many(pipeline) => pipeline.query_async::<()>(connection).await.map(|()| Vec::new()),
        }
    }
}

/// One's own copy of what a read brought.
fn values_of<const N: usize>(outcome: &Outcome) -> Result<[Option<Bytes>; N], StoreError> {
    let values = outcome.as_ref().map_err(Clone::clone)?;
    Ok(std::array::from_fn(|index| values.get(index).cloned().flatten()))
}

/// Moves a value out of its reply: no copy.
fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        // A reply that is an error leaves the connection in order; anything else may have left half a reply on it.
        if error.code().is_some() && !error.is_unrecoverable_error() {
            return Self::Refused(error.to_string());
        }
        Self::Unreachable(error.to_string())
    }
}
