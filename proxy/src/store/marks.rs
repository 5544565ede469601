//! The last purge of each name in the purge log, found by the hash of the name.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use super::recent_purges::RecentPurges;
use crate::purge::{Epoch, LogEntry, Position, Purge, PurgeId, PurgeNames, Since, Stamp, Target, TargetKind};

/// The most names that are remembered, at about 50 bytes each. If there are more, all pages so far count as purged.
const MOST: usize = 1_000_000;

/// Used in place of a kind, for the last purge of any query of a path.
const QUERIES: &str = "queries";

/// How far the clock of a Django may be ahead of the store's: the `Expires` of its pages says when they were made.
const SKEW: u64 = 2;

/// How the purges affect a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// No purge has named it.
    Valid,
    /// A soft purge has named it: it is past its time since then, in seconds since 1970.
    Stale(u64),
    /// A purge has named it: the page counts as absent.
    Purged,
    /// The page was stored by a proxy that has read more of the log.
    Ahead,
}

/// The last purges of a name.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    hard: PurgeId,
    soft: PurgeId,
}

impl Mark {
    fn add(&mut self, id: PurgeId, is_soft: bool) {
        let last = if is_soft { &mut self.soft } else { &mut self.hard };
        *last = id.max(*last);
    }

    fn last(self) -> PurgeId {
        self.hard.max(self.soft)
    }

    fn and(self, other: Self) -> Self {
        Self { hard: self.hard.max(other.hard), soft: self.soft.max(other.soft) }
    }
}

/// The beginning of an epoch.
#[derive(Clone, Copy, Debug)]
struct EpochStart {
    epoch: Epoch,
    /// The last entry before the epoch.
    before: PurgeId,
}

/// The purges that this process has read. Each purge costs the same, however many pages it names.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The last purges of each name, by the hash of its kind and value. If two names have the same hash, a page may be a
    /// needless miss.
    names: HashMap<u64, Mark>,
    hasher: RandomState,
    /// The lengths of the prefixes, and the last purge of each length.
    lengths: BTreeMap<usize, PurgeId>,
    all: Mark,
    epochs: Vec<EpochStart>,
    /// Pages from before this entry count as purged, since nobody knows the entries before it.
    first: PurgeId,
    /// The last entry.
    last: PurgeId,
    /// The last entry that is a purge.
    newest: PurgeId,
    recent: RecentPurges,
}

impl Marks {
    /// The last entry, with its epoch.
    pub(super) fn position(&self) -> Option<Position> {
        Some(Position { epoch: self.epochs.last()?.epoch, id: self.last })
    }

    pub(super) fn last(&self) -> PurgeId {
        self.last
    }

    /// The epochs that pages may belong to.
    pub(super) fn epochs(&self) -> impl Iterator<Item = Epoch> {
        self.epochs.iter().map(|start| start.epoch)
    }

    pub(super) fn recent(&self) -> impl Iterator<Item = &(Purge, u64)> {
        self.recent.iter()
    }

    /// Adds an entry, which follows the last one. Entries older than `horizon` are forgotten from time to time.
    pub(super) fn add(&mut self, id: PurgeId, record: &LogEntry, horizon: Duration) {
        if self.last == PurgeId::default() {
            self.first = id;
        }
        let before = std::mem::replace(&mut self.last, id);
        match record {
            LogEntry::Epoch(epoch) => {
                if self.epochs.last().is_none_or(|last| last.epoch != *epoch) {
                    self.epochs.push(EpochStart { epoch: *epoch, before });
                }
                let horizon = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
                self.forget(PurgeId { milliseconds: id.milliseconds.saturating_sub(horizon), number: 0 });
            }
            LogEntry::Purge(purge, number) => self.add_purge(id, purge, *number),
        }
        if self.names.len() > MOST {
            self.forget(id);
        }
    }

    fn add_purge(&mut self, id: PurgeId, purge: &Purge, number: u64) {
        self.newest = id;
        for target in &purge.targets {
            match target.kind {
                TargetKind::All => self.all.add(id, purge.is_soft),
                kind => {
                    let queries = path_of(target).map(|path| self.hash(QUERIES, path));
                    for name in [Some(self.hash(kind, &target.value)), queries].into_iter().flatten() {
                        self.names.entry(name).or_default().add(id, purge.is_soft);
                    }
                }
            }
            if target.kind == TargetKind::Prefix {
                self.lengths.insert(target.value.len(), id);
            }
        }
        self.recent.push(purge.clone(), number);
    }

