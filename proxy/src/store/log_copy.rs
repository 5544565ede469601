//! The copy of the purge log in this process. Each hit compares its page with it.
//!
//! * Pages are compared only while the copy certainly has every purge that was acknowledged 45 ms ago. Otherwise the request
//!   waits until the log has been read.
//! * A page that was found valid is compared again only when the log has grown. Until then a hit only compares two numbers.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::feed::Certainty;
use super::marks::{Marks, Verdict};
use super::recent_purges::RecentPurges;
use super::{Listener, NodeNumber};
use crate::histogram::{Durations, Histogram};
use crate::key::Key;
use crate::purge::{Epoch, LogEntry, Position, Purge, PurgeId, PurgeNames, Stamp};

/// The settings of the log.
#[derive(Clone, Debug)]
pub struct PurgeLogSettings {
    /// Where it is in the store.
    pub key: Key,
    /// How long a page may be stored, and some reserve. Older entries are of no use.
    pub horizon: Duration,
    /// Whether this process writes epochs into the log, besides reading it.
    pub writes: bool,
}

/// The purge log as far as this process has read it.
pub struct LogCopy {
    pub(crate) settings: PurgeLogSettings,
    marks: RwLock<Marks>,
    /// The last purges of a log that was lost, kept until it is known which of them the new log lacks.
    lost: Mutex<RecentPurges>,
    /// Grows with each change of the marks.
    generation: AtomicU64,
    certainty: Certainty,
    /// The node of the store on which the log was last read.
    read_on: AtomicU16,
    /// Whether the store gives us no log. Then no page counts as purged.
    is_off: AtomicBool,
    /// Wakes the reader of the log.
    pub(super) wanted: Notify,
    /// Wakes the requests that wait for the log to be read.
    has_read: Notify,
    /// The times from when the store took a purge until it was read, by the clocks of both machines.
    lag: Histogram,
}

impl LogCopy {
    /// The copy of a log that has not been read yet.
    pub(super) fn new(settings: PurgeLogSettings) -> Self {
        Self {
            settings,
            marks: RwLock::default(),
            lost: Mutex::default(),
            generation: AtomicU64::new(1),
            certainty: Certainty::of(1),
            read_on: AtomicU16::new(NodeNumber::default().0),
            is_off: AtomicBool::new(false),
            wanted: Notify::new(),
            has_read: Notify::new(),
            lag: Histogram::default(),
        }
    }

    /// Compares a page with the purges, by its stamp. `valid_at` belongs to the page: it is the generation at which the page
    /// was last found valid, or 0.
    pub(crate) fn verdict(
        &self,
        valid_at: &AtomicU64,
        stamp: Option<&Stamp>,
        names: impl FnOnce() -> PurgeNames,
    ) -> Verdict {
        // Loaded before the comparison, so that a change that comes meanwhile makes the page be compared again.
        let generation = self.generation.load(Ordering::Acquire);
        if valid_at.load(Ordering::Relaxed) == generation {
            return Verdict::Valid;
        }
        let verdict = self.judge(stamp, names);
        if verdict == Verdict::Valid {
            valid_at.store(generation, Ordering::Relaxed);
        }
        verdict
    }

    /// Compares a page without remembering the result. A page without a stamp was stored by a proxy that had purging off.
    pub(crate) fn judge(&self, stamp: Option<&Stamp>, names: impl FnOnce() -> PurgeNames) -> Verdict {
        match stamp {
            _ if self.is_off() => Verdict::Valid,
            None => Verdict::Purged,
            Some(stamp) => self.read().judge(stamp, names),
        }
    }

    /// A number that grows with each entry that is read.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The position for the stamp of a page that is fetched now.
    pub(crate) fn position(&self) -> Option<Position> {
        self.read().position()
    }

    /// Whether every purge is known that was acknowledged 45 ms before `now`.
    pub(crate) fn is_certain(&self, now: Instant) -> bool {
        self.certainty.ask(NodeNumber::default(), now) || self.is_off()
    }

    /// Makes the reader read the log at once.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits until `holds` returns true after a read of the log. Returns false at the deadline.
    pub(crate) async fn until(&self, deadline: Instant, holds: impl Fn(&Self) -> bool) -> bool {
        loop {
            let mut read = std::pin::pin!(self.has_read.notified());
            read.as_mut().enable();
            if holds(self) {
                return true;
            }
            self.want();
            if timeout_at(deadline, read).await.is_err() {
                return false;
            }
        }
    }

    /// Whether an entry has been read.
    pub(crate) fn has(&self, id: PurgeId) -> bool {
        self.read().last() >= id
    }

    /// Whether the store gives us no log.
    pub(crate) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// Goes on without the log, since the store refuses to read it.
    pub(super) fn turn_off(&self) {
        self.is_off.store(true, Ordering::Relaxed);
        self.has_read.notify_waiters();
    }

