//! `mixed`: the article's users, as Locust runs them: five read the cached page for each one that reads the naive page.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::MixedArgs;
use crate::failures::Failures;
use crate::laboratory::LabError;
use crate::live;
use crate::load::{Arrival, Crowd, End, Load, Pace, Sample, Target, TargetError};
use crate::run::{Run, Scenario, Series};
use crate::site::{CACHED, NAIVE, Page};
use crate::stop::Stop;
use crate::tables::Tables;

/// A kind of users, as in locustfile.py.
struct Kind {
    name: &'static str,
    page: &'static Page,
    /// The weight of the kind. Its share of the users is the weight divided by the sum of all weights.
    weight: usize,
    think: RangeInclusive<Duration>,
}

const KINDS: [Kind; 2] = [
    Kind { name: "cached", page: &CACHED, weight: 5, think: Duration::from_secs(1)..=Duration::from_secs(2) },
    Kind { name: "naive", page: &NAIVE, weight: 1, think: Duration::from_secs(2)..=Duration::from_secs(5) },
];

/// The mixed users, and how long they run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixed {
    pub(crate) users: usize,
    /// Users that start each second, if each has its own pace.
    pub(crate) spawn_rate: f64,
    pub(crate) seconds: usize,
    /// Requests per second, instead of each user's own pace.
    pub(crate) rate: Option<f64>,
}

/// Runs the users and prints the results.
pub(crate) async fn run(args: &MixedArgs) -> ExitCode {
    match measure(args).await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn measure(args: &MixedArgs) -> Result<ExitCode, LabError> {
    let mixed =
        Mixed { users: args.users, spawn_rate: args.spawn_rate, seconds: args.duration, rate: args.rate };
    let site = args.site.trim_end_matches('/');
    let load = mixed.load(|page| format!("{site}{}", page.path).parse())?;
    println!("{} for {} s at {site}; Ctrl-C ends it early.", mixed.name(), mixed.seconds);
    let mut run = Run::begin("bench mixed");
    let mut stop = Stop::listen()?;
    let samples = live::watch(&load, stop.recv()).await;
    let scenario = mixed.scenario(&samples, None);
    println!("{}", table(&scenario));
    if let Some(path) = &args.json {
        run.seconds = scenario.seconds;
        run.scenarios.push(scenario);
        run.write(path)?;
        println!("Saved as {}.", path.display());
    }
    Ok(Failures::of(&samples).verdict(args.fail_on_error))
}

impl Mixed {
    /// The load, with the addresses of the pages.
    pub(crate) fn load(
        &self,
        target: impl Fn(&Page) -> Result<Target, TargetError>,
    ) -> Result<Load, TargetError> {
        let shares = shares(self.users, &KINDS.map(|kind| kind.weight));
        let mut crowds = Vec::new();
        for (kind, users) in KINDS.iter().zip(shares) {
            let pace = match self.rate {
                Some(rate) => Pace::Open { rate: rate * users as f64 / self.users as f64 },
                None => Pace::Closed { think: kind.think.clone() },
            };
            crowds.push(Crowd::of(target(kind.page)?, users, pace));
        }
        // A crowd without users cannot take requests.
        crowds.retain(|crowd| crowd.users > 0);
        let arrival = match self.rate {
            // Requests are due from the beginning, so all users must start at once.
            Some(_) => Arrival::Together,
            None => Arrival::Rate(self.spawn_rate),
        };
        Ok(Load { crowds, arrival, end: End::After(Duration::from_secs(self.seconds as u64)) })
    }

    /// The results.
    pub(crate) fn scenario(&self, samples: &[Sample], tables: Option<Tables>) -> Scenario {
        // If the load was stopped, its time ends with the last request.
        let last = samples.iter().map(|sample| sample.due).max().unwrap_or_default();
        let seconds = if last.as_secs_f64() + 5.0 < self.seconds as f64 {
            last.as_secs_f64()
        } else {
            self.seconds as f64
        };
        let series = KINDS.iter().enumerate().map(|(number, kind)| {
            Series::of(kind.name, samples.iter().filter(|sample| sample.crowd == number), seconds)
        });
        let series = series.filter(|series| series.summary.requests > 0).collect();
        let Self { users, rate, .. } = *self;
        let spawn_rate = rate.is_none().then_some(self.spawn_rate);
        Scenario { name: self.name(), users, spawn_rate, rate, seconds, tables, series }
    }

    pub(crate) fn name(&self) -> String {
        match self.rate {
            Some(rate) => format!("{} users, {rate} requests/s", self.users),
            None => format!("{} mixed users", self.users),
        }
    }
}

/// The number of users of each kind, by weight; the remainder goes to the kinds that were rounded down most.
fn shares(users: usize, weights: &[usize]) -> Vec<usize> {
    let total: usize = weights.iter().sum();
    let mut shares: Vec<_> = weights.iter().map(|weight| users * weight / total).collect();
    let mut kinds: Vec<_> = (0..weights.len()).collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(users * weights[*kind] % total));
    let rest = users - shares.iter().sum::<usize>();
    for kind in kinds.into_iter().take(rest) {
        shares[kind] += 1;
    }
    shares
}

/// A table like Locust's last one.
fn table(scenario: &Scenario) -> String {
    let mut text = format!(
        "{:<8} {:>9} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "page", "requests", "failed", "hits", "min ms", "p50 ms", "p95 ms", "p99 ms", "max ms", "req/s"
    );
    for series in &scenario.series {
        let summary = &series.summary;
        text += &format!(
            "\n{:<8} {:>9} {:>7} {:>7} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            series.name,
            summary.requests,
            summary.failed(),
            summary.hits,
            summary.min_ms,
            summary.median_ms,
            summary.p95_ms,
            summary.p99_ms,
            summary.max_ms,
            summary.per_second
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_shared_by_weight() {
        for (users, expected) in [(100, [83, 17]), (6, [5, 1]), (1, [1, 0]), (7, [6, 1]), (2, [2, 0])] {
            assert_eq!(shares(users, &[5, 1]), expected, "{users}");
        }
    }

    #[test]
    fn an_open_rate_is_shared_as_the_users_are() {
        let mixed = Mixed { users: 100, spawn_rate: 10.0, seconds: 1, rate: Some(50.0) };
        let load = mixed.load(|_| "http://localhost/".parse()).unwrap();
        let rates = load.crowds.iter().map(|crowd| match crowd.pace {
            Pace::Open { rate } => rate,
            Pace::Closed { .. } => 0.0,
        });
        assert_eq!(rates.collect::<Vec<_>>(), [41.5, 8.5]);
    }
}
