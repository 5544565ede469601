//! Connections to Redis, by bb8, and whether it is up.

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

/// For each worker: a connection carries the commands of many requests at once, and the more of them share one, the
/// fewer system calls each costs.
const CONNECTIONS: u32 = 1;

/// A connection is made in the background and may take longer than a request waits for the store.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

pub(super) fn pool(client: Client, deadline: Duration, health: &Arc<Health>) -> Pool<Manager> {
    Pool::builder()
        .max_size(CONNECTIONS)
        // One that is in order stays: to close it for its age would be a miss for all who wait for the next.
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(deadline)
        .retry_connection(false)
        // A ping before each command would double the round trips; a broken connection is marked when it breaks.
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
            // The deadline is ours, for checkout and command together.
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

/// Whether Redis answers: said once when it changes, not at each request.
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
            // A refusal is an answer.
            Ok(_) | Err(_) => self.breaker.succeeded(),
        }
        let outage = result.as_ref().err().filter(|error| error.is_outage());
        // Read first: a line that all workers write at each request would travel between their cores.
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
