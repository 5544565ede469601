//! The report: one HTML page without further files.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::article;
use super::chart::{Frame, STYLE};
use super::charts::{self, Figure};
use super::story::{Fact, answer, facts, failures};
use super::tables;
use crate::run::Run;

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
                    @if let Some(table) = article::table(run) { (table.html()) }
                    section.charts { @for figure in charts::all(run) { (chart(&figure)) } }
                    @if let Some(table) = tables::freshness(run) { (table.html()) }
                    @if let Some(table) = tables::limits(run) { (table.html()) }
                    @if let Some(table) = tables::sizes(run) { (table.html()) }
                    (redis(run))
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
