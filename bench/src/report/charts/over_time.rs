//! A load over time: response times, throughput and users, as Locust charts them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Axis, Figure, Scale, Series, Shape};
use crate::run::{self, Scenario};
use crate::spread::Spread;

/// The two charts of a scenario: response times, and throughput.
pub(super) fn scenario(scenario: &Scenario) -> [Figure; 2] {
    [response_times(scenario), throughput(scenario)]
}

fn class(series: &run::Series) -> &'static str {
    if series.name == "naive" { "naive" } else { "hit" }
}

fn time(scenario: &Scenario) -> Axis {
    Axis { label: "time, s", scale: Scale::just(scenario.seconds) }
}

fn response_times(scenario: &Scenario) -> Figure {
    let mut series = Vec::new();
    for kind in &scenario.series {
        let class = class(kind);
        let dots = Series { shape: Shape::Dots, class, label: None, points: kind.points().collect() };
        let line = |shape, share, name: &str| Series {
            shape,
            class,
            label: Some(format!("{}, {name}", kind.name)),
            points: quantiles(kind, share),
        };
        series.extend([dots, line(Shape::Dashed, 0.95, "p95"), line(Shape::Line, 0.5, "median")]);
    }
    let times = series.iter().flat_map(|series| &series.points).map(|(_, time)| *time);
    let y = Axis { label: "response time, ms (logarithmic)", scale: Scale::log(times) };
    let counts = match scenario.rate {
        Some(rate) => format!("{rate} requests a second, due at even distances whoever waits"),
        None => "each waits for its answer, then thinks (cached 1 to 2 s, naive 2 to 5 s)".to_owned(),
    };
    let caption = format!("A dot for each request; {} users, {counts}.", scenario.users);
    Figure::new(format!("{}: response time", scenario.name), caption, time(scenario), y, series)
}

/// Requests per second and users: both are counts, and share one axis.
fn throughput(scenario: &Scenario) -> Figure {
    let rates = scenario.series.iter().map(|kind| Series {
        shape: Shape::Line,
        class: class(kind),
        label: Some(format!("{}, requests/s", kind.name)),
        points: by_second(kind).map(|(second, times)| (second + 0.5, times.len() as f64)).collect(),
    });
    let series: Vec<_> = users(scenario).into_iter().chain(rates).collect();
    let most = series.iter().flat_map(|series| &series.points).map(|(_, count)| *count).fold(0.0, f64::max);
    let y = Axis { label: "requests/s; users", scale: Scale::to(most) };
    let failed: usize = scenario.series.iter().map(|kind| kind.summary.failed()).sum();
    let total: f64 = scenario.series.iter().map(|kind| kind.summary.per_second).sum();
    let arrival = scenario.spawn_rate.map(|rate| format!("{rate} users come a second; ")).unwrap_or_default();
    let caption = format!("{arrival}{total:.1} requests a second on average; {failed} failed.");
    Figure::new(format!("{}: throughput", scenario.name), caption, time(scenario), y, series)
}

/// The number of users over time, if they start one after the other.
fn users(scenario: &Scenario) -> Option<Series> {
    let (seconds, rate) = (scenario.seconds, scenario.spawn_rate?);
    let full = (scenario.users as f64 / rate).min(seconds);
    let points = vec![(0.0, 0.0), (full, full * rate), (seconds, full * rate)];
    Some(Series { shape: Shape::Area, class: "cold", label: Some("users".to_owned()), points })
}

/// The times of each second in which requests were due.
fn by_second(series: &run::Series) -> impl Iterator<Item = (f64, Vec<f64>)> {
    let mut seconds = BTreeMap::<u64, Vec<f64>>::new();
    for (due, took) in series.points() {
        seconds.entry(due as u64).or_default().push(took);
    }
    seconds.into_iter().map(|(second, times)| (second as f64, times))
}

fn quantiles(series: &run::Series, share: f64) -> Vec<(f64, f64)> {
    let quantile = |times: Vec<f64>| {
        let spread = Spread::of_times(times.into_iter().map(|time| Duration::from_secs_f64(time / 1000.0)))?;
        Some(spread.quantile(share).as_secs_f64() * 1000.0)
    };
    by_second(series).filter_map(|(second, times)| Some((second + 0.5, quantile(times)?))).collect()
}
