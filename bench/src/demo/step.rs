//! The steps of the walk, and their table.

use std::fmt::{self, Display, Formatter};

use crate::laboratory::LabError;
use crate::load::Sample;
use crate::spread::{Milliseconds, Spread};

/// One step: the observation, the time it took, and the differences from the article.
#[derive(Debug)]
pub(super) struct Step {
    name: &'static str,
    /// A sentence that explains the observation.
    why: &'static str,
    /// Lines as another program prints them: a key, a plan, output of MONITOR.
    shown: Vec<String>,
    seen: Vec<String>,
    unlike: Vec<String>,
    times: Option<Spread>,
    factor: Option<f64>,
}

impl Step {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            why: "",
            shown: Vec::new(),
            seen: Vec::new(),
            unlike: Vec::new(),
            times: None,
            factor: None,
        }
    }

    /// A step of requests, with their times.
    pub(super) fn timed(name: &'static str, samples: &[Sample]) -> Self {
        Self { times: Spread::of(samples), ..Self::new(name) }
    }

    /// Adds a sentence that explains the observation.
    pub(super) fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    /// Adds lines as another program prints them.
    pub(super) fn show(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.shown.extend(lines);
        self
    }

    /// Adds how many times as fast this step was as a step with this median.
    pub(super) fn compared_with(mut self, median: Option<f64>) -> Self {
        self.factor = median.zip(self.median()).map(|(theirs, ours)| theirs / ours);
        self
    }

    /// The median in seconds.
    pub(super) fn median(&self) -> Option<f64> {
        self.times.as_ref().map(|times| times.median().as_secs_f64())
    }

    /// Adds an observation, without a check.
    pub(super) fn note(mut self, seen: String) -> Self {
        self.seen.push(seen);
        self
    }

    /// Adds an observation, and checks that it equals `wanted`.
    pub(super) fn expect(self, seen: impl Into<String>, wanted: &str) -> Self {
        let seen = seen.into();
        let holds = seen == wanted;
        self.expect_that(holds, seen, wanted)
    }

    /// Adds an observation, and the result of a check.
    pub(super) fn expect_that(self, holds: bool, seen: String, wanted: &str) -> Self {
        self.note(seen).demand(holds, wanted)
    }

    /// Adds only the result of a check.
    pub(super) fn demand(mut self, holds: bool, wanted: &str) -> Self {
        if !holds {
            self.unlike.push(format!("{}: expected {wanted}", self.name));
        }
        self
    }

    /// Writes the observation, the sentence, and the shown lines.
    fn explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen.join(", ");
        let mut said = [seen.as_str(), self.why].into_iter().filter(|text| !text.is_empty());
        said.try_for_each(|text| writeln!(f, "      {text}"))?;
        self.shown.iter().try_for_each(|line| writeln!(f, "        {line}"))
    }

    fn cells(&self) -> [String; COLUMNS] {
        let mark = if self.unlike.is_empty() { "ok" } else { "NO" };
        let [min, median, p95, max] = self.times.as_ref().map(times).unwrap_or_default();
        let factor = self.factor.map(factor).unwrap_or_default();
        [mark.to_owned(), self.name.to_owned(), min, median, p95, max, factor]
    }
}

/// A single request has one time and no spread.
fn times(spread: &Spread) -> [String; 4] {
    let [min, median, p95, max] = spread.quartet().map(|time| Milliseconds(time).to_string());
    if spread.is_of_one() {
        [String::new(), median, String::new(), String::new()]
    } else {
        [min, median, p95, max]
    }
}

fn factor(factor: f64) -> String {
    if factor < 9.95 { format!("{factor:.1}x") } else { format!("{factor:.0}x") }
}

/// The walk, as a table of times that fits into a terminal of 80 columns. The lines below a row explain it.
#[derive(Debug)]
pub(super) struct Steps(pub(super) Vec<Step>);

impl Steps {
    /// An error that names each step that differs from the article.
    pub(super) fn verdict(&self) -> Result<(), LabError> {
        let unlike: Vec<_> =
            self.0.iter().flat_map(|step| &step.unlike).map(|text| format!("  {text}")).collect();
        if unlike.is_empty() { Ok(()) } else { Err(LabError::Unlike(unlike.join("\n"))) }
    }
}

const COLUMNS: usize = 7;

const HEADS: [&str; COLUMNS] = ["", "step", "min", "median", "p95", "max", "faster"];

/// Cells from this column on hold numbers, which are aligned to the right.
const FIRST_NUMBER: usize = 2;

impl Display for Steps {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rows = vec![HEADS.map(str::to_owned)];
        rows.extend(self.0.iter().map(Step::cells));
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        let steps = std::iter::once(None).chain(self.0.iter().map(Some));
        for (row, step) in rows.iter().zip(steps) {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let cell =
                    if column < FIRST_NUMBER { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
            step.map_or(Ok(()), |step| step.explain(f))?;
        }
        let mut unlike = self.0.iter().flat_map(|step| &step.unlike);
        unlike.try_for_each(|text| writeln!(f, "NO  {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_as_the_article_says_is_ok() {
        let steps = Step::new("cached page, again")
            .expect("HIT", "HIT")
            .note("0 queries".to_owned())
            .because("It is stored.")
            .show(["\"GET\" \":1:key\"".to_owned()]);
        let steps = Steps(vec![steps]);
        assert!(steps.verdict().is_ok());
        assert_eq!(
            steps.to_string(),
            "    step                min  median  p95  max  faster\n\
             ok  cached page, again\n      HIT, 0 queries\n      It is stored.\n        \"GET\" \":1:key\"\n"
        );
    }

    #[test]
    fn a_step_unlike_the_article_is_named_with_what_was_expected() {
        let steps =
            Steps(vec![Step::new("first").expect("MISS", "MISS"), Step::new("again").expect("MISS", "HIT")]);
        let verdict = steps.verdict().unwrap_err().to_string();
        assert_eq!(verdict, "not as the article says:\n  again: expected HIT");
        assert!(steps.to_string().contains("\nNO  again\n      MISS\nNO  again: expected HIT\n"), "{steps}");
    }

    #[test]
    fn factors_keep_two_digits_or_more() {
        for (number, text) in [(0.5, "0.5x"), (9.94, "9.9x"), (9.96, "10x"), (812.4, "812x")] {
            assert_eq!(factor(number), text);
        }
    }
}
