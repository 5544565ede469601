//! The purge log in Redis: a stream, which every proxy of the fleet reads into its own copy.
//!
//! A fill costs no command, and a purge one. The log is read by the beat of the feed, so what the beat proves of changes
//! it also proves of purges. Each read begins with the last entry that is known: if that is not there any more, the log
//! was evicted, deleted or cut, and the copy starts anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{ErrorKind, FromRedisValue as _, RedisError, Value, cmd};
use tokio::time::Instant;

use super::refusals::{Refusals, is_refusal};
use crate::purge::{Epoch, LogEntry, PurgeId};
use crate::store::LogCopy;

/// The most entries of one read.
pub(super) const BATCH: usize = 1_000;

/// How often the epoch is repeated, so that it outlives the trimming of the log and that positions are recent.
const EPOCH_EVERY: Duration = Duration::from_secs(60);

type Entries = Vec<(PurgeId, LogEntry)>;

/// Reads the log on one connection.
pub(super) struct LogReader {
    copy: Arc<LogCopy>,
    connection: MultiplexedConnection,
    refusals: Arc<Refusals>,
    replication: u32,
    epoch_repeated: Instant,
}

impl LogReader {
    /// Reads the whole log on a new connection, and begins a new epoch if this Redis is another one than that of the last
    /// epoch. `None` if it refuses to be read, which it does not again.
    pub(super) async fn begin(
        copy: &Arc<LogCopy>,
        mut connection: MultiplexedConnection,
        refusals: &Arc<Refusals>,
    ) -> Result<Option<Self>, RedisError> {
        let replication = replication(&mut connection, refusals).await?;
        let (copy, refusals, epoch_repeated) = (copy.clone(), refusals.clone(), Instant::now());
        let mut reader = Self { copy, connection, refusals, replication, epoch_repeated };
        match reader.read().await {
            Ok(()) => Ok(Some(reader)),
            Err(error) if is_refusal(&error) => {
                reader.copy.turn_off();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what is new, and what the log lacks once it is appended.
    pub(super) async fn read(&mut self) -> Result<(), RedisError> {
        loop {
            self.catch_up().await?;
            if self.is_settled().await? {
                return Ok(());
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), RedisError> {
        loop {
            let last = self.copy.last();
            let entries = range(&mut self.connection, &self.copy, last, BATCH).await;
            let entries = self.refusals.noted("XRANGE", entries)?;
            if !is_continued(&entries, last) {
                self.copy.start_anew();
                continue;
            }
            let known = usize::from(last != PurgeId::default());
            self.copy.add(&entries[known..], now());
            if entries.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// Whether the log lacks nothing. Else begins a new epoch if the log has none of this Redis, or repeats it, and appends what
    /// a new primary has lost: also if another proxy does, which may end before it has appended everything.
    async fn is_settled(&mut self) -> Result<bool, RedisError> {
        if !self.copy.settings.writes {
            return Ok(true);
        }
        let epoch = own(self.copy.epoch(), self.replication);
        let missed = self.copy.missed(self.replication);
        let is_settled = epoch.is_some() && missed.is_empty() && self.epoch_repeated.elapsed() < EPOCH_EVERY;
        if !is_settled {
            let epoch = LogEntry::Epoch(epoch.unwrap_or_else(|| new_epoch(self.replication)));
            let purges = missed.into_iter().map(|(purge, number)| LogEntry::Purge(purge, number));
            for entry in [epoch].into_iter().chain(purges) {
                let added = add(&mut self.connection, &self.copy, &entry).await;
                self.refusals.noted("XADD", added)?;
            }
            self.epoch_repeated = Instant::now();
        }
        self.copy.forget_lost();
        Ok(is_settled)
    }
}

/// The clock of this machine, by which the lag of purges is counted.
#[allow(clippy::disallowed_methods, reason = "no decision depends on it")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// An epoch, if it was begun on the Redis with this replication id.
pub(super) fn own(epoch: Option<Epoch>, replication: u32) -> Option<Epoch> {
    epoch.filter(|epoch| epoch.replication == replication)
}

pub(super) fn new_epoch(replication: u32) -> Epoch {
    Epoch { replication, nonce: rand::random() }
}

/// Whether entries begin with the last one that is known.
fn is_continued(entries: &Entries, last: PurgeId) -> bool {
    last == PurgeId::default() || entries.first().is_some_and(|(id, _)| *id == last)
}

/// The beginning of the replication id: another primary has another one. 0 if Redis does not say it.
pub(super) async fn replication(
    connection: &mut MultiplexedConnection,
    refusals: &Refusals,
) -> Result<u32, RedisError> {
    let info = refusals.noted("INFO", cmd("INFO").arg("replication").query_async(connection).await);
    let info: String = match info {
        Err(error) if is_refusal(&error) => return Ok(0),
        info => info?,
    };
    let id = info.lines().find_map(|line| line.strip_prefix("master_replid:")?.get(..8));
    Ok(id.and_then(|id| u32::from_str_radix(id, 16).ok()).unwrap_or_default())
}

/// Appends an entry, and trims those that no page is older than.
pub(super) async fn add(
    connection: &mut MultiplexedConnection,
    copy: &LogCopy,
    record: &LogEntry,
) -> Result<PurgeId, RedisError> {
    let horizon = u64::try_from(copy.settings.horizon.as_millis()).unwrap_or(u64::MAX);
    // By the clock of the log: that of this machine may be ahead.
    let oldest = copy.last().milliseconds.saturating_sub(horizon);
    let mut command = cmd("XADD");
    command.arg(copy.settings.key.as_bytes()).arg("MINID").arg("~").arg(oldest).arg("*");
    record.fields().iter().for_each(|field| {
        command.arg(field);
    });
    let id: String = command.query_async(connection).await?;
    id.parse().map_err(|()| malformed())
}

/// The entries from this one on.
pub(super) async fn range(
    connection: &mut MultiplexedConnection,
    copy: &LogCopy,
    from: PurgeId,
    count: usize,
) -> Result<Entries, RedisError> {
    let mut command = cmd("XRANGE");
    command.arg(copy.settings.key.as_bytes()).arg(from.to_string()).arg("+").arg("COUNT").arg(count);
    let reply: Vec<(String, Vec<Value>)> = command.query_async(connection).await?;
    reply
        .into_iter()
        .map(|(id, fields)| Ok((id.parse().map_err(|()| malformed())?, record(fields)?)))
        .collect()
}

fn record(fields: Vec<Value>) -> Result<LogEntry, RedisError> {
    let fields: Vec<Vec<u8>> = fields.into_iter().map(Vec::from_redis_value).collect::<Result<_, _>>()?;
    Ok(LogEntry::of(fields.iter().map(Vec::as_slice)))
}

fn malformed() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "no entry of a stream").into()
}
