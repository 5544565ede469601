//! The copy of the purge log in this process. Each hit compares its page with it.
//!
//! * Pages are compared only while it is certain that the copy has every purge that was acknowledged 45 ms ago. Else the
//!   request waits until the log has been read.
//! * A page that was found valid is compared again only when the log has grown: until then a hit costs the comparison of
//!   two numbers.

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
    /// How long a page may be stored, and some time more: older entries are of no use.
    pub horizon: Duration,
    /// Whether this process writes epochs into it, and not only reads it.
    pub writes: bool,
}

/// The purge log as far as this process has read it.
pub struct LogCopy {
    pub(crate) settings: PurgeLogSettings,
    marks: RwLock<Marks>,
    /// The last purges of a log that was lost, until it is known which of them the new one lacks.
    lost: Mutex<RecentPurges>,
    /// Grows with each change of the marks.
    generation: AtomicU64,
    certainty: Certainty,
    /// The node of the store on which the log was last read.
    read_on: AtomicU16,
    /// Whether the store has no log for us. Then nothing counts as purged.
    is_off: AtomicBool,
    /// Wakes the reader of the log.
    pub(super) wanted: Notify,
    /// Wakes the requests that wait for it.
    has_read: Notify,
    /// From when the store took a purge until it was read, by the clocks of both.
    lag: Histogram,
}

impl LogCopy {
    /// A copy of a log that has not been read.
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

    /// Compares a page with the purges, by its stamp. `valid_at` is the page's own: the generation at which it was last found
    /// valid, or 0.
    pub(crate) fn verdict(
        &self,
        valid_at: &AtomicU64,
        stamp: Option<&Stamp>,
        names: impl FnOnce() -> PurgeNames,
    ) -> Verdict {
        // Loaded before the comparison: a change that comes meanwhile has the page compared again.
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

    /// The same without memory. A page without a stamp was stored by a proxy that did not purge.
    pub(crate) fn judge(&self, stamp: Option<&Stamp>, names: impl FnOnce() -> PurgeNames) -> Verdict {
        match stamp {
            _ if self.is_off() => Verdict::Valid,
            None => Verdict::Purged,
            Some(stamp) => self.read().judge(stamp, names),
        }
    }

    /// Grows with each entry that is read.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The position that a page gets for which the origin is asked now.
    pub(crate) fn position(&self) -> Option<Position> {
        self.read().position()
    }

    /// Whether everything is known that was acknowledged 45 ms before `now`.
    pub(crate) fn is_certain(&self, now: Instant) -> bool {
        self.certainty.ask(NodeNumber::default(), now) || self.is_off()
    }

    /// Has the log read at once.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits until the log has been read so far that this holds. Returns false at the deadline.
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

    /// Whether the store has no log for us.
    pub(crate) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// Does without the log: the store refuses to read it.
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

    /// The purges with their numbers that a primary with this replication id has lost. There are none if no epoch of another
    /// primary is left: then all pages from before count as purged anyway.
    pub(super) fn missed(&self, replication: u32) -> Vec<(Purge, u64)> {
        let lost = self.lost();
        let marks = self.read();
        if lost.iter().next().is_none() || marks.epochs().all(|epoch| epoch.replication == replication) {
            return Vec::new();
        }
        let known: HashSet<u64> = marks.recent().map(|(_, number)| *number).collect();
        lost.iter().filter(|(_, number)| !known.contains(number)).cloned().collect()
    }

    /// The log lacks nothing of what was lost.
    pub(super) fn forget_lost(&self) {
        *self.lost() = RecentPurges::default();
    }

    /// How late purges were read that came since this process has read the log.
    pub(crate) fn lag(&self) -> Durations {
        self.lag.durations()
    }

    /// Adds entries that follow the last one, and were read now. While the log moves, two readers may read the same ones.
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

    /// Forgets everything but the last purges, which a new primary may lack.
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

/// How old an entry is. Clocks differ: one from the future is new.
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
