//! The near cache: pages and markers that were read from the store, decoded, in the memory of this process for as long
//! as the store has them unchanged.
//!
//! The near cache is behind the store by no more than the time that an invalidation takes ([`crate::store`]):
//! * A [`Ticket`] is taken before the store is read. A key that has changed since then is not kept.
//! * Nothing of a node is served while its invalidations might not arrive, and everything of it is dropped once one may
//!   have been lost, or once one of its keys has moved to another node.
//! * An entry ends when the store's own entry ends.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::key::{Key, PageId, VaryMarker};
use crate::page::stored::StoredPage;
use crate::policy::Rule;
use crate::request::Question;
use crate::store::{Certainty, Listener, NodeNumber, SHARED_MEMORY};
use crate::weight::{self, Bounded, Evictions, Weigh};

/// Changes are counted for groups of keys. A change of another key in its group keeps a page out once; with this many
/// groups, a thousand changes a second affect one read in a thousand.
const GROUPS: usize = 1024;

/// The part of the cache that one page may take. Pages on their way to clients are in memory beside the kept ones: with this
/// many pages of the largest size they take as much memory as the cache.
const PART: u64 = 96;

/// A page of up to this many bytes is kept in any case.
const ALWAYS: u64 = 256 << 10;

/// Pages and markers of a store that reports its changes, up to a limit in bytes.
pub(crate) struct Near {
    kept: Bounded<Key, Timed>,
    evictions: Evictions,
    /// The largest page that is kept, in bytes.
    largest: u64,
    hasher: RandomState,
    /// The number of changes in each group of keys.
    changes: Box<[AtomicU64]>,
    /// The number of times that everything of a node was dropped.
    emptied: AtomicU64,
    /// The changes that the store has reported, and how often reports might not arrive.
    invalidations: AtomicU64,
    lost: AtomicU64,
    /// The time until which invalidations of each node are certain to arrive.
    certainty: Certainty,
}

/// A page or a marker, as it is kept under its key.
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
    node: NodeNumber,
}

/// The contents of a near cache, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NearState {
    /// The number of pages and markers.
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
    /// Whether changes of a node are certain to arrive, so that its pages are served.
    pub(crate) is_certain: bool,
    /// The changes of keys that the store has told of.
    pub(crate) invalidations: u64,
    /// How often changes no longer arrived.
    pub(crate) lost: u64,
    /// The pages and markers that were dropped to make room.
    pub(crate) evictions: u64,
}

#[derive(Clone)]
struct Timed {
    kept: Kept,
    until: Instant,
    /// The node that it was read from.
    node: NodeNumber,
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
    /// A near cache, off until changes are certain to arrive. Pages have up to `largest` bytes; a small cache leaves out the
    /// large ones.
    pub(crate) fn new(limit: u64, largest: u64) -> Self {
        let largest = largest.min(ALWAYS.max(limit / PART));
        let evictions = Evictions::default();
        Self {
            kept: weight::cache(limit, largest, &evictions),
            evictions,
            largest,
            hasher: RandomState::new(),
            changes: (0..GROUPS).map(|_| AtomicU64::new(0)).collect(),
            emptied: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            certainty: Certainty::of(NodeNumber::COUNT),
        }
    }

    /// The page for a question, and its marker, if there is one. The page may be stale: this does not judge it.
    pub(crate) fn page(
        &self,
        id: &PageId,
        rule: &Rule,
        question: &Question<'_>,
        now: Instant,
    ) -> Option<(StoredPage, Option<Arc<VaryMarker>>)> {
        let serves = |id: &PageId, page: &StoredPage| id.serves(page.proof(), page.headers(), question, rule);
        let of_path = || self.get(id.of_path(rule)?.key_text(), now);
        let marker = match self.get(id.key_text(), now).or_else(of_path)? {
            Kept::Page(page) => return serves(id, &page).then_some((page, None)),
            Kept::Marker(marker) => marker,
        };
        let variant = id.variant(&marker, question, rule);
        match self.get(variant.key_text(), now)? {
            Kept::Page(page) => serves(&variant, &page).then_some((page, Some(marker))),
            Kept::Marker(_) => None,
        }
    }

