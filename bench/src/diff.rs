//! `diff`: two runs side by side, figure by figure.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::args::DiffArgs;
use crate::run::{Figure, Run, RunError};

/// Prints the comparison, and errors on standard error.
pub(crate) fn run(args: &DiffArgs) -> ExitCode {
    match compare(args) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn compare(args: &DiffArgs) -> Result<String, RunError> {
    let (before, after) = (Run::read(&args.before)?, Run::read(&args.after)?);
    let mut text = String::new();
    if before.machine != after.machine {
        text += &format!("Other machines:\n  {}\n  {}\n\n", before.machine, after.machine);
    }
    Ok(text + &table(&before.figures(), &after.figures(), args.noise as f64 / 100.0))
}

/// The table of the figures of both runs, and the number of figures that only one run has.
fn table(before: &[Figure], after: &[Figure], noise: f64) -> String {
    let known: BTreeMap<_, _> =
        before.iter().map(|figure| ((&figure.name, figure.unit), figure.value)).collect();
    let both: Vec<_> =
        after.iter().filter_map(|figure| Some((figure, *known.get(&(&figure.name, figure.unit))?))).collect();
    let width = both.iter().map(|(figure, _)| figure.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (figure, before) in &both {
        let Figure { name, unit, value, .. } = figure;
        let line = format!(
            "{name:<width$}  {before:>10.2}  {value:>10.2} {unit:<7}  {}",
            verdict(figure, *before, noise)
        );
        text += line.trim_end();
        text.push('\n');
    }
    let alone = before.len() + after.len() - 2 * both.len();
    if alone > 0 {
        text += &format!("{alone} figures are in one of the two only.\n");
    }
    text
}

fn verdict(figure: &Figure, before: f64, noise: f64) -> String {
    if figure.value == before {
        return "same".to_owned();
    }
    if before == 0.0 || figure.value == 0.0 {
        let grown = figure.value > before;
        return if grown == figure.more_is_better { "better" } else { "worse" }.to_owned();
    }
    let factor = figure.value / before;
    let change = format!("{:+.0} %", (factor - 1.0) * 100.0);
    if factor.max(1.0 / factor) <= 1.0 + noise {
        return format!("{change}  noise");
    }
    format!("{change}  {}", if (factor > 1.0) == figure.more_is_better { "better" } else { "worse" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, more_is_better: bool) -> Figure {
        Figure { name: "hit".to_owned(), unit: "ms", value, more_is_better }
    }

    #[test]
    fn a_change_is_better_or_worse_depending_on_the_figure() {
        for (before, after, more_is_better, expected) in [
            (1.0, 1.0, false, "same"),
            (1.0, 2.0, false, "+100 %  worse"),
            (1.0, 0.5, false, "-50 %  better"),
            (100.0, 200.0, true, "+100 %  better"),
            (100.0, 110.0, true, "+10 %  noise"),
            (100.0, 84.0, true, "-16 %  noise"),
            (0.0, 3.0, false, "worse"),
            (3.0, 0.0, false, "better"),
        ] {
            assert_eq!(verdict(&figure(after, more_is_better), before, 0.2), expected, "{before} {after}");
        }
    }

    #[test]
    fn only_figures_of_both_runs_are_compared() {
        let other = Figure { name: "new".to_owned(), ..figure(1.0, false) };
        let text = table(&[figure(2.0, false)], &[figure(1.0, false), other], 0.2);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.starts_with("hit        2.00        1.00 ms"), "{text}");
        assert!(text.ends_with("1 figures are in one of the two only.\n"), "{text}");
    }
}
