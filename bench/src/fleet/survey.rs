//! The tables of a model: one number changes at a time.

use std::fmt::Write as _;

use super::costs::{MEASURED, Means};
use super::limits::{filled, first, rates, used};
use super::plan::Plan;

const PROXIES: [f64; 5] = [1.0, 3.0, 10.0, 30.0, 100.0];
const NODES: [f64; 4] = [1.0, 3.0, 10.0, 30.0];
const PAGES: [f64; 5] = [1e4, 1e5, 1e6, 1e7, 1e8];
const CHANGES: [f64; 5] = [0.0, 1.0, 10.0, 100.0, 1000.0];

/// The tables for a fleet.
pub(super) fn survey(plan: &Plan, means: &Means) -> String {
    let mut text = format!(
        "{} proxies with {} cores, {} nodes, {} pages of which {} are near, {} changes/s, kept {} s; origin {}/s.\n",
        plan.proxies,
        means.cores,
        plan.nodes,
        short(plan.pages),
        short(plan.near),
        plan.changes,
        plan.timeout,
        short(means.origin),
    );
    let tables: [(&str, Vec<Plan>); 4] = [
        ("proxies", PROXIES.map(|proxies| Plan { proxies, ..*plan }).into()),
        ("nodes", NODES.map(|nodes| Plan { nodes, ..*plan }).into()),
        ("pages", PAGES.map(|pages| Plan { pages, ..*plan }).into()),
        ("changes/s", CHANGES.map(|changes| Plan { changes, ..*plan }).into()),
    ];
    for (index, (name, plans)) in tables.iter().enumerate() {
        let _ = write!(
            text,
            "\n{name:>10}{:>10}{:>8}{:>10}{:>10}{:>10}{:>17}  breaks first\n",
            "hits/s", "near", "reads/s", "origin/s", "purges/s", "invalidations/s"
        );
        for plan in plans {
            let key = [plan.proxies, plan.nodes, plan.pages, plan.changes][index];
            let _ = writeln!(text, "{:>10}{}", short(key), row(plan, means));
        }
    }
    text
}

/// The work of a fleet when one of its parts is full.
fn row(plan: &Plan, means: &Means) -> String {
    let plan = filled(plan, &MEASURED, means);
    let rates = rates(&plan, means);
    let near = 100.0 * rates.near_hits / rates.hits().max(f64::MIN_POSITIVE);
    format!(
        "{:>10}{:>8}{:>10}{:>10}{:>10}{:>17}  {}",
        short(rates.hits()),
        format!("{near:.0}%"),
        short(rates.reads()),
        short(rates.origin),
        short(rates.purges),
        short(rates.invalidations),
        first(&used(&plan, &rates, &MEASURED, means)).0,
    )
}

/// A number with at least two digits: `950`, `12k`, `1.5M`.
pub(super) fn short(number: f64) -> String {
    let (number, unit) = match number {
        n if n >= 999.5e6 => (n / 1e9, "G"),
        n if n >= 999.5e3 => (n / 1e6, "M"),
        n if n >= 999.5 => (n / 1e3, "k"),
        n => (n, ""),
    };
    match number {
        n if n >= 9.95 || n == n.round() => format!("{n:.0}{unit}"),
        n => format!("{n:.1}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MEANS, SMALL};
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (3.0, "3"),
            (9.96, "10"),
            (950.0, "950"),
            (999.9, "1.0k"),
            (1234.0, "1.2k"),
            (1e8, "100M"),
            (2.5e9, "2.5G"),
        ] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn each_table_has_its_rows_and_names_what_breaks() {
        let text = survey(&SMALL, &MEANS);
        let rows = PROXIES.len() + NODES.len() + PAGES.len() + CHANGES.len();
        let lines = text.lines().filter(|line| !line.is_empty()).count();
        assert_eq!(lines, 1 + 4 + rows, "{text}");
        assert!(text.contains("CPU of the proxies"), "{text}");
    }
}
