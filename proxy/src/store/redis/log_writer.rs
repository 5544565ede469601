//! The writer of the purge log in Redis.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{ErrorKind, RedisError};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::cluster::{HOPS, circular};
use super::control::ControlConnection;
use super::log::{new_epoch, own};
use super::log_connection::{BATCH, LogConnection, REPLICAS_DEADLINE};
use super::node::RedisNode;
use super::nodes::Nodes;
use super::refusals::Refusals;
use crate::purge::{LogEntry, LoggedPurge, Purge, PurgeId};
use crate::store::{LogCopy, StoreError};

/// The time to get a connection: the kept one, or a new one.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// Appends purges, on a connection of its own, so that a wait for replicas holds up nothing else.
pub(super) struct LogWriter {
    nodes: Nodes,
    refusals: Arc<Refusals>,
    deadline: Duration,
    held: Mutex<Option<HeldConnection>>,
}

/// A connection to a node, and the generation of the node's connections when it was opened.
struct HeldConnection {
    log: LogConnection,
    /// The connection is open as long as this exists.
    control: ControlConnection,
    node: Arc<RedisNode>,
    generation: u32,
}

impl LogWriter {
    pub(super) fn new(nodes: Nodes, refusals: Arc<Refusals>, deadline: Duration) -> Self {
        Self { nodes, refusals, deadline, held: Mutex::new(None) }
    }

    pub(super) async fn append(
        &self,
        copy: &LogCopy,
        purge: Purge,
        replicas: u32,
    ) -> Result<PurgeId, StoreError> {
        let record = &LogEntry::Purge(purge, rand::random());
        let patience = if replicas > 0 { REPLICAS_DEADLINE } else { Duration::ZERO };
        let id = self
            .exchange(copy, patience, |mut log: LogConnection| async move {
                // A purge is appended only if the last epoch is of this Redis.
                let mut replication = log.replication().await?;
                if own(copy.epoch(), replication).is_none() {
                    // A primary that was demoted and promoted again has a new id on the same connection.
                    replication = log.identify().await?;
                }
                if own(copy.epoch(), replication).is_none() {
                    log.add(copy, &LogEntry::Epoch(new_epoch(replication))).await?;
                }
                let id = log.add(copy, record).await?;
                if replicas > 0 {
                    log.replicated(replicas).await?;
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
        let read = |mut log: LogConnection| async move {
            let (mut purges, mut last) = (Vec::new(), after);
            loop {
                let entries = log.range(copy, last, BATCH).await?;
                let is_end = entries.len() < BATCH;
                last = entries.last().map_or(last, |(id, _)| *id);
                for (id, record) in entries.into_iter().filter(|(id, _)| *id > after) {
                    if let LogEntry::Purge(purge, _) = record {
                        purges.push(LoggedPurge { id, purge });
                    }
                }
                // Entries may also be epochs, so there may be no purge among many of them.
                if is_end || !purges.is_empty() {
                    return Ok(purges);
                }
            }
        };
        self.exchange(copy, Duration::ZERO, read).await
    }

    /// Runs an exchange with the Redis that has the log, at its present place, and with each node within the deadline. A
    /// connection that fails is not used again.
    async fn exchange<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        copy: &LogCopy,
        more: Duration,
        talk: impl Fn(LogConnection) -> F,
    ) -> Result<T, StoreError> {
        let limit = self.deadline + more;
        let mut held = timely(CONNECT_DEADLINE, async { Ok(self.held.lock().await) }).await?;
        let is_current = |held: &HeldConnection| {
            held.control.is_open() && held.node.health.generation() == held.generation
        };
        let mut connection = match held.take().filter(is_current) {
            Some(connection) => connection,
            None => {
                let owner = self.nodes.owner(copy.settings.key.as_bytes());
                timely(CONNECT_DEADLINE, async { self.open(owner.await?, false).await }).await?
            }
        };
        let mut is_asking = false;
        for _ in 0..HOPS {
            let talked = timely(limit, async { Ok(talk(connection.log.clone()).await) }).await?;
            let error = match talked {
                Err(error) => error,
                Ok(answer) if is_asking => return Ok(answer),
                Ok(answer) => {
                    *held = Some(connection);
                    return Ok(answer);
                }
            };
            if let Some(owner) = held.take_if(|_| is_asking && error.code() == Some("TRYAGAIN")) {
                // The log has moved back between the two questions.
                (connection, is_asking) = (owner, false);
                continue;
            }
            let next = self.nodes.redirect(&connection.node, &error);
            let (node, asking) = next.ok_or_else(|| fault(&error))?;
            if asking && !is_asking {
                // The owner of the slot is asked first the next time, too.
                *held = Some(connection);
            }
            is_asking = asking;
            connection = timely(CONNECT_DEADLINE, self.open(node, asking)).await?;
        }
        Err(circular())
    }

    async fn open(&self, node: Arc<RedisNode>, is_asking: bool) -> Result<HeldConnection, StoreError> {
        let generation = node.health.generation();
        let stream = node.dialer.dial().await.map_err(|error| StoreError::Unreachable(error.to_string()))?;
        let opened = ControlConnection::open(stream, &node.dialer.login, |_| {}).await;
        let control = opened.map_err(|lost| StoreError::Unreachable(lost.to_string()))?;
        let log = LogConnection::new(control.connection(), &self.refusals, is_asking);
        Ok(HeldConnection { log, control, node, generation })
    }
}

/// The output of a future, if it comes within the limit.
async fn timely<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(limit, work).await.unwrap_or(Err(StoreError::Deadline(limit)))
}

fn fault(error: &RedisError) -> StoreError {
    match error.kind() {
        ErrorKind::Io => StoreError::Unreachable(error.to_string()),
        _ => StoreError::Refused(error.to_string()),
    }
}
