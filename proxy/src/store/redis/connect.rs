//! Connections to Redis, pooled by bb8, and the state of Redis: up or down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bb8::{ErrorSink, ManageConnection, Pool};
use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::store::StoreError;
use crate::store::breaker::Breaker;

/// For each worker. Many requests share a connection, and the more of them share it, the fewer system calls each one
/// costs.
const CONNECTIONS: u32 = 1;

/// bb8 connects in the background, so this may be longer than a request waits for the store.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

pub(super) fn pool(client: Client, deadline: Duration, health: &Arc<Health>) -> Pool<Manager> {
    Pool::builder()
        .max_size(CONNECTIONS)
        // A working connection is never closed for its age: every request that waits for the next one would be a miss.
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(deadline)
        .retry_connection(false)
        // A ping before each command would double the round trips. Instead, a connection is marked when it breaks.
        .test_on_check_out(false)
        .error_sink(Box::new(ConnectFailures(health.clone())))
        .build_unchecked(Manager(client))
}

/// Makes connections for bb8, and tells it which are broken (bb8-redis never does).
#[derive(Debug)]
pub(super) struct Manager(Client);

#[derive(Clone)]
pub(super) struct Handle {
    pub(super) multiplexed: MultiplexedConnection,
    pub(super) broken: Arc<AtomicBool>,
}

impl Handle {
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

impl ManageConnection for Manager {
    type Connection = Handle;
    type Error = RedisError;

    async fn connect(&self) -> Result<Handle, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_DEADLINE))
            // `RedisStore::run_until` has one deadline for checkout and command together.
            .set_response_timeout(None);
        let multiplexed = self.0.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Handle { multiplexed, broken: Arc::default() })
    }

    async fn is_valid(&self, _: &mut Handle) -> Result<(), RedisError> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut Handle) -> bool {
        connection.is_broken()
    }
}

/// Whether Redis answers. Logged when it changes, not for each request.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) connect_failed: Notify,
    is_up: AtomicBool,
    pub(super) breaker: Breaker,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { connect_failed: Notify::new(), is_up: AtomicBool::new(true), breaker: Breaker::default() }
    }

    pub(super) fn note<T>(&self, result: &Result<T, StoreError>) {
        match result {
            Err(error) if error.is_outage() => self.breaker.failed(Instant::now(), rand::random()),
            // A refusal counts as a success: the store answered.
            Ok(_) | Err(_) => self.breaker.succeeded(),
        }
        let outage = result.as_ref().err().filter(|error| error.is_outage());
        // Loaded first: a write for each request would move the cache line between the workers' cores.
        let is_up = outage.is_none();
        if self.is_up.load(Ordering::Relaxed) == is_up || self.is_up.swap(is_up, Ordering::Relaxed) == is_up {
            return;
        }
        match outage {
            Some(error) => warn!(%error, "store down: every request goes to the origin"),
            None => info!("store up again"),
        }
    }
}

#[derive(Debug)]
struct ConnectFailures(Arc<Health>);

impl ErrorSink<RedisError> for ConnectFailures {
    fn sink(&self, error: RedisError) {
        if self.0.is_up.swap(false, Ordering::Relaxed) {
            warn!(%error, "store down: every request goes to the origin");
        }
        self.0.connect_failed.notify_waiters();
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<RedisError>> {
        Box::new(Self(self.0.clone()))
    }
}
