//! Simulates the proxy: keeps the pages of a log as the proxy would, for several timeouts at once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use smallvec::SmallVec;

use super::forget_half;
use super::logged::Logged;

/// The most pages that are remembered: they take about 80 MB.
const MOST_PAGES: usize = 900_000;

/// The pages that are still fresh for one of the timeouts.
#[derive(Debug)]
pub(super) struct Simulation {
    timeouts: Vec<Duration>,
    pages: HashMap<u64, Page>,
    most_pages: usize,
    is_crowded: bool,
}

#[derive(Debug)]
struct Page {
    /// When it ends, in microseconds since 1970, for each timeout; 0 if it was never stored.
    ends: SmallVec<[i64; 4]>,
    last_visit: i64,
    visitor: u64,
    bytes: u64,
    cost: Duration,
}

/// The outcome of a request.
#[derive(Debug, PartialEq)]
pub(super) struct Played {
    /// The outcome for each timeout.
    pub(super) outcomes: SmallVec<[Simulated; 4]>,
    /// How long the origin takes for the page, as far as the log has durations.
    pub(super) cost: Duration,
    /// The length of the page.
    pub(super) bytes: u64,
    /// Whether the page was asked for before: by the same visitor alone, or by others, too.
    pub(super) repeated: Option<Repeated>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Repeated {
    BySameVisitor,
    ByAnother,
}

/// The outcome of a request, for one timeout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Simulated {
    /// Answered from the cache, with a page of this age.
    Hit(Duration),
    /// Fetched and stored.
    Stored,
    /// Fetched and not stored.
    Fetched,
}

impl Simulation {
    pub(super) fn new(timeouts: Vec<Duration>) -> Self {
        Self { timeouts, pages: HashMap::new(), most_pages: MOST_PAGES, is_crowded: false }
    }

    pub(super) fn timeouts(&self) -> &[Duration] {
        &self.timeouts
    }

    /// Whether pages were forgotten before they ended. The real cache would then do better.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Plays a GET or HEAD of the page that `key` names.
    pub(super) fn play(&mut self, key: &[u8], logged: &Logged<'_>) -> Played {
        let now = logged.time.as_microsecond();
        let (key, visitor) = (hash(key), hash(logged.client.as_bytes()));
        if self.pages.len() >= self.most_pages && !self.pages.contains_key(&key) {
            self.make_room(now);
        }
        let mut is_new = false;
        let page = self.pages.entry(key).or_insert_with(|| {
            is_new = true;
            let ends = SmallVec::from_elem(0, self.timeouts.len());
            Page { ends, last_visit: now, visitor, bytes: 0, cost: Duration::ZERO }
        });
        let repeated = (!is_new).then(|| page.repeated(visitor));
        page.last_visit = page.last_visit.max(now);
        page.learn(logged);
        let is_stored = logged.method == "GET" && logged.is_page();
        let outcome = |(timeout, end): (&Duration, &mut i64)| match page_age(*timeout, *end, now) {
            Some(age) if !logged.is_personal => Simulated::Hit(age),
            _ if logged.is_personal || !is_stored => Simulated::Fetched,
            _ => {
                *end = now.saturating_add(micros(*timeout));
                Simulated::Stored
            }
        };
        let outcomes = self.timeouts.iter().zip(&mut page.ends).map(outcome).collect();
        Played { outcomes, cost: logged.cost.unwrap_or(page.cost), bytes: page.bytes, repeated }
    }

    /// Forgets pages: first those that have ended, then those whose last visit is the longest ago.
    fn make_room(&mut self, now: i64) {
        self.pages.retain(|_, page| page.ends.iter().any(|end| *end > now));
        if self.pages.len() <= self.most_pages / 2 {
            return;
        }
        self.is_crowded = true;
        forget_half(&mut self.pages, |page| page.last_visit);
    }
}

impl Page {
    fn repeated(&mut self, visitor: u64) -> Repeated {
        match self.visitor == visitor {
            true => Repeated::BySameVisitor,
            false => Repeated::ByAnother,
        }
    }

    /// Remembers the size and the cost of the page: lines of hits and of 304s do not have them.
    fn learn(&mut self, logged: &Logged<'_>) {
        if logged.status == 200 && logged.method == "GET" {
            self.bytes = logged.bytes;
        }
        self.cost = logged.cost.unwrap_or(self.cost);
    }
}

