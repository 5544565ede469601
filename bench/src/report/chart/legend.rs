//! The names of the series, above the plot.

use maud::{Markup, html};

use super::{CHARACTER, Frame, Series, Shape};

/// The legend, and the height that it takes.
pub(super) struct Legend {
    pub(super) markup: Markup,
    pub(super) height: f64,
}

/// The height of a line.
const LINE: f64 = 20.0;

/// The left edge of the lines.
const LEFT: f64 = 4.0;

/// The distance from the beginning of a sample to its name.
const SAMPLE: f64 = 28.0;

impl Legend {
    /// The legend of the series that have a label, in as many lines as it needs.
    pub(super) fn new(series: &[Series], frame: Frame) -> Self {
        const GAP: f64 = 16.0;
        let (mut x, mut y, mut height) = (LEFT, 0.0, 0.0);
        let mut entries = Vec::new();
        for (series, label) in series.iter().filter_map(|series| Some((series, series.label.as_deref()?))) {
            let width = SAMPLE + label.chars().count() as f64 * CHARACTER;
            if x > LEFT && x + width > frame.width {
                (x, y) = (LEFT, y + LINE);
            }
            entries.push(entry(series, label, x, y + 14.0));
            x += width + GAP;
            height = y + LINE;
        }
        Self { markup: html! { @for entry in entries { (entry) } }, height }
    }
}

/// A sample of the series with its name.
fn entry(series: &Series, label: &str, x: f64, y: f64) -> Markup {
    let class = series.class;
    html! {
        @match series.shape {
            Shape::Dots => { path class={ "dots " (class) } d={ "M" (x + 4.0) " " (y - 4.0) "h0m7 0h0m7 0h0" } {} }
            Shape::Area | Shape::Bars => { path class={ "area " (class) } d={ "M" (x) " " (y - 9.0) "h20v10h-20z" } {} }
            Shape::Dashed => { path class={ "line dashed " (class) } d={ "M" (x) " " (y - 4.0) "h20" } {} }
            Shape::Line | Shape::Marked => { path class={ "line " (class) } d={ "M" (x) " " (y - 4.0) "h20" } {} }
        }
        text.name x=(x + SAMPLE - 2.0) y=(y) { (label) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legend_takes_the_lines_it_needs() {
        let series = |shape, label: &str| Series {
            shape,
            class: "hit",
            label: Some(label.to_owned()),
            points: Vec::new(),
        };
        let two = [series(Shape::Line, "a long name of a series"), series(Shape::Dots, "another long name")];
        assert_eq!(Legend::new(&two, Frame::WIDE).height, LINE);
        assert_eq!(Legend::new(&two, Frame { width: 200.0, height: 100.0 }).height, 2.0 * LINE);
        assert_eq!(Legend::new(&[], Frame::WIDE).height, 0.0);
    }
}
