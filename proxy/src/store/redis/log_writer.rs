//! The writer of the purge log in Redis.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{ErrorKind, RedisError, cmd};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::control::ControlConnection;
use super::log::{BATCH, add, new_epoch, own, range, replication};
use super::node::RedisNode;
use super::nodes::Nodes;
use super::refusals::Refusals;
use crate::purge::{LogEntry, LoggedPurge, Purge, PurgeId};
use crate::store::{LogCopy, StoreError};

/// To connect, and to append.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// How long Redis waits for its replicas.
const REPLICAS_DEADLINE: Duration = Duration::from_millis(100);

/// Appends purges, on a connection of its own: a wait for replicas holds nothing else up.
pub(super) struct LogWriter {
    nodes: Nodes,
    refusals: Arc<Refusals>,
    deadline: Duration,
    connection: Mutex<Option<LogConnection>>,
}

/// A connection to the node that has the log, and the generation of the node's connections when it was opened.
struct LogConnection {
    control: ControlConnection,
    node: Arc<RedisNode>,
    generation: u32,
}

impl LogWriter {
    pub(super) fn new(nodes: Nodes, refusals: Arc<Refusals>, deadline: Duration) -> Self {
        Self { nodes, refusals, deadline, connection: Mutex::new(None) }
    }

    pub(super) async fn append(
        &self,
        copy: &LogCopy,
        purge: Purge,
        replicas: u32,
    ) -> Result<PurgeId, StoreError> {
        let record = LogEntry::Purge(purge, rand::random());
        let patience = if replicas > 0 { REPLICAS_DEADLINE } else { Duration::ZERO };
        let id = self
            .exchange(copy, patience, async |mut connection| {
                let id = self.refusals.noted("XADD", add(&mut connection, copy, &record).await)?;
                if replicas > 0 {
                    self.refusals.noted("WAIT", replicated(&mut connection, replicas).await)?;
                }
                Ok(id)
            })
            .await?;
        let deadline = Instant::now() + self.deadline;
        copy.until(deadline, |copy| copy.has(id)).await;
        Ok(id)
    }

    pub(super) async fn purges(
        &self,
        copy: &LogCopy,
        after: PurgeId,
    ) -> Result<Vec<LoggedPurge>, StoreError> {
        let read = async |mut connection| {
            let (mut purges, mut last) = (Vec::new(), after);
            loop {
                let entries = range(&mut connection, copy, last, BATCH).await?;
                let is_end = entries.len() < BATCH;
                last = entries.last().map_or(last, |(id, _)| *id);
                for (id, record) in entries.into_iter().filter(|(id, _)| *id > after) {
                    if let LogEntry::Purge(purge, _) = record {
                        purges.push(LoggedPurge { id, purge });
                    }
                }
                // Epochs are no purges: there may be none among many entries.
                if is_end || !purges.is_empty() {
                    return Ok(purges);
                }
            }
        };
        self.exchange(copy, Duration::ZERO, read).await
    }

    /// Talks to Redis within the deadline. A connection that fails is not used again.
    async fn exchange<T>(
        &self,
        copy: &LogCopy,
        more: Duration,
        talk: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, StoreError> {
        let within = |limit: Duration| Instant::now() + limit;
        let mut held = timeout_at(within(CONNECT_DEADLINE), self.connection.lock())
            .await
            .map_err(|_| StoreError::Deadline(CONNECT_DEADLINE))?;
        let is_current = |held: &LogConnection| held.node.health.generation() == held.generation;
        let connection = match held.take().filter(is_current) {
            Some(connection) => connection,
            None => timeout_at(within(CONNECT_DEADLINE), self.open(copy))
                .await
                .map_err(|_| StoreError::Deadline(CONNECT_DEADLINE))??,
        };
        let limit = self.deadline + more;
        let outcome = timeout_at(within(limit), talk(connection.control.connection())).await;
        let outcome = outcome.map_err(|_| StoreError::Deadline(limit))?.map_err(|error| fault(&error))?;
        *held = Some(connection);
        Ok(outcome)
    }

    /// Opens a connection. Nothing is appended to the log of another Redis than that of the last epoch.
    async fn open(&self, copy: &LogCopy) -> Result<LogConnection, StoreError> {
        let node = self.nodes.owner(copy.settings.key.as_bytes()).await?;
        let generation = node.health.generation();
        let stream = node.dialer.dial().await.map_err(|error| StoreError::Unreachable(error.to_string()))?;
        let opened = ControlConnection::open(stream, &node.dialer.login, |_| {}).await;
        let control = opened.map_err(|lost| StoreError::Unreachable(lost.to_string()))?;
        let mut connection = control.connection();
        let replication =
            replication(&mut connection, &self.refusals).await.map_err(|error| fault(&error))?;
        if own(copy.epoch(), replication).is_none() {
            let epoch = LogEntry::Epoch(new_epoch(replication));
            let added = add(&mut connection, copy, &epoch).await;
            self.refusals.noted("XADD", added).map_err(|error| fault(&error))?;
        }
        Ok(LogConnection { control, node, generation })
    }
}

fn fault(error: &RedisError) -> StoreError {
    match error.kind() {
        ErrorKind::Io => StoreError::Unreachable(error.to_string()),
        _ => StoreError::Refused(error.to_string()),
    }
}

/// Waits until so many replicas have what was written on this connection.
async fn replicated(connection: &mut MultiplexedConnection, replicas: u32) -> Result<(), RedisError> {
    let mut wait = cmd("WAIT");
    wait.arg(replicas).arg(REPLICAS_DEADLINE.as_millis() as u64);
    let count: u32 = wait.query_async(connection).await?;
    if count < replicas {
        let fault = format!("{count} of {replicas} replicas have the purge");
        return Err((ErrorKind::Client, "WAIT", fault).into());
    }
    Ok(())
}
