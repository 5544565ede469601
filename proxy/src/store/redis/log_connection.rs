//! A connection to the Redis that has the purge log, and the commands on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value, cmd, pipe};

use super::refusals::{Refusals, is_refusal};
use crate::purge::{LogEntry, PurgeId};
use crate::store::LogCopy;

/// The most entries of one read.
pub(super) const BATCH: usize = 1_000;

/// How long Redis waits for its replicas.
pub(super) const REPLICAS_DEADLINE: Duration = Duration::from_millis(100);

pub(super) type Entries = Vec<(PurgeId, LogEntry)>;

/// A connection to the Redis that has the log. Clones are the same connection.
#[derive(Clone)]
pub(super) struct LogConnection {
    connection: MultiplexedConnection,
    refusals: Arc<Refusals>,
    /// The beginning of the replication id, which differs for another primary; `None` until it is needed.
    replication: Arc<Mutex<Option<u32>>>,
    /// Whether the slot of the log is moving to this node, which then answers only after ASKING.
    is_asking: bool,
}

impl LogConnection {
    pub(super) fn new(connection: MultiplexedConnection, refusals: &Arc<Refusals>, is_asking: bool) -> Self {
        Self { connection, refusals: refusals.clone(), replication: Arc::default(), is_asking }
    }

    /// The beginning of the replication id. Redis is asked for it once. 0 if Redis does not tell it.
    pub(super) async fn replication(&mut self) -> Result<u32, RedisError> {
        let known = *self.known_replication();
        match known {
            Some(known) => Ok(known),
            None => self.identify().await,
        }
    }

    /// Asks for the replication id again.
    pub(super) async fn identify(&mut self) -> Result<u32, RedisError> {
        let info = match self.ask::<String>("INFO", cmd("INFO").arg("replication")).await {
            Err(error) if is_refusal(&error) => String::new(),
            info => info?,
        };
        let id = info.lines().find_map(|line| line.strip_prefix("master_replid:")?.get(..8));
        let replication = id.and_then(|id| u32::from_str_radix(id, 16).ok()).unwrap_or_default();
        *self.known_replication() = Some(replication);
        Ok(replication)
    }

    fn known_replication(&self) -> MutexGuard<'_, Option<u32>> {
        self.replication.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an entry, and removes entries that are older than every page. The node that the slot is moving to begins no log:
    /// the log may have moved back at this moment, and then there would be two.
    pub(super) async fn add(&mut self, copy: &LogCopy, record: &LogEntry) -> Result<PurgeId, RedisError> {
        let horizon = u64::try_from(copy.settings.horizon.as_millis()).unwrap_or(u64::MAX);
        // The clock of the log counts here, since that of this machine may be ahead.
        let oldest = copy.last().milliseconds.saturating_sub(horizon);
        let mut command = cmd("XADD");
        command.arg(copy.settings.key.as_bytes());
        if self.is_asking {
            command.arg("NOMKSTREAM");
        }
        command.arg("MINID").arg("~").arg(oldest).arg("*");
        record.fields().iter().for_each(|field| {
            command.arg(field);
        });
        let id: Option<String> = self.ask("XADD", &command).await?;
        id.ok_or_else(taken_back)?.parse().map_err(|()| malformed())
    }

    /// The entries from this id on.
    pub(super) async fn range(
        &mut self,
        copy: &LogCopy,
        from: PurgeId,
        count: usize,
    ) -> Result<Entries, RedisError> {
        let mut command = cmd("XRANGE");
        command.arg(copy.settings.key.as_bytes()).arg(from.to_string()).arg("+").arg("COUNT").arg(count);
        let reply: Vec<(String, Vec<Value>)> = self.ask("XRANGE", &command).await?;
        reply
            .into_iter()
            .map(|(id, fields)| Ok((id.parse().map_err(|()| malformed())?, record(fields)?)))
            .collect()
    }

    /// Waits until so many replicas have everything that was written on this connection.
    pub(super) async fn replicated(&mut self, replicas: u32) -> Result<(), RedisError> {
        let mut wait = cmd("WAIT");
        wait.arg(replicas).arg(REPLICAS_DEADLINE.as_millis() as u64);
        let count: u32 = self.ask("WAIT", &wait).await?;
        if count < replicas {
            let fault = format!("{count} of {replicas} replicas have the purge");
            return Err((ErrorKind::Client, "WAIT", fault).into());
        }
        Ok(())
    }

    /// Sends a command. Notes if Redis refuses it for good.
    async fn ask<T: FromRedisValue>(&mut self, name: &'static str, command: &Cmd) -> Result<T, RedisError> {
        let reply = match self.is_asking {
            false => command.query_async(&mut self.connection).await,
            true => {
                let mut both = pipe();
                both.cmd("ASKING").add_command(command.clone());
                let replies = self.connection.send_packed_commands(&both, 0, 2).await;
                replies.and_then(|replies| {
                    let [asking, reply] = <[Value; 2]>::try_from(replies).map_err(|_| malformed())?;
                    // Without ASKING, the node redirects to the owner of the slot.
                    let _ = self.refusals.noted("ASKING", asking.extract_error());
                    reply.extract_error()
                })
            }
        };
        self.refusals.noted(name, reply.and_then(|reply: Value| Ok(T::from_redis_value(reply)?)))
    }
}

fn record(fields: Vec<Value>) -> Result<LogEntry, RedisError> {
    let fields: Vec<Vec<u8>> = fields.into_iter().map(Vec::from_redis_value).collect::<Result<_, _>>()?;
    Ok(LogEntry::of(fields.iter().map(Vec::as_slice)))
}

/// The error that has the owner of the slot asked again.
fn taken_back() -> RedisError {
    let detail = "the node that the slot is moving to has no log".to_owned();
    (ErrorKind::Server(ServerErrorKind::TryAgain), "XADD", detail).into()
}

fn malformed() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "no entry of a stream").into()
}
