//! Counts the benefit of a cache for a group of requests.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::forget_half;
use super::logged::Logged;
use super::simulation::{Played, Repeated, Simulated};

/// The number of parts of a timeout. The memory in use at one time is counted in such parts.
const PARTS: i64 = 16;

/// The bytes of a stored page besides its body: its key, its head, and the overhead of the store.
const OVERHEAD: u64 = 800;

/// The sums over a group of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// The number of GETs and HEADs.
    pub(super) requests: u64,
    /// Requests whose lines show that the answer is for one visitor.
    pub(super) personal: u64,
    /// Requests for a page that was asked for before.
    repeats: u64,
    /// The repeated requests that came from the page's first visitor.
    own_repeats: u64,
    /// The benefit for each timeout.
    pub(super) brought: Vec<Brought>,
}

/// The counts for one timeout.
#[derive(Clone, Debug, Default)]
pub(super) struct Brought {
    pub(super) hits: u64,
    /// The time that the origin would have saved.
    pub(super) spared: Duration,
    /// The sum of the ages of all pages that would have been served.
    pub(super) age: Duration,
    stored: StoredPages,
}

/// The bytes that are stored at one time.
#[derive(Clone, Debug, Default)]
struct StoredPages {
    /// The bytes that were stored in each part of the last timeout.
    parts: VecDeque<(i64, u64)>,
    now: u64,
    most: u64,
}

impl Tally {
    pub(super) fn count(&mut self, timeouts: &[Duration], logged: &Logged<'_>, played: &Played) {
        self.requests += 1;
        self.personal += u64::from(logged.is_personal);
        self.repeats += u64::from(played.repeated.is_some());
        self.own_repeats += u64::from(played.repeated == Some(Repeated::BySameVisitor));
        self.brought.resize_with(timeouts.len(), Brought::default);
        for ((brought, outcome), timeout) in self.brought.iter_mut().zip(&played.outcomes).zip(timeouts) {
            match outcome {
                Simulated::Hit(age) => {
                    brought.hits += 1;
                    brought.spared += played.cost;
                    brought.age += *age;
                }
                Simulated::Stored => {
                    brought.stored.add(logged.time.as_microsecond(), *timeout, played.bytes + OVERHEAD)
                }
                Simulated::Fetched => {}
            }
        }
    }

    /// Why the pages seem to be for one visitor each. A log with a single visitor says nothing about that.
    pub(super) fn looks_personal(&self, has_several_visitors: bool) -> Option<&'static str> {
        if self.personal * 5 >= self.requests && self.personal > 0 {
            return Some("a user name, or answers that the proxy may not store");
        }
        let has_own_pages = self.repeats >= 10 && self.own_repeats * 10 >= self.repeats * 9;
        (has_own_pages && has_several_visitors).then_some("each page has one visitor")
    }

    /// Adds the sums of another group. Their memory may have peaked at different times, so the sum is an upper bound.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.personal += other.personal;
        self.brought.resize_with(self.brought.len().max(other.brought.len()), Brought::default);
        for (sum, brought) in self.brought.iter_mut().zip(&other.brought) {
            sum.add(brought);
        }
    }
}

impl Brought {
    pub(super) fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.spared += other.spared;
        self.age += other.age;
        self.stored.most += other.stored.most;
    }

    /// The most bytes that were stored at one time.
    pub(super) fn memory(&self) -> u64 {
        self.stored.most
    }
}

impl StoredPages {
    fn add(&mut self, now: i64, timeout: Duration, bytes: u64) {
        let part = now / (timeout.as_micros() as i64 / PARTS).max(1);
        while self.parts.front().is_some_and(|(first, _)| *first <= part - PARTS) {
            self.now -= self.parts.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        match self.parts.back_mut() {
            Some((last, sum)) if *last >= part => *sum += bytes,
            _ => self.parts.push_back((part, bytes)),
        }
        self.now += bytes;
        self.most = self.most.max(self.now);
    }
}

/// A bounded number of groups by name. If there are too many, the ones with the fewest requests are forgotten.
#[derive(Debug)]
pub(super) struct Groups {
    tallies: HashMap<String, Tally>,
    most: usize,
}

impl Groups {
    pub(super) fn new(most: usize) -> Self {
        Self { tallies: HashMap::new(), most }
    }

    /// The tally of a name.
    pub(super) fn of(&mut self, name: &str) -> &mut Tally {
        if !self.tallies.contains_key(name) {
            self.make_room();
            self.tallies.insert(name.to_owned(), Tally::default());
        }
        self.tallies.get_mut(name).expect("inserted above")
    }

    /// The names and tallies. Those with the most hits for the timeout at `slot` come first.
    pub(super) fn best(&self, slot: usize) -> Vec<(&str, &Tally)> {
        let mut best: Vec<_> = self.tallies.iter().map(|(name, tally)| (name.as_str(), tally)).collect();
        let hits = |tally: &Tally| tally.brought.get(slot).map_or(0, |brought| brought.hits);
        best.sort_by(|(a, one), (b, other)| hits(other).cmp(&hits(one)).then(a.cmp(b)));
        best
    }

    /// Forgets the groups with the fewest requests, if there are too many.
    fn make_room(&mut self) {
        if self.tallies.len() >= self.most {
            forget_half(&mut self.tallies, |tally| tally.requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_stored_at_once_are_those_of_one_timeout() {
        let mut stored = StoredPages::default();
        let timeout = Duration::from_secs(16);
        for second in 0..100 {
            stored.add(second * 1_000_000, timeout, 10);
        }
        assert_eq!((stored.now, stored.most), (160, 160));
        stored.add(1_000_000_000, timeout, 1);
        assert_eq!((stored.now, stored.most), (1, 160));
        // A late line counts for the last part.
        stored.add(999_000_000, timeout, 1);
        assert_eq!(stored.now, 2);
    }

    #[test]
    fn pages_that_only_their_first_visitors_repeat_look_personal() {
        let tally = |own_repeats| Tally { requests: 40, repeats: 20, own_repeats, ..Tally::default() };
        assert!(tally(19).looks_personal(true).is_some());
        assert!(tally(17).looks_personal(true).is_none());
        // The log of a single test visitor.
        assert!(tally(20).looks_personal(false).is_none());
        assert!(Tally { requests: 10, personal: 2, ..Tally::default() }.looks_personal(true).is_some());
        assert!(Tally { requests: 11, personal: 2, ..Tally::default() }.looks_personal(true).is_none());
    }

    #[test]
    fn groups_are_bounded_and_those_with_few_requests_go() {
        let mut groups = Groups::new(10);
        groups.of("/often").requests = 1000;
        for number in 0..100 {
            groups.of(&format!("/{number}")).requests += 1;
            assert!(groups.tallies.len() <= 10);
        }
        assert_eq!(groups.of("/often").requests, 1000);
    }
}
