//! The result of a forecast, for people and for programs.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Reading;
use super::propose::{Proposed, propose};
use super::tally::{Brought, Tally};

/// Paths are compared by this timeout, if it is among the wanted ones.
const USUAL: Duration = Duration::from_secs(60);

/// The forecast.
#[derive(Debug, Serialize)]
pub struct Outlook {
    pub(super) lines: u64,
    /// Lines that are no lines of an access log.
    pub(super) unread_lines: u64,
    pub(super) requests: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    /// Whether there were more pages than the forecast can remember. The real cache would then do better.
    pub(super) is_lower_bound: bool,
    /// Whether the rules are proposed, since the settings have none.
    pub(super) proposed: bool,
    pub(super) rules: Vec<Group>,
    /// All rules together, each with its own timeout.
    pub(super) as_set: Option<Gain>,
    /// All rules together, for each timeout.
    pub(super) all: Vec<Gain>,
    pub(super) best_paths: Vec<Group>,
    pub(super) personal_paths: Vec<Personal>,
}

/// The benefit of a cache for a rule or a path.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) path: String,
    /// The timeout of the rule, in seconds.
    pub(super) timeout: Option<u64>,
    /// The number of GETs and HEADs.
    pub(super) requests: u64,
    /// The benefit for each timeout.
    pub(super) gains: Vec<Gain>,
}

/// The benefit of a cache with one timeout.
#[derive(Debug, Serialize)]
pub(super) struct Gain {
    /// The timeout in seconds; `None` if each rule has its own.
    pub(super) timeout: Option<u64>,
    /// The requests that would not have reached the origin.
    pub(super) hits: u64,
    /// The share of hits in all requests of the group.
    pub(super) hit_ratio: f64,
    /// The time that the origin would have saved, as far as the log has durations.
    pub(super) spared_seconds: f64,
    /// An upper bound of the memory that would have been used at one time.
    pub(super) memory_bytes: u64,
    /// The mean age of the pages that would have come from the cache.
    pub(super) mean_age_seconds: f64,
}

/// A path whose pages seem to be for one visitor each.
#[derive(Debug, Serialize)]
pub(super) struct Personal {
    pub(super) path: String,
    pub(super) requests: u64,
    pub(super) because: &'static str,
}

impl Outlook {
    pub(super) fn of(reading: &Reading, top: usize) -> Self {
        let timeouts = reading.simulation.timeouts();
        let slot = timeouts.iter().position(|timeout| *timeout == USUAL).unwrap_or(0);
        let proposed = reading.by_rule.is_empty();
        let rules = match proposed {
            true => propose(
                &reading.by_folder,
                &reading.by_path,
                (reading.requests, reading.has_several_visitors),
                slot,
            ),
            false => reading.with_rules(),
        };
        let mut sum = Tally::default();
        rules.iter().for_each(|(_, tally)| sum.add(tally));
        let (paths, several) = (reading.by_path.best(slot), reading.has_several_visitors);
        let group = |(path, tally): &(&str, &Tally)| Group::of(path, None, tally, timeouts);
        let all = timeouts.iter().zip(&sum.brought);
        Self {
            lines: reading.lines,
            unread_lines: reading.unread,
            requests: reading.requests,
            first: reading.first,
            last: reading.last,
            is_lower_bound: reading.simulation.is_crowded(),
            proposed,
            as_set: (!proposed).then(|| reading.as_set()),
            all: all.map(|(timeout, brought)| Gain::of(Some(*timeout), brought, reading.requests)).collect(),
            rules: reading.groups(&rules),
            best_paths: paths
                .iter()
                .filter(|(_, tally)| tally.looks_personal(several).is_none())
                .take(top)
                .map(group)
                .collect(),
            personal_paths: Personal::of(&paths, several, top),
        }
    }
}

impl Reading {
    fn with_rules(&self) -> Vec<Proposed> {
        let rules = self.rules.all().iter().zip(&self.by_rule);
        rules
            .filter(|(rule, _)| !rule.is_off)
            .map(|(rule, tally)| (rule.path.to_string(), tally.clone()))
            .collect()
    }

    fn groups(&self, rules: &[Proposed]) -> Vec<Group> {
        let own =
            self.rules.all().iter().filter(|rule| !rule.is_off).map(|rule| Some(rule.timeout.as_secs()));
        let own = own.chain(std::iter::repeat(None));
        let group =
            |((path, tally), own): (&Proposed, _)| Group::of(path, own, tally, self.simulation.timeouts());
        rules.iter().zip(own).map(group).collect()
    }

    /// All rules, each with its own timeout.
    fn as_set(&self) -> Gain {
        let mut sum = Brought::default();
        for (rule, tally) in self.rules.all().iter().zip(&self.by_rule) {
            let slot = self.simulation.timeouts().iter().position(|timeout| *timeout == rule.timeout);
            if let Some(brought) = slot.and_then(|slot| tally.brought.get(slot)) {
                sum.add(brought);
            }
        }
        Gain::of(None, &sum, self.requests)
    }
}

impl Group {
    fn of(path: &str, timeout: Option<u64>, tally: &Tally, timeouts: &[Duration]) -> Self {
        let gain = |(timeout, brought): (&Duration, _)| Gain::of(Some(*timeout), brought, tally.requests);
        let gains = timeouts.iter().zip(&tally.brought).map(gain).collect();
        Self { path: path.to_owned(), timeout, requests: tally.requests, gains }
    }
}

impl Gain {
    fn of(timeout: Option<Duration>, brought: &Brought, requests: u64) -> Self {
        let per = |sum: f64, number: u64| if number == 0 { 0.0 } else { sum / number as f64 };
        Self {
            timeout: timeout.map(|timeout| timeout.as_secs()),
            hits: brought.hits,
            hit_ratio: per(brought.hits as f64, requests),
            spared_seconds: brought.spared.as_secs_f64(),
            memory_bytes: brought.memory(),
            mean_age_seconds: per(brought.age.as_secs_f64(), brought.hits),
        }
    }
}

impl Personal {
    fn of(paths: &[(&str, &Tally)], has_several_visitors: bool, top: usize) -> Vec<Self> {
        let personal = |(path, tally): &(&str, &Tally)| {
            let because = tally.looks_personal(has_several_visitors)?;
            Some(Self { path: (*path).to_owned(), requests: tally.requests, because })
        };
        let mut found: Vec<_> = paths.iter().filter_map(personal).collect();
        found.sort_by_key(|path| std::cmp::Reverse(path.requests));
        found.truncate(top);
        found
    }
}
