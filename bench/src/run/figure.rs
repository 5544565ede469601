//! The figures of a run. The same figure has the same name in every run.

use super::{Run, Site};
use crate::tables::Tables;

/// A number with a name and a unit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// Whether a higher number is better.
    pub(crate) more_is_better: bool,
}

impl Figure {
    fn milliseconds(name: String, value: f64) -> Self {
        Self { name, unit: "ms", value, more_is_better: false }
    }

    fn per_second(name: String, value: f64) -> Self {
        Self { name, unit: "/s", value, more_is_better: true }
    }

    fn count(name: String, unit: &'static str, value: f64) -> Self {
        Self { name, unit, value, more_is_better: false }
    }
}

impl Run {
    /// All figures, in the order of the article.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let mut figures = self.single_figures();
        for plan in &self.plans {
            let name = format!("{}, list query", plan.tables);
            figures.push(Figure::milliseconds(name, plan.execution_ms));
        }
        for bombardment in &self.bombardments {
            let name = format!("{}, {} at once", bombardment.tables, bombardment.series.name);
            figures.push(Figure::milliseconds(name, bombardment.series.summary.median_ms));
        }
        for rung in &self.ladder {
            let name = format!("{} users, {}", rung.users, rung.way.name());
            figures.push(Figure::milliseconds(name, rung.series.summary.median_ms));
        }
        figures.extend(self.scenario_figures());
        for limit in &self.limits {
            figures.push(Figure::per_second(format!("limit, {}", limit.name), limit.summary.per_second));
        }
        for page in &self.freshness {
            let name = |what: &str| format!("prices change, {}, {what}", page.name);
            figures.push(Figure::milliseconds(name("median age"), page.median_age_ms()));
            figures.push(Figure::milliseconds(name("greatest age"), page.greatest_age_ms()));
            figures.push(Figure::count(name("queries"), "queries", page.queries as f64));
        }
        let failed: usize = self.failures().values().sum();
        figures.push(Figure::count("failed requests".to_owned(), "", failed as f64));
        figures
    }

    fn single_figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for single in &self.singles {
            let site = if single.site == Site::Django { "Django, " } else { "" };
            let name = format!("{}, {site}{}", single.tables, single.way.name());
            figures.push(Figure::milliseconds(name.clone(), single.series.summary.median_ms));
            if let Some(queries) = single.queries {
                figures.push(Figure::count(name, "queries", queries as f64));
            }
        }
        figures
    }

    fn scenario_figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for scenario in &self.scenarios {
            for series in &scenario.series {
                let name = |what: &str| format!("{}, {}{what}", scenario.name, series.name);
                figures.push(Figure::milliseconds(name(", median"), series.summary.median_ms));
                figures.push(Figure::milliseconds(name(", p95"), series.summary.p95_ms));
                figures.push(Figure::per_second(name(""), series.summary.per_second));
            }
        }
        figures
    }
}

impl std::fmt::Display for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows, indexes {}", thousands(self.properties), self.indexes.name())
    }
}

/// `50,000`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&String::from_utf8_lossy(group));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (500_000, "500,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(thousands(number), text);
        }
    }
}