    fn get(&self, key: &[u8], now: Instant) -> Option<Kept> {
        let timed = self.kept.get(key)?;
        (self.certainty.ask(timed.node, now) && timed.until > now).then_some(timed.kept)
    }

    /// Its contents now, counted.
    pub(crate) fn state(&self) -> NearState {
        let now = Instant::now();
        NearState {
            entries: self.kept.len(),
            bytes: self.kept.weight(),
            is_certain: (0..NodeNumber::COUNT).any(|node| self.certainty.is_certain(NodeNumber(node), now)),
            invalidations: self.invalidations.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            evictions: self.evictions.count(),
        }
    }

    /// The right to keep the value that will be read under a key. `None` while changes might not arrive. `node` returns the
    /// node that has the key. It is called after the losses were counted, so a move of the key since then counts as a loss.
    pub(crate) fn ticket(
        &self,
        key: &[u8],
        now: Instant,
        node: impl FnOnce() -> NodeNumber,
    ) -> Option<Ticket> {
        let group = self.group(key);
        let (changes, emptied) = (self.changes_of(group), self.emptied());
        let node = node();
        self.certainty.is_certain(node, now).then_some(Ticket { group, changes, emptied, node })
    }

    /// Keeps a page or marker that was read under a key, unless it is too large, or the key may have changed since the ticket
    /// was taken.
    pub(crate) fn keep(&self, key: &Key, kept: Kept, until: Instant, ticket: Ticket) {
        let mut timed = Timed { kept, until, node: ticket.node };
        if timed.weigh() as u64 > self.largest {
            return;
        }
        // A short page may be a slice of memory that it shares with others, and would hold all of it.
        if let Kept::Page(page) = &mut timed.kept {
            *page = page.apart(SHARED_MEMORY);
        }
        // Inserted before the check: a change that arrives between the two finds the entry and removes it.
        self.kept.insert(key.clone(), timed);
        if self.changes_of(ticket.group) != ticket.changes || self.emptied() != ticket.emptied {
            self.kept.remove(key);
        }
    }

    fn emptied(&self) -> u64 {
        self.emptied.load(Ordering::SeqCst)
    }

    fn group(&self, key: &[u8]) -> usize {
        self.hasher.hash_one(key) as usize % GROUPS
    }

    fn changes_of(&self, group: usize) -> u64 {
        self.changes[group].load(Ordering::SeqCst)
    }
}

impl Listener for Near {
    /// Drops a key that has changed in the store.
    fn changed(&self, key: &[u8]) {
        // Counted before the removal: an entry that is inserted later is checked against the count.
        self.changes[self.group(key)].fetch_add(1, Ordering::SeqCst);
        self.invalidations.fetch_add(1, Ordering::Relaxed);
        self.kept.remove(key);
    }

    /// Drops every entry that was read from a node.
    fn all_changed(&self, node: NodeNumber) {
        self.emptied.fetch_add(1, Ordering::SeqCst);
        self.kept.retain(|_, timed| timed.node != node);
    }

    /// Drops every entry that was read from a node, and serves none from it until changes are certain again.
    fn lost(&self, node: NodeNumber) {
        self.certainty.lose(node);
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.all_changed(node);
    }

    /// Serves entries that were read from a node, until that time.
    fn certain(&self, node: NodeNumber, until: Instant) {
        self.certainty.extend(node, until);
    }

