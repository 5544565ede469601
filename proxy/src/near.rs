//! The near cache: what was read from the store, decoded, in the memory of this process, as long as the store has it.
//!
//! What is kept is never older than the store's by more than an invalidation takes ([`crate::store`]):
//! * A [`Ticket`] is taken before the store is read. What was changed since then is not kept.
//! * While the invalidations do not come for certain, nothing is served, and once some may have been lost, all is
//!   forgotten.
//! * Nothing is kept beyond the time that the store says it has left.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::key::{Key, PageId, VaryMarker};
use crate::page::stored::StoredPage;
use crate::policy::Rule;
use crate::request::Question;
use crate::store::Listener;
use crate::weight::{ByBytes, Weigh};

/// Changes are noted for groups of keys. A change of another key of the group costs a page its place once; with this
/// many groups a thousand changes a second do so to one read in a thousand.
const GROUPS: usize = 1024;

/// What was read from a store that tells of its changes, up to a limit in bytes.
pub struct Near {
    kept: Cache<Key, Timed, ByBytes>,
    hasher: RandomState,
    /// How often something changed in each group of keys.
    changes: Box<[AtomicU64]>,
    /// How often everything was forgotten.
    emptied: AtomicU64,
    /// Until when invalidations come for certain, in milliseconds since `started`. 0 while they do not come.
    certain: AtomicU64,
    started: Instant,
    /// Whether it was asked since the last look.
    was_asked: AtomicBool,
}

/// What lies under a key.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Page(StoredPage),
    Marker(Arc<VaryMarker>),
}

/// The state of a key before it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    group: usize,
    changes: u64,
    emptied: u64,
}

#[derive(Clone)]
struct Timed {
    kept: Kept,
    until: Instant,
}

impl Weigh for Timed {
    fn weigh(&self) -> usize {
        match &self.kept {
            Kept::Page(page) => page.size(),
            Kept::Marker(marker) => marker.size(),
        }
    }
}

impl Near {
    /// Off, until it hears that changes come for certain.
    pub(crate) fn new(limit: u64) -> Self {
        /// Only the size of the first table.
        const TYPICAL_PAGE: u64 = 16 * 1024;
        let pages = usize::try_from(limit / TYPICAL_PAGE).unwrap_or(usize::MAX);
        Self {
            kept: Cache::with_weighter(pages.clamp(16, 1 << 20), limit, ByBytes),
            hasher: RandomState::new(),
            changes: (0..GROUPS).map(|_| AtomicU64::new(0)).collect(),
            emptied: AtomicU64::new(0),
            certain: AtomicU64::new(0),
            started: Instant::now(),
            was_asked: AtomicBool::new(true),
        }
    }

    /// The page for a question, and the marker that it lies under, if there is one. Whether it is fresh is not asked here.
    pub(crate) fn page(
        &self,
        id: &PageId,
        rule: &Rule,
        question: &Question<'_>,
        now: Instant,
    ) -> Option<(StoredPage, Option<Arc<VaryMarker>>)> {
        let serves = |id: &PageId, page: &StoredPage| id.serves(page.proof(), page.headers(), question, rule);
        let marker = match self.get(id.key_text(), now)? {
            Kept::Page(page) => return serves(id, &page).then_some((page, None)),
            Kept::Marker(marker) => marker,
        };
        let variant = id.variant(&marker, question, rule);
        match self.get(variant.key_text(), now)? {
            Kept::Page(page) => serves(&variant, &page).then_some((page, Some(marker))),
            Kept::Marker(_) => None,
        }
    }

    /// What is kept under a key.
    fn get(&self, key: &[u8], now: Instant) -> Option<Kept> {
        // Read first: to write a line that all workers share at each hit would cost more than the rest.
        if !self.was_asked.load(Ordering::Relaxed) {
            self.was_asked.store(true, Ordering::Relaxed);
        }
        let timed = self.is_certain(now).then(|| self.kept.get(key))??;
        (timed.until > now).then_some(timed.kept)
    }

    /// The leave to keep what will be read under a key. None while changes might not be heard of.
    pub(crate) fn ticket(&self, key: &[u8], now: Instant) -> Option<Ticket> {
        let group = self.group(key);
        let ticket = Ticket { group, changes: self.changes_of(group), emptied: self.emptied() };
        self.is_certain(now).then_some(ticket)
    }

    /// Keeps what was read under a key until then, unless it may have changed since the ticket was taken.
    pub(crate) fn keep(&self, key: &Key, kept: Kept, until: Instant, ticket: Ticket) {
        // First in, then the check: a change that comes between the two finds it there and takes it out.
        self.kept.insert(key.clone(), Timed { kept, until });
        if self.changes_of(ticket.group) != ticket.changes || self.emptied() != ticket.emptied {
            self.kept.remove(key);
        }
    }

