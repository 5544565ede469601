//! The figures of a proxy: counted by each worker in cells of its own, and added up when they are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use server::PerWorker;

use crate::histogram::{Durations, Histogram};
use crate::status::Outcome;

const OUTCOMES: usize = Outcome::ALL.len();

/// The facts of one request that the figures need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedRequest {
    pub(crate) outcome: Outcome,
    pub(crate) status: StatusCode,
    /// The index of its rule, if it has one.
    pub(crate) rule: Option<usize>,
    /// Why the cache was left out, if it was.
    pub(crate) detail: Option<&'static str>,
    /// The length of the answer's body.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// Whether its page came from the near cache.
    pub(crate) is_near: bool,
}

/// The cells of all workers, for the rules in force.
#[derive(Clone, Debug)]
pub(crate) struct RequestCounts(Arc<PerWorker<Arc<Cells>>>);

/// The cells of one worker. No other thread writes them, so that counting never waits.
#[derive(Debug)]
pub(crate) struct Cells {
    /// By rule. The last one is for requests without a rule.
    rules: Box<[RuleCells]>,
    all: Arc<AllCells>,
}

/// The cells of one rule. They outlast a change of its settings.
#[derive(Clone, Debug)]
struct RuleCells {
    path: String,
    requests: Arc<[AtomicU64; OUTCOMES]>,
}

/// The cells of all requests, whatever their rule.
#[derive(Debug, Default)]
struct AllCells {
    /// The answers by class, from 1xx to 5xx.
    classes: [AtomicU64; 5],
    /// By the fixed names of [`CacheStatus`](crate::status::CacheStatus). Only requests that are not hits take the lock.
    details: Mutex<BTreeMap<&'static str, u64>>,
    bytes: AtomicU64,
    /// The bytes of request bodies. The bodies add to it as they are read.
    bytes_in: Arc<AtomicU64>,
    near_hits: AtomicU64,
    durations: [Histogram; OUTCOMES],
}

/// The sum over all workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) requests: Vec<[u64; OUTCOMES]>,
    pub(crate) classes: [u64; 5],
    pub(crate) details: BTreeMap<&'static str, u64>,
    pub(crate) bytes: u64,
    /// The bytes of request bodies.
    pub(crate) bytes_in: u64,
    /// Requests that were answered from the near cache.
    pub(crate) near_hits: u64,
    pub(crate) durations: [Durations; OUTCOMES],
}

impl RequestCounts {
    /// Cells for rules with these paths.
    pub(crate) fn new(rules: &[String]) -> Self {
        let none = Cells { rules: Box::default(), all: Arc::default() };
        Self(Arc::new(PerWorker::new(|_| Arc::new(Cells { all: Arc::default(), ..none.with_rules(rules) }))))
    }

    /// The same cells for new rules. A rule whose path was there before goes on counting.
    pub(crate) fn with_rules(&self, rules: &[String]) -> Self {
        Self(Arc::new(PerWorker::new(|worker| Arc::new(self.0.all()[worker].with_rules(rules)))))
    }

    /// The cells of the calling worker.
    pub(crate) fn own(&self) -> &Arc<Cells> {
        self.0.own()
    }

    /// Adds up the cells of all workers.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.0.all().iter().for_each(|cells| cells.add_to(&mut totals));
        totals
    }
}

impl Totals {
    /// The requests of each outcome.
    pub(crate) fn by_outcome(&self) -> [u64; OUTCOMES] {
        self.durations.map(|durations| durations.count())
    }
}

impl Cells {
    fn with_rules(&self, paths: &[String]) -> Self {
        let mut known: Vec<_> = self.rules.to_vec();
        let cells = |path: &str| match known.iter().position(|rule| rule.path == path) {
            Some(at) => known.swap_remove(at),
            None => RuleCells { path: path.to_owned(), requests: Arc::default() },
        };
        // The empty path stands for requests without a rule.
        Self {
            rules: paths.iter().map(String::as_str).chain([""]).map(cells).collect(),
            all: self.all.clone(),
        }
    }

    /// The counter for the bytes of request bodies.
    pub(crate) fn bytes_in(&self) -> Arc<AtomicU64> {
        self.all.bytes_in.clone()
    }

    /// Counts a request.
    pub(crate) fn count(&self, request: &CountedRequest) {
        let outcome = request.outcome as usize;
        let rule = request.rule.unwrap_or(self.rules.len() - 1);
        let all = &*self.all;
        if let Some(rule) = self.rules.get(rule) {
            rule.requests[outcome].fetch_add(1, Relaxed);
        }
        let class = usize::from(request.status.as_u16() / 100);
        if let Some(class) = all.classes.get(class.wrapping_sub(1)) {
            class.fetch_add(1, Relaxed);
        }
        if let Some(detail) = request.detail {
            *all.details.lock().unwrap_or_else(PoisonError::into_inner).entry(detail).or_default() += 1;
        }
        all.bytes.fetch_add(request.bytes, Relaxed);
        if request.is_near {
            all.near_hits.fetch_add(1, Relaxed);
        }
        all.durations[outcome].count(request.took);
    }