    fn was_asked(&self) -> bool {
        self.certainty.was_asked()
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near").field("entries", &self.kept.len()).field("bytes", &self.kept.weight()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::page::entry::Entry;

    const MINUTE: Duration = Duration::from_secs(60);

    fn page(size: usize) -> Kept {
        Kept::Page(Entry::of_body(vec![b'x'; size]).into())
    }

    const FIRST: NodeNumber = NodeNumber(0);

    fn ticket(near: &Near, key: &Key, now: Instant) -> Option<Ticket> {
        near.ticket(key.as_bytes(), now, || FIRST)
    }

    /// A near cache that is on and holds a page under `a`.
    fn near(now: Instant) -> (Near, Key) {
        let (near, key) = (Near::new(1 << 20, 16 << 10), Key::new("a"));
        near.certain(FIRST, now + 2 * MINUTE);
        near.keep(&key, page(10), now + MINUTE, ticket(&near, &key, now).unwrap());
        assert!(near.get(key.as_bytes(), now).is_some());
        (near, key)
    }

    #[test]
    fn a_changed_key_is_dropped_and_a_key_that_changes_during_its_read_is_not_kept() {
        let now = Instant::now();
        let (near, key) = near(now);
        let early = ticket(&near, &key, now).unwrap();
        near.changed(b"a");
        assert!(near.get(key.as_bytes(), now).is_none());
        near.keep(&key, page(10), now + MINUTE, early);
        assert!(near.get(key.as_bytes(), now).is_none());
        near.keep(&key, page(10), now + MINUTE, ticket(&near, &key, now).unwrap());
        assert!(near.get(key.as_bytes(), now).is_some());
    }

    #[test]
    fn nothing_is_served_past_its_ttl_or_while_changes_may_be_missed() {
        let now = Instant::now();
        let (near, key) = near(now);
        assert!(near.get(key.as_bytes(), now + MINUTE).is_none());
        near.certain(FIRST, now + Duration::from_secs(1));
        assert!(near.get(key.as_bytes(), now + Duration::from_secs(2)).is_none());
        assert!(ticket(&near, &key, now + Duration::from_secs(2)).is_none());
        near.certain(FIRST, now + MINUTE);
        assert!(
            near.get(key.as_bytes(), now + Duration::from_secs(2)).is_some(),
            "nothing was lost meanwhile"
        );
    }

    #[test]
    fn a_lost_feed_empties_the_near_cache_and_turns_it_off() {
        let now = Instant::now();
        let (near, key) = near(now);
        let early = ticket(&near, &key, now).unwrap();
        near.lost(FIRST);
        assert!(ticket(&near, &key, now).is_none());
        near.certain(FIRST, now + MINUTE);
        assert!(near.get(key.as_bytes(), now).is_none());
        near.keep(&key, page(10), now + MINUTE, early);
        assert!(near.get(key.as_bytes(), now).is_none(), "read before the loss");
    }

    #[test]
    fn a_lost_node_takes_what_was_read_from_it_and_nothing_else() {
        let now = Instant::now();
        let (near, key) = near(now);
        let (other, second) = (Key::new("b"), NodeNumber(1));
        near.certain(second, now + MINUTE);
        let from_second = |near: &Near| near.ticket(other.as_bytes(), now, || second);
        near.keep(&other, page(10), now + MINUTE, from_second(&near).unwrap());
        near.lost(FIRST);
        assert!(near.get(key.as_bytes(), now).is_none() && near.get(other.as_bytes(), now).is_some());
        // The key moves while it is read.
        let early = from_second(&near).unwrap();
        near.lost(second);
        near.certain(second, now + MINUTE);
        near.keep(&other, page(10), now + MINUTE, early);
        assert!(near.get(other.as_bytes(), now).is_none());
        assert!(near.ticket(b"c", now, || NodeNumber(u16::MAX)).is_none(), "more nodes than are counted");
    }

    #[test]
    fn a_small_near_cache_leaves_large_pages_to_the_store() {
        let now = Instant::now();
        for (limit, size, is_kept) in [
            (44 << 20, 200_000, true),
            (44 << 20, 900_000, false),
            (88 << 20, 900_000, true),
            (1 << 30, 2_000_000, false),
        ] {
            let (near, key) = (Near::new(limit, 1 << 20), Key::new("a"));
            near.certain(FIRST, now + MINUTE);
            near.keep(&key, page(size), now + MINUTE, ticket(&near, &key, now).unwrap());
            assert_eq!(near.get(key.as_bytes(), now).is_some(), is_kept, "{limit} {size}");
        }
    }

    #[test]
    fn the_near_cache_stays_below_its_limit() {
        let now = Instant::now();
        let (near, _) = near(now);
        for number in 0..1000 {
            let key = Key::new(number.to_string());
            near.keep(&key, page(10_000), now + MINUTE, ticket(&near, &key, now).unwrap());
        }
        assert!(near.kept.weight() <= 1 << 20, "{near:?}");
        assert!(near.kept.len() > 50, "{near:?}");
        let state = near.state();
        assert_eq!(state.evictions, 1001 - state.entries as u64, "each page is there, or was evicted");
    }
}
