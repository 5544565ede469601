//! The tables besides the article's: the database's tables, as many requests as possible, and prices that change.

use super::article::milliseconds;
use super::story::{load_loop, span};
use super::table::Table;
use crate::run::{Freshness, Limit, Plan, Run, Site, thousands};

/// The measurements on each of the database's tables.
pub(super) fn sizes(run: &Run) -> Option<Table> {
    (!run.plans.is_empty()).then(|| Table {
        title: "Each size of the table",
        note: "The list query as EXPLAIN ANALYZE says; medians of single requests, and of 50 at once."
            .to_owned(),
        heads: vec![
            "tables",
            "list query",
            "by",
            "rows read",
            "naive",
            "optimized",
            "miss",
            "hit",
            "50 at once, naive",
            "50 at once, hits",
        ],
        words: 1,
        rows: run.plans.iter().map(|plan| size(run, plan)).collect(),
    })
}

fn size(run: &Run, plan: &Plan) -> Vec<String> {
    let mut row = vec![
        plan.tables.to_string(),
        milliseconds(plan.execution_ms),
        plan.scan.clone(),
        thousands(plan.rows.round() as usize),
    ];
    let singles = run.singles.iter().filter(|single| single.site == Site::Cachepage);
    let singles = singles.filter(|single| single.tables == plan.tables).map(|single| &single.series);
    let bombarded = run.bombardments.iter().filter(|bombardment| bombardment.tables == plan.tables);
    let warm_and_naive =
        bombarded.map(|bombardment| &bombardment.series).filter(|series| series.name != "cached, cold");
    row.extend(singles.chain(warm_and_naive).map(|series| milliseconds(series.summary.median_ms)));
    row
}

/// As many requests as possible.
pub(super) fn limits(run: &Run) -> Option<Table> {
    let users = run.limits.first()?.users;
    let words = load_loop(run).unwrap_or_default();
    Some(Table {
        title: "As many requests as possible",
        note: format!(
            "{users} users send their next request as soon as they have the answer. Heads are those of browsers, no two \
             alike; of many pages the second is asked for half as often as the first, the third a third as often. A \
             prepared answer costs its server next to nothing, and users and servers share the machine. {words}"
        )
        .trim_end()
        .to_owned(),
        heads: vec!["the users ask for", "requests/s", "median", "p99", "failed"],
        words: 1,
        rows: run.limits.iter().map(limit).collect(),
    })
}

fn limit(limit: &Limit) -> Vec<String> {
    let summary = &limit.summary;
    vec![
        limit.name.clone(),
        thousands(summary.per_second.round() as usize),
        milliseconds(summary.median_ms),
        milliseconds(summary.p99_ms),
        summary.failed().to_string(),
    ]
}

/// How old the page is while prices change.
pub(super) fn freshness(run: &Run) -> Option<Table> {
    let page = run.freshness.first()?;
    Some(Table {
        title: "While prices change",
        note: format!(
            "The page is asked for {:.0} times a second, and a price on it changes every {}. The age is how long the price on the page had been out of date when the \
             page was asked for, 0 if it was the newest. Queries are those of the page, as PostgreSQL counts them; \
             without a cache these {} requests would make {}.",
            page.summary.per_second,
            span(page.every_seconds * 1000.0),
            thousands(page.summary.requests),
            thousands(page.summary.requests * QUERIES),
        ),
        heads: vec![
            "the page",
            "requests",
            "hits",
            "with an old price",
            "median age",
            "greatest age",
            "queries",
        ],
        words: 1,
        rows: run.freshness.iter().map(kept).collect(),
    })
}

/// The queries of the naive page.
const QUERIES: usize = 62;

fn kept(page: &Freshness) -> Vec<String> {
    vec![
        page.name.clone(),
        thousands(page.summary.requests),
        format!("{:.2} %", page.hit_ratio()),
        format!("{:.2} %", page.old_ratio()),
        span(page.median_age_ms()),
        span(page.greatest_age_ms()),
        thousands(page.queries),
    ]
}
