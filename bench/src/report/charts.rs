//! Makes the charts of a run, each with its texts.

mod over_time;

use super::chart::{Axis, Chart, Scale, Series, Shape};
use super::story::span;
use crate::run::{Freshness, Run, Single, Site, Way};
use crate::tables::{Indexes, Tables};

/// A chart with its title and caption.
pub(super) struct Figure {
    pub(super) chart: Chart,
    /// The caption: the subject of the chart.
    pub(super) caption: String,
}

impl Figure {
    fn new(
        title: impl Into<String>,
        caption: impl Into<String>,
        x: Axis,
        y: Axis,
        series: Vec<Series>,
    ) -> Self {
        Self { chart: Chart { title: title.into(), x, y, series }, caption: caption.into() }
    }
}

/// All charts that the run has figures for, the main one first.
pub(super) fn all(run: &Run) -> Vec<Figure> {
    let single = [ladder(run), at_once(run), singles(run), queries(run), distribution(run), list_query(run)];
    let mut figures: Vec<_> = single.into_iter().flatten().collect();
    figures.extend(run.scenarios.iter().flat_map(over_time::scenario));
    figures.extend([freshness(run), limits(run)].into_iter().flatten());
    figures
}

/// The main chart: response times as users are added.
pub(super) fn ladder(run: &Run) -> Option<Figure> {
    let rungs = |way: Way| run.ladder.iter().filter(move |rung| rung.way == way);
    let mut series = Vec::new();
    for (way, class, name) in [(Way::Naive, "naive", "naive"), (Way::Hit, "hit", "cached")] {
        let points = |time: fn(&crate::run::Summary) -> f64| {
            rungs(way).map(move |rung| (rung.users as f64, time(&rung.series.summary))).collect::<Vec<_>>()
        };
        let (median, p95) = (points(|summary| summary.median_ms), points(|summary| summary.p95_ms));
        series.push(Series { shape: Shape::Dashed, class, label: Some(format!("{name}, p95")), points: p95 });
        series.push(Series {
            shape: Shape::Marked,
            class,
            label: Some(format!("{name}, median")),
            points: median,
        });
    }
    let most = run.ladder.iter().map(|rung| rung.users).max()?;
    let times = series.iter().flat_map(|series| &series.points).map(|(_, time)| *time);
    let y = Axis { label: "response time, ms (logarithmic)", scale: Scale::log(times) };
    let x =
        Axis { label: "users, each waiting 0.1 to 0.3 s between requests", scale: Scale::just(most as f64) };
    let caption = "Users of the naive page soon wait for each other; users of the cached page do not notice that there are more.";
    Some(Figure::new("More and more users", caption, x, y, series))
}

/// Single requests on the first tables.
pub(super) fn first_singles(run: &Run) -> impl Iterator<Item = &Single> {
    let first = run.singles.first().map(|single| single.tables);
    run.singles.iter().filter(move |single| Some(single.tables) == first)
}

fn name(single: &Single) -> String {
    let site = if single.site == Site::Django { "Django, " } else { "" };
    format!("{site}{}", single.way.name())
}

fn class(way: Way) -> &'static str {
    match way {
        Way::Naive => "naive",
        Way::Optimized => "optimized",
        Way::Miss => "cold",
        Way::Hit => "hit",
    }
}

fn singles(run: &Run) -> Option<Figure> {
    let tables = first_singles(run).next()?.tables;
    let caption = format!("The median of single requests, one after the other, {tables}.");
    let medians = first_singles(run).map(|single| Bar::of(single, single.series.summary.median_ms));
    bars("One page, one reader", caption, "response time, ms", medians)
}

fn queries(run: &Run) -> Option<Figure> {
    let counted = first_singles(run).filter_map(|single| Some(Bar::of(single, single.queries? as f64)));
    let caption = "As PostgreSQL's own log counts them. A hit asks nothing.";
    bars("Queries a request", caption, "queries", counted)
}

/// A bar.
struct Bar {
    name: String,
    class: &'static str,
    length: f64,
}

