//! The article's table, with its figures and the measured ones.

use super::charts::{first_singles, first_tables};
use super::table::Table;
use crate::run::{Run, Single, Site, Summary, Way, thousands};

/// A row of the table, as texts.
#[derive(Debug, Default)]
struct Row {
    what: String,
    /// The article's figures for Django (parts 3 and 4).
    article: &'static str,
    queries: String,
    database: String,
    median: String,
    p95: String,
    /// How many times as long the naive page takes on the same server.
    faster: String,
}

impl Row {
    fn cells(self) -> Vec<String> {
        let Self { what, article, queries, database, median, p95, faster } = self;
        vec![what, article.to_owned(), queries, database, median, p95, faster]
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

/// The table, for the first tables of the run; `None` if nothing was measured for it.
pub(super) fn table(run: &Run) -> Option<Table> {
    let rows: Vec<_> = rows(run).into_iter().map(Row::cells).collect();
    let note = first_tables(run).map(|tables| {
        format!(
            "Measured with {tables}. The article's figures are those of Django (its parts 3 and 4); it leaves out the COUNT \
             of the pagination. The last column says how many times as long the naive page takes on the same server and \
             under the same load."
        )
    });
    (!rows.is_empty()).then(|| Table {
        title: "The article's table",
        note: note.unwrap_or_default(),
        heads: vec!["", "the article", "queries", "in the database", "median", "p95", "faster than naive"],
        words: 2,
        rows,
    })
}

/// The rows, for the first tables of the run.
fn rows(run: &Run) -> Vec<Row> {
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
