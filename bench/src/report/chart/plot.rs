//! The plot: the part of a chart that holds its points.

use super::scale::{Mark, number};
use super::{CHARACTER, Chart, Frame, Shape};

/// The edges of the plot, in the units of the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plot {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    /// The space to the right of the plot.
    margin: f64,
}

/// The space below the plot, for the marks and the label of the x axis.
const BELOW: f64 = 46.0;

impl Plot {
    /// The plot takes the space that the texts around it leave in the frame.
    pub(super) fn new(chart: &Chart, frame: Frame, legend: f64) -> Self {
        /// The label of the y axis, which rows do not have.
        const LABEL: f64 = 24.0;
        const NO_LABEL: f64 = 4.0;
        /// The height of a row with its bar.
        const ROW: f64 = 44.0;
        /// Room for half of the last mark of the x axis.
        const MARGIN: f64 = 14.0;
        let marks = chart.y.scale.marks();
        let left = width(marks.iter().map(|mark| mark.text.as_str()));
        let bars = chart.series.iter().filter(|series| series.shape == Shape::Bars);
        let ends: Vec<_> =
            bars.flat_map(|series| &series.points).map(|(length, _)| number(*length)).collect();
        // These numbers are bold.
        let bold = ends.iter().map(String::len).max().unwrap_or(0) as f64;
        let margin = if ends.is_empty() { MARGIN } else { width(ends.iter().map(String::as_str)) + bold };
        let are_rows = chart.y.scale.are_rows();
        let top = legend + if are_rows { NO_LABEL } else { LABEL };
        let bottom = if are_rows { top + ROW * marks.len() as f64 } else { frame.height - BELOW };
        Self { left, top, right: frame.width - margin, bottom, margin }
    }

    /// The x coordinate at this share of the x axis.
    pub(super) fn x(&self, share: f64) -> f64 {
        self.left + share * (self.right - self.left)
    }

    /// The y coordinate at this share of the y axis.
    pub(super) fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }

    /// The height of the whole chart.
    pub(super) fn height(&self) -> f64 {
        self.bottom + BELOW
    }

    /// How a mark of the x axis is aligned: centred, or right-aligned if it is long and at the end of the axis.
    pub(super) fn anchor(&self, mark: &Mark) -> &'static str {
        let half = mark.text.len() as f64 * CHARACTER / 2.0;
        if mark.position > 0.97 && half > self.margin { "end" } else { "middle" }
    }
}

/// The width of the longest text, with the space around it.
fn width<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    texts.map(|text| text.chars().count()).max().unwrap_or(0) as f64 * CHARACTER + 14.0
}