impl Bar {
    fn of(single: &Single, length: f64) -> Self {
        Self { name: name(single), class: class(single.way), length }
    }
}

/// A chart of bars; `None` if there are no bars.
fn bars(
    title: &str,
    caption: impl Into<String>,
    label: &'static str,
    bars: impl Iterator<Item = Bar>,
) -> Option<Figure> {
    let bars: Vec<_> = bars.collect();
    let longest = bars.iter().map(|bar| bar.length).reduce(f64::max)?;
    let x = Axis { label, scale: Scale::just(longest) };
    let y = Axis::rows(bars.iter().map(|bar| bar.name.clone()));
    let series = |(row, bar): (u32, &Bar)| Series {
        shape: Shape::Bars,
        class: bar.class,
        label: None,
        points: vec![(bar.length, f64::from(row))],
    };
    Some(Figure::new(title, caption, x, y, (0..).zip(&bars).map(series).collect()))
}

/// The times of 50 requests at once, the fastest first.
fn at_once(run: &Run) -> Option<Figure> {
    let first = run.bombardments.first()?;
    let mut series = Vec::new();
    for bombardment in run.bombardments.iter().filter(|other| other.tables == first.tables) {
        let mut times: Vec<_> = bombardment.series.milliseconds().collect();
        times.sort_by(f64::total_cmp);
        let points = times.into_iter().zip(1..).map(|(time, place)| (f64::from(place), time)).collect();
        let label = Some(bombardment.series.name.clone());
        series.push(Series { shape: Shape::Line, class: class(bombardment.way), label, points });
    }
    let times = series.iter().flat_map(|series| &series.points).map(|(_, time)| *time);
    let y = Axis { label: "response time, ms (logarithmic)", scale: Scale::log(times) };
    let most = first.series.summary.requests;
    let x = Axis { label: "requests, the fastest first", scale: Scale::just(most as f64) };
    let caption = "Cold, the cache has nothing and all may ask the origin; warm, it has the page.";
    Some(Figure::new(format!("{most} at once"), caption, x, y, series))
}

/// How the times of single requests are distributed.
fn distribution(run: &Run) -> Option<Figure> {
    let all = || first_singles(run).filter(|single| single.site == Site::Cachepage);
    let x = Scale::log(all().flat_map(|single| single.series.milliseconds()));
    let series: Vec<_> = all()
        .map(|single| Series {
            shape: Shape::Area,
            class: class(single.way),
            label: Some(name(single)),
            points: shares(single.series.milliseconds()),
        })
        .collect();
    let most = series.iter().flat_map(|series| &series.points).map(|(_, share)| *share).fold(0.0, f64::max);
    let requests = all().next()?.series.summary.requests;
    let x = Axis { label: "response time, ms (logarithmic)", scale: x };
    let y = Axis { label: "share of the requests, %", scale: Scale::to(most) };
    let caption =
        format!("{requests} single requests of each kind; a decade of time is cut into {BINS} parts.");
    Some(Figure::new("How response times are distributed", caption, x, y, series))
}

/// The bins of a decade.
const BINS: i32 = 12;

/// The outline of a histogram: the percentage of the times in each bin.
fn shares(times: impl Iterator<Item = f64>) -> Vec<(f64, f64)> {
    let mut bins = std::collections::BTreeMap::<i32, usize>::new();
    for time in times {
        *bins.entry((time.max(1e-3).log10() * f64::from(BINS)).floor() as i32).or_default() += 1;
    }
    let total: usize = bins.values().sum();
    let edge = |bin: i32| 10f64.powf(f64::from(bin) / f64::from(BINS));
    let mut outline = Vec::new();
    let (Some(first), Some(last)) = (bins.keys().next().copied(), bins.keys().last().copied()) else {
        return outline;
    };
    outline.push((edge(first), 0.0));
    for bin in first..=last {
        let share = 100.0 * bins.get(&bin).copied().unwrap_or(0) as f64 / total as f64;
        outline.extend([(edge(bin), share), (edge(bin + 1), share)]);
    }
    outline.push((edge(last + 1), 0.0));
    outline
}

