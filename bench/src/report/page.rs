//! The report: one HTML page without further files.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::article::{HEADS, Row, milliseconds, rows};
use super::chart::{Frame, STYLE};
use super::charts::{self, Figure};
use super::story::{Fact, answer, facts, failures, load_loop};
use crate::run::{Plan, Run, Site, thousands};

/// The whole page.
pub(super) fn page(run: &Run) -> Markup {
    let facts = facts(run);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Browsers request an icon, and log an error if there is none.
                link rel="icon" href="data:,";
                title { "Cachepage: measured" }
                style { (PreEscaped(STYLE)) (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 { "How much faster is a page from the cache?" }
                    @if let Some(words) = answer(run) { p.answer { (words) } }
                    p.where { (run.machine) }
                    p.where { code { (run.command) } ", begun " (run.began) ", took " (took(run.seconds)) "." }
                }
                main {
                    (tiles(&facts))
                    @if let Some(words) = failures(run) { section.failed { p { (words) } } }
                    (article(run))
                    section.charts { @for figure in charts::all(run) { (chart(&figure)) } }
                    (redis(run))
                    (tables(run))
                    (limits(run))
                    (method())
                }
            }
        }
    }
}

fn took(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

fn tiles(facts: &[Fact]) -> Markup {
    html! {
        @if !facts.is_empty() {
            section.tiles {
                @for fact in facts {
                    div.tile { div.figure { (fact.figure) } p { (fact.words) } }
                }
            }
        }
    }
}

/// The article's figures beside the measured ones.
fn article(run: &Run) -> Markup {
    let rows = rows(run);
    let Some(caption) = charts::first_tables(run) else {
        return html! { @if !rows.is_empty() { section { h2 { "The figures" } (table(&HEADS, &cells(&rows))) } } };
    };
    html! {
        section {
            h2 { "The article's table" }
            (table(&HEADS, &cells(&rows)))
            p.note {
                "Measured: " (caption) ". The article's figures are of Django (its parts 3 and 4); it does not count the "
                "COUNT of the pagination. “Naive takes” says how many times as long the naive page takes in the same place."
            }
        }
    }
}

fn cells(rows: &[Row]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.cells().map(str::to_owned).to_vec()).collect()
}

fn chart(figure: &Figure) -> Markup {
    html! {
        figure {
            h2 { (figure.chart.title) }
            div.wide { (figure.chart.draw(Frame::WIDE)) }
            div.narrow { (figure.chart.draw(Frame::NARROW)) }
            figcaption { (figure.caption) }
        }
    }
}

fn redis(run: &Run) -> Markup {
    html! {
        @if let Some(seen) = &run.redis {
            section {
                h2 { "What Redis saw of a miss and a hit" }
                p { "The key, with " (seen.ttl_seconds) " s left:" }
                pre { (seen.key) }
                p { "The lines of MONITOR:" }
                pre { @for line in &seen.monitor { (line) "\n" } }
            }
        }
    }
}

/// The measurements on each of the tables.
fn tables(run: &Run) -> Markup {
    let heads = [
        "tables",
        "list query",
        "by",
        "rows read",
        "naive",
        "optimized",
        "miss",
        "hit",
        "50 naive",
        "50 warm",
    ];
    html! {
        @if !run.plans.is_empty() {
            section {
                h2 { "Each size of the table" }
                (table(&heads, &run.plans.iter().map(|plan| table_row(run, plan)).collect::<Vec<_>>()))
                p.note { "The list query as EXPLAIN ANALYZE says; medians of single requests, and of 50 at once." }
            }
        }
    }
}

fn table_row(run: &Run, plan: &Plan) -> Vec<String> {
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

fn limits(run: &Run) -> Markup {
    let heads = ["asked for", "users", "requests/s", "median", "p99", "failed"];
    let rows: Vec<_> = run
        .limits
        .iter()
        .map(|limit| {
            let summary = &limit.summary;
            vec![
                limit.name.clone(),
                limit.users.to_string(),
                thousands(summary.per_second.round() as usize),
                milliseconds(summary.median_ms),
                milliseconds(summary.p99_ms),
                summary.failed().to_string(),
            ]
        })
        .collect();
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "As many requests as possible" }
                (table(&heads, &rows))
                p.note { @if let Some(words) = load_loop(run) { (words) } }
            }
        }
    }
}

fn method() -> Markup {
    html! {
        section {
            h2 { "How this was measured" }
            p {
                "Everything ran on one machine, the load loop included, over the loopback. A time runs from when a request is "
                "due to the last byte of its answer; connections are made before. In the open pace that is the intended "
                "start, whether a user was free or not. Failures are counted by kind and have no time. Percentiles are of "
                "all samples, which the JSON file has, too."
            }
        }
    }
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { @for head in heads { th { (head) } } } }
                tbody {
                    @for row in rows {
                        // On a phone each row is a card, and each cell shows its heading.
                        tr { @for (head, cell) in heads.iter().zip(row) { td data-head=(head) { (cell) } } }
                    }
                }
            }
        }
    }
}
