//! Axes: where a number is placed, and which numbers are marked.

use crate::run::thousands;

/// An axis, with a label of what it measures and in which unit.
#[derive(Clone, Debug)]
pub(in crate::report) struct Axis {
    pub(in crate::report) label: &'static str,
    pub(in crate::report) scale: Scale,
}

/// How numbers are placed on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::report) enum Scale {
    /// An axis from 0 to this number.
    Linear { to: f64 },
    /// A logarithmic axis from one power of ten to another.
    Log { from: i32, to: i32 },
    /// A row for each name, from the top down; the first is number 0.
    Rows(Vec<String>),
}

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    /// The position on the axis, from 0 to 1.
    pub(super) position: f64,
    pub(super) text: String,
}

impl Axis {
    /// A y axis of rows, which needs no label.
    pub(in crate::report) fn rows(names: impl IntoIterator<Item = String>) -> Self {
        Self { label: "", scale: Scale::Rows(names.into_iter().collect()) }
    }
}

impl Scale {
    /// An axis from 0 to the first mark above the number.
    pub(in crate::report) fn to(most: f64) -> Self {
        let step = step(most);
        Self::Linear { to: (most / step).ceil().max(1.0) * step }
    }

    /// An axis from 0 to exactly this number.
    pub(in crate::report) fn just(most: f64) -> Self {
        Self::Linear { to: if most > 0.0 { most } else { 1.0 } }
    }

    /// An axis with the powers of ten that enclose all numbers above 0.
    pub(in crate::report) fn log(numbers: impl IntoIterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for number in numbers.into_iter().filter(|number| *number > 0.0) {
            (least, most) = (least.min(number), most.max(number));
        }
        if least > most {
            return Self::Log { from: 0, to: 1 };
        }
        let from = least.log10().floor() as i32;
        Self::Log { from, to: (most.log10().ceil() as i32).max(from + 1) }
    }

    /// The position of a number: 0 at the beginning of the axis, 1 at its end. Numbers beyond the axis are drawn at its edge.
    pub(super) fn position(&self, number: f64) -> f64 {
        let position = match self {
            Self::Linear { to } => number / to,
            Self::Log { from, to } => (number.max(1e-9).log10() - f64::from(*from)) / f64::from(to - from),
            // The position is the middle of the row.
            Self::Rows(names) => 1.0 - (number + 0.5) / names.len() as f64,
        };
        position.clamp(0.0, 1.0)
    }

    /// Whether the marks are names and not numbers.
    pub(super) fn are_rows(&self) -> bool {
        matches!(self, Self::Rows(_))
    }

    /// The marks of the axis.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let text = |tick| match self {
            Self::Rows(names) => names[tick as usize].clone(),
            Self::Linear { .. } | Self::Log { .. } => number(tick),
        };
        self.ticks()
            .into_iter()
            .map(|tick| Mark { position: self.position(tick), text: text(tick) })
            .collect()
    }

    fn ticks(&self) -> Vec<f64> {
        match self {
            Self::Linear { to } => {
                let step = step(*to);
                (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= to * 1.001).collect()
            }
            Self::Log { from, to } => (*from..=*to).map(|power| 10f64.powi(power)).collect(),
            Self::Rows(names) => (0..names.len()).map(|row| row as f64).collect(),
        }
    }
}

/// The distance between marks, so that there are about five up to the number: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    let rough = (most / 5.0).max(1e-9);
    let unit = 10f64.powi(rough.log10().floor() as i32);
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * unit)
        .into_iter()
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(rough)
}

/// A number in its shortest form: `0.05`, `12.5`, `1,000`.
pub(super) fn number(number: f64) -> String {
    if number >= 1e6 {
        return format!("{}M", number / 1e6);
    }
    if number >= 1000.0 {
        return thousands(number.round() as usize);
    }
    let digits = match number {
        ..0.1 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_ends_at_a_mark() {
        assert_eq!(Scale::to(62.0).ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(Scale::to(0.7).ticks().len(), 5);
        assert_eq!(Scale::to(0.0).position(0.0), 0.0);
    }

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten() {
        assert_eq!(Scale::log([0.3, 250.0]), Scale::Log { from: -1, to: 3 });
        assert_eq!(Scale::log([0.3, 250.0]).ticks(), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(Scale::log([0.0]), Scale::Log { from: 0, to: 1 });
        assert_eq!(Scale::log([1.0]), Scale::Log { from: 0, to: 1 });
    }

    #[test]
    fn rows_go_from_the_top_down() {
        let marks = Scale::Rows(["first", "last"].map(str::to_owned).into()).marks();
        let mark = |position, text: &str| Mark { position, text: text.to_owned() };
        assert_eq!(marks, [mark(0.75, "first"), mark(0.25, "last")]);
    }

    #[test]
    fn numbers_beyond_the_axis_are_at_the_edge() {
        let scale = Scale::Log { from: 0, to: 2 };
        for (number, position) in [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (10.0, 0.5), (1e6, 1.0)] {
            assert_eq!(scale.position(number), position, "{number}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.05, "0.05"),
            (0.1, "0.1"),
            (2.0, "2"),
            (12.5, "12.5"),
            (100.0, "100"),
            (50_000.0, "50,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