/// The time of the list query alone, by the size of the table.
fn list_query(run: &Run) -> Option<Figure> {
    let kinds = [
        (Indexes::None, "naive", "none"),
        (Indexes::Django, "cold", "django"),
        (Indexes::Optimized, "hit", "optimized"),
    ];
    let mut series = Vec::new();
    for (indexes, class, name) in kinds {
        let plans: Vec<_> = run.plans.iter().filter(|plan| plan.tables.indexes == indexes).collect();
        let points = plans.iter().map(|plan| (plan.tables.properties as f64, plan.execution_ms)).collect();
        let Some(plan) = plans.last() else { continue };
        let label = Some(format!("indexes {name}: {}", plan.scan));
        series.push(Series { shape: Shape::Marked, class, label, points });
    }
    let points = || series.iter().flat_map(|series| &series.points);
    points().next()?;
    let x = Axis { label: "rows (logarithmic)", scale: Scale::log(points().map(|(rows, _)| *rows)) };
    let y = Axis { label: "execution, ms (logarithmic)", scale: Scale::log(points().map(|(_, time)| *time)) };
    let caption = "EXPLAIN ANALYZE of the newest 20 properties. Without an index on created_at the whole table is read and sorted.";
    Some(Figure::new("The list query as the table grows", caption, x, y, series))
}

/// How old the price on the page is over time.
fn freshness(run: &Run) -> Option<Figure> {
    let page = run.freshness.first()?;
    let series: Vec<_> = (run.freshness.iter().zip(["naive", "hit"]))
        .map(|(page, class)| Series {
            shape: Shape::Line,
            class,
            label: Some(page.name.clone()),
            points: greatest_ages(page),
        })
        .collect();
    let most = series.iter().flat_map(|series| &series.points).map(|(_, age)| *age).fold(0.0, f64::max);
    let x = Axis { label: "time, s", scale: Scale::just(page.seconds) };
    let y = Axis { label: "how long the price on the page has been out of date, s", scale: Scale::to(most) };
    let caption = format!(
        "A price changes every {}. The page that is {} shows an old one until it is fetched anew; the other one is fetched \
         anew after each change.",
        span(page.every_seconds * 1000.0),
        page.name
    );
    Some(Figure::new("Old prices", caption, x, y, series))
}

/// The greatest age, in seconds, in each of the equal parts of the time.
fn greatest_ages(page: &Freshness) -> Vec<(f64, f64)> {
    const PARTS: f64 = 240.0;
    let part = page.seconds / PARTS;
    let mut greatest = std::collections::BTreeMap::<u32, f64>::new();
    for (asked, age) in page.points() {
        let age_here = greatest.entry((asked / part) as u32).or_default();
        *age_here = age_here.max(age);
    }
    greatest.into_iter().map(|(number, age)| ((f64::from(number) + 0.5) * part, age)).collect()
}

/// How many requests a second the server and the users can make.
fn limits(run: &Run) -> Option<Figure> {
    let users = run.limits.first()?.users;
    let caption = format!("Answers a second that {users} users get who send their next request at once.");
    let rates = run.limits.iter().map(|limit| Bar {
        // Older runs explain the name in parentheses behind it.
        name: limit.name.split(" (").next().unwrap_or_default().to_owned(),
        class: if limit.name.contains("prepared") { "cold" } else { "hit" },
        length: limit.summary.per_second,
    });
    bars("As many requests as possible", caption, "requests a second", rates)
}

/// The first tables of the run, for captions.
pub(super) fn first_tables(run: &Run) -> Option<Tables> {
    first_singles(run).next().map(|single| single.tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_outlined_from_its_first_bin_to_its_last() {
        let outline = shares([1.0, 1.1, 1.3, 1.05].into_iter());
        let percents: Vec<_> = outline.iter().map(|(_, share)| *share).collect();
        assert_eq!(percents, [0.0, 75.0, 75.0, 25.0, 25.0, 0.0]);
        assert_eq!(outline[0].0, 1.0);
        assert!(shares(std::iter::empty()).is_empty());
    }
}
