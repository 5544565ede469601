//! The work of a fleet in a second, computed from its plan alone.
//!
//! A page lives in the store from its fill to its timeout or its next change, whichever comes first. Then it is absent until a
//! client asks for it. One life and one absence are a cycle, in which the whole fleet asks the origin once. In each life, each
//! proxy that gets a request for the page reads it once from the store, and then has it near.

use super::plan::{Band, Plan};

/// The work of a fleet in a second, of all proxies together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    /// Requests that the near caches answer.
    pub(crate) near_hits: f64,
    /// Requests that are answered with a page from the store.
    pub(crate) store_hits: f64,
    /// Requests that go to the origin; each of them is a fill.
    pub(crate) origin: f64,
    pub(crate) purges: f64,
    /// Keys that change in the store. Every proxy hears of each.
    pub(crate) changed: f64,
    /// The changes that the proxies hear of, all proxies together.
    pub(crate) invalidations: f64,
    /// Reads of the page that is read most often from the store. They all go to one node.
    pub(crate) hottest: f64,
    /// Pages that are in the store at a time.
    pub(crate) stored: f64,
}

impl Rates {
    /// The rates of a fleet in its steady state.
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut rates = plan.bands().map(|band| of_band(plan, band)).fold(Self::default(), Self::add);
        rates.purges = plan.changes;
        // The purge log is a key, too.
        rates.changed += plan.changes;
        rates.invalidations = rates.changed * plan.proxies;
        rates
    }

    /// Requests that are answered without the origin.
    pub(crate) fn hits(&self) -> f64 {
        self.near_hits + self.store_hits
    }

    /// Reads of pages from the store, including misses.
    pub(crate) fn reads(&self) -> f64 {
        self.store_hits + self.origin
    }

    fn add(self, other: Self) -> Self {
        Self {
            near_hits: self.near_hits + other.near_hits,
            store_hits: self.store_hits + other.store_hits,
            origin: self.origin + other.origin,
            purges: 0.0,
            changed: self.changed + other.changed,
            invalidations: 0.0,
            hottest: self.hottest.max(other.hottest),
            stored: self.stored + other.stored,
        }
    }
}

fn of_band(plan: &Plan, band: Band) -> Rates {
    let requests = band.requests / band.pages;
    let life = life(plan.timeout, plan.changes / plan.pages);
    let cycle = life + 1.0 / requests;
    let hits = requests * life / cycle;
    // The number of proxies that get a request for the page in its life.
    let readers = plan.proxies * -f64::exp_m1(-requests / plan.proxies * life);
    let is_near = band.first <= plan.near;
    let store_hits = if is_near { (readers / cycle).min(hits) } else { hits };
    Rates {
        near_hits: (hits - store_hits) * band.pages,
        store_hits: store_hits * band.pages,
        origin: band.pages / cycle,
        // Both the fill and the end of a page are changes.
        changed: 2.0 * band.pages / cycle,
        hottest: store_hits + 1.0 / cycle,
        stored: band.pages * life / cycle,
        ..Rates::default()
    }
}

/// How long a page stays stored on average, if it changes this often in a second.
fn life(timeout: f64, changes: f64) -> f64 {
    match changes * timeout {
        // For so few changes the quotient below would lose its digits.
        few if few < 1e-9 => timeout,
        few => -f64::exp_m1(-few) / changes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::SMALL;
    use super::*;

    fn is_about(seen: f64, wanted: f64) -> bool {
        (seen - wanted).abs() <= wanted.abs() * 0.01 + 1e-9
    }

    #[test]
    fn each_request_is_one_hit_or_asks_the_origin() {
        for proxies in [1.0, 3.0, 100.0] {
            for changes in [0.0, 1.0, 1000.0] {
                let plan = Plan { proxies, changes, ..SMALL };
                let rates = Rates::of(&plan);
                assert!(is_about(rates.hits() + rates.origin, plan.requests), "{plan:?}: {rates:?}");
            }
        }
    }

    #[test]
    fn one_page_asks_the_origin_once_in_each_timeout() {
        let plan = Plan { pages: 1.0, changes: 0.0, requests: 1e6, timeout: 10.0, ..SMALL };
        let rates = Rates::of(&plan);
        assert!(is_about(rates.origin, 0.1), "{rates:?}");
        // Each proxy reads the page once in that time.
        assert!(is_about(rates.store_hits, plan.proxies / 10.0), "{rates:?}");
        assert!(is_about(rates.stored, 1.0), "{rates:?}");
    }

    #[test]
    fn a_page_that_changes_all_the_time_is_never_a_hit() {
        let plan = Plan { changes: 1e12, ..SMALL };
        let rates = Rates::of(&plan);
        assert!(rates.hits() < plan.requests * 0.01 && is_about(rates.origin, plan.requests), "{rates:?}");
    }

    #[test]
    fn more_proxies_read_more_and_ask_the_origin_no_more() {
        let of = |proxies| Rates::of(&Plan { proxies, ..SMALL });
        let (one, ten) = (of(1.0), of(10.0));
        assert!(is_about(one.origin, ten.origin));
        assert!(ten.store_hits > one.store_hits && ten.near_hits < one.near_hits);
        assert!(is_about(ten.invalidations, one.invalidations * 10.0));
    }

    #[test]
    fn without_near_caches_all_hits_are_reads() {
        let rates = Rates::of(&Plan { near: 0.0, ..SMALL });
        assert_eq!(rates.near_hits, 0.0);
        assert!(rates.hottest > 0.1 * SMALL.requests, "the first of 2,000 pages has an eighth");
    }
}
