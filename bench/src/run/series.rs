//! The requests of one kind, each with its time, and their summary.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failures::Failures;
use crate::load::{Cache, Sample};
use crate::spread::Spread;

/// The requests of one kind: the times of those that succeeded, and the failures by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) summary: Summary,
    /// When each request was due, in microseconds from the beginning.
    pub(crate) due_us: Vec<u64>,
    /// How long each request took from then on, in microseconds.
    pub(crate) took_us: Vec<u64>,
}

impl Series {
    /// Collects the requests. They were made within `seconds`, which is 0 if a rate makes no sense.
    pub(crate) fn of<'a>(
        name: &str,
        samples: impl Iterator<Item = &'a Sample> + Clone,
        seconds: f64,
    ) -> Self {
        let summary = Summary::of(samples.clone(), seconds);
        let good: Vec<_> = samples.filter(|sample| sample.failure().is_none()).collect();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            name: name.to_owned(),
            summary,
            due_us: good.iter().map(|sample| micros(sample.due)).collect(),
            took_us: good.iter().map(|sample| micros(sample.took)).collect(),
        }
    }

    /// When each request was due, in seconds, and how long it took, in milliseconds.
    pub(crate) fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.due_us.iter().zip(&self.took_us).map(|(due, took)| (*due as f64 / 1e6, *took as f64 / 1e3))
    }

    /// The times in milliseconds.
    pub(crate) fn milliseconds(&self) -> impl Iterator<Item = f64> {
        self.took_us.iter().map(|took| *took as f64 / 1e3)
    }
}

/// The summary of many requests. Times are those of successful requests, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) requests: usize,
    /// The failures, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) failures: BTreeMap<String, usize>,
    pub(crate) hits: usize,
    pub(crate) per_second: f64,
    pub(crate) min_ms: f64,
    pub(crate) median_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Summary {
    /// Summarises the requests. They were made within `seconds`, which is 0 if a rate makes no sense.
    pub(crate) fn of<'a>(samples: impl Iterator<Item = &'a Sample> + Clone, seconds: f64) -> Self {
        let spread = Spread::of(samples.clone());
        let requests = samples.clone().count();
        let time =
            |share| spread.as_ref().map_or(0.0, |spread| spread.quantile(share).as_secs_f64() * 1000.0);
        let hit =
            |sample: &&Sample| sample.outcome.as_ref().is_ok_and(|answer| answer.cache == Some(Cache::Hit));
        Self {
            requests,
            failures: Failures::of(samples.clone()).by_name(),
            hits: samples.filter(hit).count(),
            per_second: if seconds > 0.0 { requests as f64 / seconds } else { 0.0 },
            min_ms: time(0.0),
            median_ms: time(0.5),
            p95_ms: time(0.95),
            p99_ms: time(0.99),
            max_ms: time(1.0),
        }
    }

    /// The number of failures of all kinds.
    pub(crate) fn failed(&self) -> usize {
        self.failures.values().sum()
    }
}
