//! How much load a fleet can take, and which part breaks first.

use std::fmt::{self, Display, Formatter};

use super::costs::{BEATS, Costs, Means};
use super::plan::Plan;
use super::rates::Rates;

/// The parts of a fleet that can be exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Proxies,
    Nodes,
    /// The node with the log of purges, or with the hottest page.
    OneNode,
    Origin,
}

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxies => "CPU of the proxies",
            Self::Nodes => "CPU of the nodes",
            Self::OneNode => "CPU of one node",
            Self::Origin => "the origin",
        })
    }
}

/// The load of a full part. No plan makes a part busier.
const FULL: f64 = 0.8;

/// The most requests a second of any fleet.
const MOST: f64 = 1e9;

/// The rates of a plan whose nodes evict pages for lack of memory. For the model, an evicted page has timed out early.
pub(crate) fn rates(plan: &Plan, means: &Means) -> Rates {
    let room = plan.nodes * means.memory / means.page;
    let of = |timeout| Rates::of(&Plan { timeout, ..*plan });
    let mut rates = of(plan.timeout);
    let (mut fits, mut evicts) = (0.0, plan.timeout);
    if rates.stored > room {
        for _ in 0..30 {
            let timeout = f64::midpoint(fits, evicts);
            rates = of(timeout);
            *(if rates.stored > room { &mut evicts } else { &mut fits }) = timeout;
        }
    }
    rates
}

/// The share of each part that is used.
pub(crate) fn used(plan: &Plan, rates: &Rates, costs: &Costs, means: &Means) -> [(Limit, f64); 4] {
    let proxy =
        (rates.near_hits * costs.near_hit + rates.store_hits * costs.store_hit + rates.origin * costs.fill)
            / plan.proxies
            + rates.changed * costs.heard
            + BEATS * plan.nodes * costs.beat;
    let told = plan.proxies * costs.told;
    let beats = BEATS * plan.proxies * costs.answered_beat;
    let work = rates.reads() * costs.get + rates.origin * costs.set + rates.changed * told;
    let node = work / plan.nodes + beats;
    // Every proxy reads the log as soon as it hears of a purge.
    let log = rates.purges * (costs.purge + plan.proxies * costs.answered_beat);
    let hottest = rates.hottest * costs.get * (1.0 - 1.0 / plan.nodes);
    [
        (Limit::Proxies, proxy / means.cores),
        (Limit::Nodes, node),
        (Limit::OneNode, node + log.max(hottest)),
        (Limit::Origin, rates.origin / means.origin),
    ]
}

/// The part with the greatest used share.
pub(crate) fn first(used: &[(Limit, f64)]) -> (Limit, f64) {
    let first = used.iter().copied().max_by(|(_, one), (_, other)| one.total_cmp(other));
    first.unwrap_or((Limit::Proxies, 0.0))
}

/// The same plan, with so many requests that a part is full.
pub(crate) fn filled(plan: &Plan, costs: &Costs, means: &Means) -> Plan {
    let is_full = |requests: f64| {
        let plan = Plan { requests, ..*plan };
        first(&used(&plan, &rates(&plan, means), costs, means)).1 > FULL
    };
    let (mut takes, mut breaks) = (1e-3_f64, MOST);
    while breaks / takes > 1.001 {
        // The search halves a logarithmic scale.
        let middle = (takes * breaks).sqrt();
        *(if is_full(middle) { &mut breaks } else { &mut takes }) = middle;
    }
    Plan { requests: takes, ..*plan }
}

#[cfg(test)]
mod tests {
    use super::super::costs::MEASURED;
    use super::super::tests::{MEANS, SMALL};
    use super::*;

    fn limit_of(plan: &Plan, means: &Means) -> (f64, Limit) {
        let plan = filled(plan, &MEASURED, means);
        (plan.requests, first(&used(&plan, &rates(&plan, means), &MEASURED, means)).0)
    }

    #[test]
    fn what_is_scarce_breaks_first() {
        let few_changes = Plan { changes: 0.0, ..SMALL };
        assert_eq!(limit_of(&few_changes, &MEANS).1, Limit::Proxies);
        let slow = Means { origin: 0.5, ..MEANS };
        assert_eq!(limit_of(&few_changes, &slow).1, Limit::Origin);
        let many = Plan { proxies: 50.0, nodes: 1.0, near: 0.0, ..few_changes };
        assert!(matches!(limit_of(&many, &MEANS).1, Limit::Nodes | Limit::OneNode));
        let purged = Plan { proxies: 100.0, nodes: 30.0, pages: 1e6, changes: 2000.0, ..SMALL };
        assert_eq!(limit_of(&purged, &MEANS).1, Limit::OneNode);
    }

    #[test]
    fn pages_that_do_not_fit_are_fetched_more_often() {
        let small = Means { memory: 100.0 * MEANS.page, ..MEANS };
        let (all, few) = (rates(&SMALL, &MEANS), rates(&SMALL, &small));
        assert!(all.stored > 900.0 && (few.stored - 300.0).abs() < 3.0, "{all:?} {few:?}");
        assert!(few.origin > 5.0 * all.origin, "{all:?} {few:?}");
    }

    #[test]
    fn a_fleet_of_near_caches_grows_with_its_proxies() {
        let of = |proxies| limit_of(&Plan { proxies, changes: 0.0, ..SMALL }, &MEANS).0;
        let growth = of(10.0) / of(1.0);
        assert!((8.0..10.1).contains(&growth), "{growth}");
    }

    #[test]
    fn more_nodes_help_a_fleet_without_near_caches() {
        let of = |nodes| limit_of(&Plan { nodes, proxies: 30.0, near: 0.0, pages: 1e6, ..SMALL }, &MEANS).0;
        assert!(of(10.0) > 2.0 * of(1.0), "{} {}", of(1.0), of(10.0));
    }
}