/// The age of a page at `now`, if it is still stored. A log may have a later request first.
fn page_age(timeout: Duration, end: i64, now: i64) -> Option<Duration> {
    let stored = end - micros(timeout);
    (now < end).then(|| Duration::from_micros(now.saturating_sub(stored).try_into().unwrap_or(0)))
}

fn micros(duration: Duration) -> i64 {
    duration.as_micros().try_into().unwrap_or(i64::MAX / 4)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn logged(second: i64, client: &'static str) -> Logged<'static> {
        Logged {
            time: Timestamp::from_second(1_000_000 + second).unwrap(),
            client: client.into(),
            method: "GET".into(),
            target: "/".into(),
            status: 200,
            bytes: 100,
            cost: Some(Duration::from_millis(20)),
            ..Logged::default()
        }
    }

    fn simulation() -> Simulation {
        Simulation::new([10, 60].map(Duration::from_secs).to_vec())
    }

    #[test]
    fn a_page_is_a_hit_until_its_timeout_and_its_age_is_counted() {
        let hit = |seconds| Simulated::Hit(Duration::from_secs(seconds));
        let mut simulation = simulation();
        for (second, expected) in [
            (0, [Simulated::Stored, Simulated::Stored]),
            (9, [hit(9), hit(9)]),
            (10, [Simulated::Stored, hit(10)]),
            (59, [Simulated::Stored, hit(59)]),
            (60, [hit(1), Simulated::Stored]),
            // The lines of a log are not strictly in order.
            (58, [hit(0), hit(0)]),
        ] {
            assert_eq!(simulation.play(b"k", &logged(second, "a")).outcomes[..], expected, "{second}");
        }
        assert_eq!(simulation.play(b"other", &logged(61, "a")).outcomes[..], [Simulated::Stored; 2]);
    }

    #[test]
    fn what_may_not_be_stored_is_fetched() {
        for change in [
            (|logged| logged.is_personal = true) as fn(&mut Logged<'_>),
            |logged| logged.status = 404,
            |logged| logged.method = "HEAD".into(),
        ] {
            let mut odd = logged(0, "a");
            change(&mut odd);
            let mut simulation = simulation();
            assert_eq!(simulation.play(b"k", &odd).outcomes[..], [Simulated::Fetched; 2]);
            assert_eq!(simulation.play(b"k", &logged(1, "a")).outcomes[..], [Simulated::Stored; 2]);
        }
        let mut simulation = simulation();
        simulation.play(b"k", &logged(0, "a"));
        let with_name = Logged { is_personal: true, ..logged(1, "a") };
        assert_eq!(simulation.play(b"k", &with_name).outcomes[..], [Simulated::Fetched; 2]);
    }

    #[test]
    fn visitors_costs_and_sizes_are_remembered() {
        let mut simulation = simulation();
        assert_eq!(simulation.play(b"k", &logged(0, "a")).repeated, None);
        let cached = Logged { cost: None, status: 304, bytes: 0, ..logged(1, "a") };
        let played = simulation.play(b"k", &cached);
        assert_eq!((played.repeated, played.bytes), (Some(Repeated::BySameVisitor), 100));
        assert_eq!(played.cost, Duration::from_millis(20));
        assert_eq!(simulation.play(b"k", &logged(2, "b")).repeated, Some(Repeated::ByAnother));
    }

    #[test]
    fn memory_is_bounded_and_pages_that_have_ended_go_first() {
        let mut simulation = Simulation { most_pages: 100, ..simulation() };
        let key = |number: i64| number.to_ne_bytes();
        for number in 0..100 {
            simulation.play(&key(number), &logged(0, "a"));
        }
        simulation.play(&key(-1), &logged(60, "a"));
        assert!(simulation.pages.len() == 1 && !simulation.is_crowded());
        for number in 0..1000 {
            simulation.play(&key(number), &logged(61 + number / 100, "a"));
            assert!(simulation.pages.len() <= 100);
        }
        assert!(simulation.is_crowded());
        assert_eq!(
            simulation.play(&key(999), &logged(71, "a")).outcomes[1],
            Simulated::Hit(Duration::from_secs(1))
        );
    }
}
