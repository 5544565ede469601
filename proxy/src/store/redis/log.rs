//! The purge log in Redis: a stream, which every proxy of the fleet reads into its own copy.
//!
//! A fill costs no command, and a purge costs one. The log is read with each beat of the feed, so a beat proves the same of
//! purges as of changes. Each read begins with the last known entry. If that is gone, the log was evicted, deleted or cut, and
//! the copy starts anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bb8_redis::redis::RedisError;
use tokio::time::Instant;

use super::log_connection::{BATCH, Entries, LogConnection};
use super::refusals::is_refusal;
use crate::purge::{Epoch, LogEntry, PurgeId};
use crate::store::LogCopy;

/// How often the epoch is repeated, so that it outlives the trimming of the log, and so that positions are recent.
const EPOCH_EVERY: Duration = Duration::from_secs(60);

/// Reads the log on one connection.
pub(super) struct LogReader {
    copy: Arc<LogCopy>,
    connection: LogConnection,
    has_begun: bool,
    epoch_repeated: Instant,
}

impl LogReader {
    /// A reader that has read nothing on this connection.
    pub(super) fn new(copy: &Arc<LogCopy>, connection: LogConnection) -> Self {
        Self { copy: copy.clone(), connection, has_begun: false, epoch_repeated: Instant::now() }
    }

    /// Reads the new entries. If the log lacks entries, they are appended and read: also a new epoch if the last epoch is of
    /// another Redis. If Redis refuses the first read for good, the log is off.
    pub(super) async fn read(&mut self) -> Result<(), RedisError> {
        match self.read_all().await {
            Err(error) if !self.has_begun && is_refusal(&error) => self.copy.turn_off(),
            Err(error) => return Err(error),
            Ok(()) => self.has_begun = true,
        }
        Ok(())
    }

    async fn read_all(&mut self) -> Result<(), RedisError> {
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
            let entries = self.connection.range(&self.copy, last, BATCH).await?;
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

    /// Whether the log lacks nothing. Otherwise begins a new epoch if the log has none of this Redis, or repeats the epoch,
    /// and appends the purges that a new primary has lost. Another proxy may do the same at this time, but may end before it
    /// is done.
    async fn is_settled(&mut self) -> Result<bool, RedisError> {
        if !self.copy.settings.writes {
            return Ok(true);
        }
        let replication = self.connection.replication().await?;
        let epoch = own(self.copy.epoch(), replication);
        let missed = self.copy.missed(replication);
        let is_settled = epoch.is_some() && missed.is_empty() && self.epoch_repeated.elapsed() < EPOCH_EVERY;
        if !is_settled {
            let epoch = LogEntry::Epoch(epoch.unwrap_or_else(|| new_epoch(replication)));
            let purges = missed.into_iter().map(|(purge, number)| LogEntry::Purge(purge, number));
            for entry in [epoch].into_iter().chain(purges) {
                self.connection.add(&self.copy, &entry).await?;
            }
            self.epoch_repeated = Instant::now();
        }
        self.copy.forget_lost();
        Ok(is_settled)
    }
}

/// The clock of this machine, for the lag of purges.
#[allow(clippy::disallowed_methods, reason = "no decision depends on it")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The epoch, if it was begun on the Redis with this replication id.
pub(super) fn own(epoch: Option<Epoch>, replication: u32) -> Option<Epoch> {
    epoch.filter(|epoch| epoch.replication == replication)
}

pub(super) fn new_epoch(replication: u32) -> Epoch {
    Epoch { replication, nonce: rand::random() }
}

/// Whether entries begin with the last known one.
fn is_continued(entries: &Entries, last: PurgeId) -> bool {
    last == PurgeId::default() || entries.first().is_some_and(|(id, _)| *id == last)
}
