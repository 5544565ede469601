//! The forecast as one HTML page without further files.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::outlook::{Group, Outlook};
use super::text::{duration, percent, thousands};

const STYLE: &str = include_str!("page.css");

impl Outlook {
    /// The page.
    pub fn html(&self) -> String {
        let heading = "What a cache would bring here";
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    // Without this, browsers request an icon and log an error.
                    link rel="icon" href="data:,";
                    title { (heading) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (heading) }
                    p { (self.read()) "." }
                    @if self.is_lower_bound {
                        p { "There are more pages than the forecast remembers: a cache would do better." }
                    }
                    @if !self.rules.is_empty() { (self.gains_table()) }
                    (groups(if self.proposed { "Proposed rules" } else { "Rules" }, &self.rules))
                    p { code { (self.advice()) } }
                    (groups("The paths that win most", &self.best_paths))
                    (self.personal())
                }
            }
        };
        page.into_string()
    }

    fn gains_table(&self) -> Markup {
        let heads = ["timeout", "hit ratio", "fewer requests", "origin's time", "memory", "mean age"];
        html! {
            h2 { "All rules together" }
            div.wide { table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for gain in self.gains() {
                    @let [timeout, ratio, rest @ ..] = gain.cells();
                    tr {
                        th scope="row" { (timeout) }
                        td { (bar(gain.hit_ratio)) (ratio) }
                        @for cell in rest { td { (cell) } }
                    }
                } }
            } }
        }
    }

    fn personal(&self) -> Markup {
        html! {
            @if !self.personal_paths.is_empty() {
                h2 { "Pages that look personal, and stay with the origin" }
                ul { @for path in &self.personal_paths {
                    li { code { (path.path) } ", " (thousands(path.requests)) " requests: " (path.because) }
                } }
            }
        }
    }
}

/// A ratio as the length of a bar.
fn bar(ratio: f64) -> Markup {
    html! { svg.bar viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
        rect width=(format!("{:.1}", ratio * 100.0)) height="10" {}
    } }
}

fn groups(title: &str, groups: &[Group]) -> Markup {
    html! {
        @if let Some(first) = groups.first() {
            h2 { (title) }
            div.wide { table {
                thead { tr {
                    th scope="col" { "path" }
                    th scope="col" { "requests" }
                    @for gain in &first.gains { th scope="col" { (gain.timeout.map(duration).unwrap_or_default()) } }
                } }
                tbody { @for group in groups { tr {
                    th scope="row" { code { (group.path) } (group.own_timeout()) }
                    td { (thousands(group.requests)) }
                    @for gain in &group.gains { td { (bar(gain.hit_ratio)) (percent(gain.hit_ratio)) } }
                } } }
            } }
        }
    }
}