    /// Forgets everything older than an entry. Pages from before it count as purged.
    fn forget(&mut self, before: PurgeId) {
        if before <= self.first {
            return;
        }
        self.first = before;
        self.names.retain(|_, mark| mark.last() >= before);
        self.names.shrink_to(2 * self.names.len());
        self.lengths.retain(|_, last| *last >= before);
        // The epoch that contains `before` is still needed.
        let ended = self.epochs.iter().skip(1).take_while(|next| next.before < before).count();
        self.epochs.drain(..ended);
    }

    /// Compares a page with the purges. `names` returns the names of the page besides those in its stamp.
    pub(super) fn judge(&self, stamp: &Stamp, names: impl FnOnce() -> PurgeNames) -> Verdict {
        let since = match self.since(stamp.since) {
            Ok(since) if since >= self.newest => return Verdict::Valid,
            Ok(since) => since,
            Err(verdict) => return verdict,
        };
        let mark = self.mark(stamp, &names());
        match () {
            () if mark.hard > since => Verdict::Purged,
            () if mark.soft > since => Verdict::Stale(mark.soft.milliseconds / 1000),
            () => Verdict::Valid,
        }
    }

    /// The entry after which purges count for a page, or the verdict if there is no such entry.
    fn since(&self, since: Since) -> Result<PurgeId, Verdict> {
        let id = match since {
            Since::Time(seconds) => {
                PurgeId { milliseconds: seconds.saturating_sub(SKEW).saturating_mul(1000), number: 0 }
            }
            Since::Position(position) => {
                self.is_continuous(position)?;
                position.id
            }
        };
        if id < self.first { Err(Verdict::Purged) } else { Ok(id) }
    }

    /// Whether ids can be compared with this position: it is in the last epoch, or before the end of an earlier one. Entries
    /// after that end are lost, and a new primary may give their ids to other entries.
    fn is_continuous(&self, position: Position) -> Result<(), Verdict> {
        let Some(at) = self.epochs.iter().rposition(|start| start.epoch == position.epoch) else {
            return Err(if position.id > self.last { Verdict::Ahead } else { Verdict::Purged });
        };
        match self.epochs.get(at + 1) {
            Some(next) if position.id > next.before => Err(Verdict::Purged),
            None if position.id > self.last => Err(Verdict::Ahead),
            _ => Ok(()),
        }
    }

    /// The last purges of all names of a page.
    fn mark(&self, stamp: &Stamp, names: &PurgeNames) -> Mark {
        let url = &*stamp.url;
        let (path, host) = (url.split('?').next().unwrap_or(url), host(url));
        let exact = if path.len() == url.len() { format!("{url}?") } else { url.to_owned() };
        let named = |kind, value: &[u8]| self.named(kind, value);
        let tags = stamp.tags.iter().map(|tag| named(TargetKind::Tag, tag));
        let group = |group: &String| named(TargetKind::Group, format!("{host} {group}").as_bytes());
        let groups = names.groups.iter().map(group);
        let queries = names.has_queries.then(|| self.mark_of(self.hash(QUERIES, path.as_bytes())));
        let beginnings = self.lengths.keys().map_while(|&length| url.as_bytes().get(..length));
        let prefixes = beginnings.map(|beginning| named(TargetKind::Prefix, beginning));
        let of_url = [
            named(TargetKind::Url, exact.as_bytes()),
            named(TargetKind::Url, path.as_bytes()),
            named(TargetKind::Origin, host.as_bytes()),
        ];
        of_url.into_iter().chain(queries).chain(tags).chain(groups).chain(prefixes).fold(self.all, Mark::and)
    }

    fn named(&self, kind: TargetKind, value: &[u8]) -> Mark {
        self.mark_of(self.hash(kind, value))
    }

    fn mark_of(&self, name: u64) -> Mark {
        self.names.get(&name).copied().unwrap_or_default()
    }

    fn hash(&self, kind: impl Hash, value: &[u8]) -> u64 {
        self.hasher.hash_one((kind, value))
    }
}

/// The URL of the path, if the target has a query or the beginning of one.
fn path_of(target: &Target) -> Option<&[u8]> {
    let names_urls = matches!(target.kind, TargetKind::Url | TargetKind::Prefix);
    let end = target.value.iter().position(|&byte| byte == b'?').filter(|_| names_urls)?;
    target.value.get(..end)
}

/// The host of a page's URL, with the slashes before it.
fn host(url: &str) -> &str {
    let end = url.get(2..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| at + 2);
    &url[..end]
}