    /// The last entry that was read.
    pub(super) fn last(&self) -> PurgeId {
        self.read().last()
    }

    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.position().map(|position| position.epoch)
    }

    /// The purges, with their numbers, that the primary with this replication id has lost. There are none if no epoch of
    /// another primary is left: then all pages from that time count as purged anyway.
    pub(super) fn missed(&self, replication: u32) -> Vec<(Purge, u64)> {
        let lost = self.lost();
        let marks = self.read();
        if lost.iter().next().is_none() || marks.epochs().all(|epoch| epoch.replication == replication) {
            return Vec::new();
        }
        let known: HashSet<u64> = marks.recent().map(|(_, number)| *number).collect();
        lost.iter().filter(|(_, number)| !known.contains(number)).cloned().collect()
    }

    /// Notes that the log has every purge that was lost.
    pub(super) fn forget_lost(&self) {
        *self.lost() = RecentPurges::default();
    }

    /// How late purges were read that came since this process first read the log.
    pub(crate) fn lag(&self) -> Durations {
        self.lag.durations()
    }

    /// Adds entries that follow the last one and were read just now. While the log moves, two readers may read the same
    /// entries.
    pub(super) fn add(&self, entries: &[(PurgeId, LogEntry)], now: SystemTime) {
        let mut marks = self.write();
        let last = marks.last();
        let entries: Vec<_> = entries.iter().filter(|(id, _)| *id > last).collect();
        if entries.is_empty() {
            return;
        }
        if last != PurgeId::default() {
            let purges = entries.iter().filter(|(_, record)| matches!(record, LogEntry::Purge(..)));
            purges.for_each(|(id, _)| self.lag.count(age(*id, now)));
        }
        entries.into_iter().for_each(|(id, record)| marks.add(*id, record, self.settings.horizon));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Forgets everything except the last purges, which a new primary may lack.
    pub(super) fn start_anew(&self) {
        self.certainty.lose(NodeNumber::default());
        let old = std::mem::take(&mut *self.write());
        self.generation.fetch_add(1, Ordering::Release);
        let mut lost = self.lost();
        old.recent().cloned().for_each(|(purge, number)| lost.push(purge, number));
    }

    fn lost(&self) -> MutexGuard<'_, RecentPurges> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Marks> {
        self.marks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Marks> {
        self.marks.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The age of an entry. Clocks differ, so an entry from the future counts as new.
fn age(id: PurgeId, now: SystemTime) -> Duration {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(id.milliseconds))
}

impl Listener for LogCopy {
    fn changed(&self, key: &[u8]) {
        if key == self.settings.key.as_bytes() {
            self.want();
        }
    }

    fn all_changed(&self, _: NodeNumber) {
        self.want();
    }

    fn lost(&self, node: NodeNumber) {
        if self.read_on.load(Ordering::Relaxed) == node.0 {
            self.certainty.lose(NodeNumber::default());
        }
    }

    fn certain(&self, node: NodeNumber, until: Instant) {
        self.read_on.store(node.0, Ordering::Relaxed);
        self.certainty.extend(NodeNumber::default(), until);
        self.has_read.notify_waiters();
    }

    fn was_asked(&self) -> bool {
        self.certainty.was_asked()
    }
}

impl fmt::Debug for LogCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogCopy").field("position", &self.position()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::{Since, Tags};

    fn copy() -> LogCopy {
        let key = Key::new(b"log".to_vec());
        LogCopy::new(PurgeLogSettings { key, horizon: Duration::from_secs(60), writes: true })
    }

    #[test]
    fn no_page_of_this_process_is_valid_while_a_lost_log_is_read_anew() {
        let copy = copy();
        let id = |number| PurgeId { milliseconds: 1, number };
        let epoch = |nonce| LogEntry::Epoch(Epoch { replication: 1, nonce });
        copy.add(&[(id(1), epoch(1))], UNIX_EPOCH);
        let stamp = Stamp {
            since: Since::Position(copy.position().unwrap()),
            url: "//a/".into(),
            tags: Tags::default(),
        };
        assert_eq!(copy.judge(Some(&stamp), PurgeNames::default), Verdict::Valid);
        copy.start_anew();
        assert_eq!(copy.judge(Some(&stamp), PurgeNames::default), Verdict::Ahead);
        copy.add(&[(id(2), epoch(2))], UNIX_EPOCH);
        assert_eq!(copy.judge(Some(&stamp), PurgeNames::default), Verdict::Purged);
    }

    #[test]
    fn the_lag_of_purges_counts_from_the_first_reading_on() {
        let copy = copy();
        let purge = |milliseconds| {
            let purge = Purge { targets: Vec::new(), is_soft: false, by: String::new() };
            (PurgeId { milliseconds, number: 1 }, LogEntry::Purge(purge, 0))
        };
        let at = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
        copy.add(&[purge(1_000)], at(9_000));
        assert_eq!(copy.lag(), Durations::default(), "it is older than this process");
        copy.add(&[purge(9_000), purge(9_001)], at(9_002));
        copy.add(&[purge(9_500)], at(9_499));
        assert_eq!((copy.lag().count(), copy.lag().microseconds), (3, 3_000));
    }
}
