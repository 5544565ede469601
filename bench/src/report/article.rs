//! The article's table, with its figures and the measured ones.

use super::charts::first_singles;
use crate::run::{Run, Single, Site, Summary, Way, thousands};

/// A row of the table, as texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) what: String,
    /// The article's figures for Django (parts 3 and 4).
    pub(super) article: &'static str,
    pub(super) queries: String,
    pub(super) database: String,
    pub(super) median: String,
    pub(super) p95: String,
    /// How many times as long the naive page takes on the same server.
    pub(super) faster: String,
}

/// The heads of its columns.
pub(super) const HEADS: [&str; 7] =
    ["", "the article", "queries", "in the database", "median", "p95", "faster than naive"];

impl Row {
    pub(super) fn cells(&self) -> [&str; 7] {
        let Self { what, article, queries, database, median, p95, faster } = self;
        [what, article, queries, database, median, p95, faster]
    }

    fn timed(what: String, summary: &Summary, naive: Option<f64>) -> Self {
        let faster = naive.filter(|naive| *naive > summary.median_ms * 1.05);
        Self {
            what,
            median: milliseconds(summary.median_ms),
            p95: milliseconds(summary.p95_ms),
            faster: faster.map(|naive| times(naive / summary.median_ms)).unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// The rows, for the first tables of the run.
pub(super) fn rows(run: &Run) -> Vec<Row> {
    let mut rows: Vec<_> = first_singles(run).map(|single| single_row(run, single)).collect();
    let Some(first) = run.bombardments.first() else { return rows };
    let same = run.bombardments.iter().filter(|other| other.tables == first.tables);
    rows.extend(same.map(|bombardment| {
        let summary = &bombardment.series.summary;
        let what = format!("{} at once, {}", summary.requests, bombardment.series.name);
        Row::timed(what, summary, Some(first.series.summary.median_ms))
    }));
    rows.extend(run.scenarios.iter().flat_map(|scenario| {
        let naive = scenario.series.iter().find(|series| series.name == "naive");
        let naive = naive.map(|series| series.summary.median_ms);
        scenario.series.iter().map(move |series| {
            Row::timed(format!("{}, {}", scenario.name, series.name), &series.summary, naive)
        })
    }));
    rows
}

fn single_row(run: &Run, single: &Single) -> Row {
    let naive = first_singles(run).find(|other| other.way == Way::Naive && other.site == single.site);
    let naive = naive.map(|naive| naive.series.summary.median_ms);
    let site = if single.site == Site::Django { "real Django, " } else { "" };
    Row {
        article: article(single.way),
        queries: single.queries.map(|queries| queries.to_string()).unwrap_or_default(),
        database: single.database_ms.map(milliseconds).unwrap_or_default(),
        ..Row::timed(format!("{site}{}", single.way.name()), &single.series.summary, naive)
    }
}

/// The article calls a hit "95 % faster", and leaves out the COUNT.
fn article(way: Way) -> &'static str {
    match way {
        Way::Naive | Way::Miss => "80 ms, 61 queries",
        Way::Optimized => "1 query",
        Way::Hit => "4 ms, 0 queries",
    }
}

/// `0 ms`, `0.42 ms`, `12.3 ms`, `1520 ms`.
pub(super) fn milliseconds(time: f64) -> String {
    if time == 0.0 {
        return "0 ms".to_owned();
    }
    crate::spread::Milliseconds(std::time::Duration::from_secs_f64(time / 1000.0)).to_string()
}

/// `1.6 ×`, `27 ×`, `2,300 ×`: more than two digits would be noise.
pub(super) fn times(factor: f64) -> String {
    if factor < 9.95 {
        return format!("{factor:.1} ×");
    }
    let unit = 10f64.powi(factor.log10().floor() as i32 - 1);
    format!("{} ×", thousands(((factor / unit).round() * unit) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_have_two_digits() {
        for (factor, text) in
            [(1.62, "1.6 ×"), (9.96, "10 ×"), (17.4, "17 ×"), (2337.0, "2,300 ×"), (996.0, "1,000 ×")]
        {
            assert_eq!(times(factor), text);
        }
    }
}