    fn emptied(&self) -> u64 {
        self.emptied.load(Ordering::SeqCst)
    }

    fn is_certain(&self, now: Instant) -> bool {
        self.millis(now) < self.certain.load(Ordering::SeqCst)
    }

    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).min(Duration::MAX).as_millis() as u64
    }

    fn group(&self, key: &[u8]) -> usize {
        self.hasher.hash_one(key) as usize % GROUPS
    }

    fn changes_of(&self, group: usize) -> u64 {
        self.changes[group].load(Ordering::SeqCst)
    }
}

impl Listener for Near {
    /// Forgets a key that has changed in the store.
    fn changed(&self, key: &[u8]) {
        // First the note, then out: what is put in afterwards is checked against the note.
        self.changes[self.group(key)].fetch_add(1, Ordering::SeqCst);
        self.kept.remove(key);
    }

    /// Forgets everything.
    fn all_changed(&self) {
        self.emptied.fetch_add(1, Ordering::SeqCst);
        self.kept.clear();
    }

    /// Forgets everything and is off.
    fn lost(&self) {
        self.certain.store(0, Ordering::SeqCst);
        self.all_changed();
    }

    /// On.
    fn certain(&self, until: Instant) {
        self.certain.store(self.millis(until), Ordering::SeqCst);
    }

    fn was_asked(&self) -> bool {
        self.was_asked.swap(false, Ordering::Relaxed)
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near").field("entries", &self.kept.len()).field("bytes", &self.kept.weight()).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;
    use hyper::header::HeaderMap;

    use super::*;
    use crate::page::entry::Entry;

    const MINUTE: Duration = Duration::from_secs(60);

    fn page(size: usize) -> Kept {
        let entry = Entry {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            reason: None,
            body: Bytes::from(vec![b'x'; size]),
            expires: None,
            cost: Duration::ZERO,
            proof: None,
        };
        Kept::Page(entry.into())
    }

    /// One that is on, and holds a page under `a`.
    fn near(now: Instant) -> (Near, Key) {
        let (near, key) = (Near::new(1 << 20), Key::new("a"));
        near.certain(now + 2 * MINUTE);
        near.keep(&key, page(10), now + MINUTE, near.ticket(key.as_bytes(), now).unwrap());
        assert!(near.get(key.as_bytes(), now).is_some());
        (near, key)
    }

    #[test]
    fn what_changed_is_forgotten_and_what_changes_while_it_is_read_is_not_kept() {
        let now = Instant::now();
        let (near, key) = near(now);
        let early = near.ticket(key.as_bytes(), now).unwrap();
        near.changed(b"a");
        assert!(near.get(key.as_bytes(), now).is_none());
        near.keep(&key, page(10), now + MINUTE, early);
        assert!(near.get(key.as_bytes(), now).is_none());
        near.keep(&key, page(10), now + MINUTE, near.ticket(key.as_bytes(), now).unwrap());
        assert!(near.get(key.as_bytes(), now).is_some());
    }

    #[test]
    fn nothing_is_served_past_its_time_or_when_changes_are_not_heard_of() {
        let now = Instant::now();
        let (near, key) = near(now);
        assert!(near.get(key.as_bytes(), now + MINUTE).is_none());
        near.certain(now + Duration::from_secs(1));
        assert!(near.get(key.as_bytes(), now + Duration::from_secs(2)).is_none());
        assert!(near.ticket(key.as_bytes(), now + Duration::from_secs(2)).is_none());
        near.certain(now + MINUTE);
        assert!(
            near.get(key.as_bytes(), now + Duration::from_secs(2)).is_some(),
            "nothing was lost meanwhile"
        );
    }

    #[test]
    fn a_loss_empties_it_and_it_stays_off() {
        let now = Instant::now();
        let (near, key) = near(now);
        let early = near.ticket(key.as_bytes(), now).unwrap();
        near.lost();
        assert!(near.ticket(key.as_bytes(), now).is_none());
        near.certain(now + MINUTE);
        assert!(near.get(key.as_bytes(), now).is_none());
        near.keep(&key, page(10), now + MINUTE, early);
        assert!(near.get(key.as_bytes(), now).is_none(), "read before the loss");
    }

    #[test]
    fn it_keeps_its_limit() {
        let now = Instant::now();
        let (near, _) = near(now);
        for number in 0..1000 {
            let key = Key::new(number.to_string());
            near.keep(&key, page(10_000), now + MINUTE, near.ticket(key.as_bytes(), now).unwrap());
        }
        assert!(near.kept.weight() <= 1 << 20, "{near:?}");
        assert!(near.kept.len() > 50, "{near:?}");
    }
}