    fn add_to(&self, totals: &mut Totals) {
        totals.requests.resize(self.rules.len(), Default::default());
        for (sums, rule) in totals.requests.iter_mut().zip(&self.rules) {
            add_all(sums, loaded(&*rule.requests));
        }
        self.all.add_to(totals);
    }
}

impl AllCells {
    fn add_to(&self, totals: &mut Totals) {
        add_all(&mut totals.classes, loaded(&self.classes));
        for (&detail, count) in &*self.details.lock().unwrap_or_else(PoisonError::into_inner) {
            *totals.details.entry(detail).or_default() += count;
        }
        totals.bytes += self.bytes.load(Relaxed);
        totals.bytes_in += self.bytes_in.load(Relaxed);
        totals.near_hits += self.near_hits.load(Relaxed);
        for (sums, histogram) in totals.durations.iter_mut().zip(&self.durations) {
            sums.add(&histogram.durations());
        }
    }
}

fn loaded(cells: &[AtomicU64]) -> impl Iterator<Item = u64> {
    cells.iter().map(|cell| cell.load(Relaxed))
}

fn add_all(sums: &mut [u64], added: impl Iterator<Item = u64>) {
    sums.iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::BOUNDS;

    fn event(outcome: Outcome, rule: Option<usize>, took: u64) -> CountedRequest {
        let (status, took) = (StatusCode::OK, Duration::from_micros(took));
        CountedRequest {
            outcome,
            status,
            rule,
            detail: None,
            bytes: 10,
            took,
            is_near: outcome == Outcome::Hit,
        }
    }

    #[test]
    fn the_cells_of_all_workers_are_added_up() {
        let rules = ["/a/", "/b/"].map(str::to_owned);
        let counts = RequestCounts::new(&rules);
        for cells in counts.0.all() {
            cells.count(&event(Outcome::Hit, Some(1), 50));
            cells.count(&CountedRequest { detail: Some("no-rule"), ..event(Outcome::Bypass, None, 51) });
            cells.count(&CountedRequest {
                status: StatusCode::BAD_GATEWAY,
                ..event(Outcome::Error, Some(0), 20_000_000)
            });
        }
        let workers = counts.0.all().len() as u64;
        let totals = counts.totals();
        let expected = [(0, Outcome::Error), (1, Outcome::Hit), (2, Outcome::Bypass)];
        for (rule, outcome) in expected {
            assert_eq!(totals.requests[rule][outcome as usize], workers);
        }
        assert_eq!(totals.by_outcome().iter().sum::<u64>(), 3 * workers);
        assert_eq!((totals.classes, totals.bytes), ([0, 2 * workers, 0, 0, workers], 30 * workers));
        assert_eq!(totals.near_hits, workers);
        assert_eq!(totals.details, BTreeMap::from([("no-rule", workers)]));
        for (outcome, bucket) in [(Outcome::Hit, 0), (Outcome::Bypass, 1), (Outcome::Error, BOUNDS.len())] {
            assert_eq!(totals.durations[outcome as usize].buckets[bucket], workers);
        }
        assert_eq!(totals.durations[Outcome::Bypass as usize].microseconds, 51 * workers);
    }

    #[test]
    fn a_rule_goes_on_counting_where_its_path_stays() {
        let [first, second] = [["/a/", "/b/"], ["/b/", "/c/"]].map(|paths| paths.map(str::to_owned));
        let before = RequestCounts::new(&first);
        before.own().count(&event(Outcome::Hit, Some(1), 1));
        before.own().count(&event(Outcome::Hit, Some(0), 1));
        let after = before.with_rules(&second);
        // A request that began with the rules of before.
        before.own().count(&event(Outcome::Hit, Some(1), 1));
        after.own().count(&event(Outcome::Bypass, None, 1));
        let totals = after.totals();
        let hits: Vec<_> = totals.requests.iter().map(|row| row[Outcome::Hit as usize]).collect();
        assert_eq!((hits, totals.requests[2][Outcome::Bypass as usize]), (vec![2, 0, 0], 1));
        assert_eq!((totals.by_outcome()[Outcome::Hit as usize], totals.bytes), (3, 40));
    }

    #[test]
    fn a_rule_without_a_cell_leaves_the_other_figures_right() {
        let counts = RequestCounts::new(&[]);
        counts.own().count(&event(Outcome::Hit, Some(7), 1));
        let totals = counts.totals();
        assert_eq!((totals.requests, totals.bytes), (vec![[0; OUTCOMES]], 10));
    }
}
