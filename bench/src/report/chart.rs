//! Charts as SVG: lines, dots, areas and bars between two axes.
//!
//! `scale` places numbers on an axis and chooses its marks; `plot` leaves room for the texts around the points; `legend` names
//! the series. Each chart is drawn twice, for a wide page and for a narrow one, since nobody can read a picture that is only
//! scaled down. The colours come from the page's style, by class.

mod legend;
mod plot;
mod scale;

use maud::{Markup, PreEscaped, html};

use self::legend::Legend;
use self::plot::Plot;
use self::scale::number;
pub(super) use self::scale::{Axis, Scale};

/// The style of all charts, light and dark.
pub(super) const STYLE: &str = include_str!("chart.css");

/// The size of a chart, in the units of its texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) width: f64,
    /// The height; ignored for a chart of bars, whose height depends on its bars.
    pub(super) height: f64,
}

impl Frame {
    /// The size for half a screen of 1,400 pixels.
    pub(super) const WIDE: Self = Self { width: 640.0, height: 320.0 };
    /// The size for a phone.
    pub(super) const NARROW: Self = Self { width: 340.0, height: 280.0 };
}

/// The width of a character, accurate enough for the layout.
const CHARACTER: f64 = 7.0;

/// How points are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Line,
    /// A line with each of its points marked.
    Marked,
    Dashed,
    Dots,
    /// The area down to the x axis.
    Area,
    /// A bar from the y axis to each point, with the number at its end.
    Bars,
}

/// The points of one kind.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) shape: Shape,
    /// The style's class, which sets the colour.
    pub(super) class: &'static str,
    /// The name in the legend; `None` leaves the series out of the legend.
    pub(super) label: Option<String>,
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart with two axes.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

impl Chart {
    pub(super) fn draw(&self, frame: Frame) -> Markup {
        self.svg(frame, &html! {})
    }

    /// The chart as an SVG file, with its style.
    pub(super) fn file(&self, frame: Frame) -> String {
        let style = html! {
            style { (PreEscaped(STYLE)) }
            rect.paper width="100%" height="100%" {}
        };
        self.svg(frame, &style).into_string() + "\n"
    }

    fn svg(&self, frame: Frame, style: &Markup) -> Markup {
        let legend = Legend::new(&self.series, frame);
        let plot = Plot::new(self, frame, legend.height);
        let (width, height) = (frame.width, plot.height());
        html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(self.title) {
                (style)
                (legend.markup)
                (self.y_axis(&plot))
                (self.x_axis(&plot))
                path.axis d=(self.base(&plot)) {}
                @for series in &self.series { (self.series(series, &plot)) }
            }
        }
    }

    fn y_axis(&self, plot: &Plot) -> Markup {
        let are_rows = self.y.scale.are_rows();
        html! {
            @for mark in self.y.scale.marks() {
                @let y = plot.y(mark.position);
                @if !are_rows { path.grid d={ "M" (plot.left) " " (px(y)) "H" (plot.right) } {} }
                text class={ (if are_rows { "name" } else { "tick" }) " end" } x=(plot.left - 7.0) y=(px(y + 4.0)) { (mark.text) }
            }
            @if !are_rows { text.label x="4" y=(plot.top - 9.0) { (self.y.label) } }
        }
    }

    fn x_axis(&self, plot: &Plot) -> Markup {
        let under_rows = self.y.scale.are_rows();
        html! {
            @for mark in self.x.scale.marks() {
                @let x = px(plot.x(mark.position));
                @if under_rows { path.grid d={ "M" (x) " " (plot.top) "V" (plot.bottom) } {} }
                @else { path.mark d={ "M" (x) " " (plot.bottom) "v5" } {} }
                text class={ "tick " (plot.anchor(&mark)) } x=(x) y=(plot.bottom + 19.0) { (mark.text) }
            }
            text.label.middle x=((plot.left + plot.right) / 2.0) y=(plot.height() - 8.0) { (self.x.label) }
        }
    }

    /// The line where bars or areas begin.
    fn base(&self, plot: &Plot) -> String {
        let Plot { left, top, right, bottom, .. } = plot;
        if self.y.scale.are_rows() {
            format!("M{left} {top}V{bottom}")
        } else {
            format!("M{left} {bottom}H{right}")
        }
    }

    fn series(&self, series: &Series, plot: &Plot) -> Markup {
        let place =
            |&(x, y): &(f64, f64)| (plot.x(self.x.scale.position(x)), plot.y(self.y.scale.position(y)));
        let points: Vec<_> = series.points.iter().map(place).collect();
        let class = series.class;
        html! {
            @match series.shape {
                Shape::Line => { path class={ "line " (class) } d=(line(&points)) {} }
                Shape::Dashed => { path class={ "line dashed " (class) } d=(line(&points)) {} }
                Shape::Dots => { path class={ "dots " (class) } d=(dots(&points)) {} }
                Shape::Area => { path class={ "area " (class) } d=(area(&points, plot.bottom)) {} }
                Shape::Marked => {
                    path class={ "line " (class) } d=(line(&points)) {}
                    @for (at, (x, y)) in points.iter().zip(&series.points) {
                        circle class={ "point " (class) } cx=(px(at.0)) cy=(px(at.1)) r="4" {
                            title { (self.told(series, *x, *y)) }
                        }
                    }
                }
                Shape::Bars => {
                    @for (at, (x, _)) in points.iter().zip(&series.points) { (bar(class, *at, *x, plot)) }
                }
            }
        }
    }

    /// The text that appears when the mouse is over a point.
    fn told(&self, series: &Series, x: f64, y: f64) -> String {
        let name = series.label.as_deref().unwrap_or_default();
        format!("{name}: {} at {} ({}, {})", number(y), number(x), self.y.label, self.x.label)
    }
}

fn line(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (number, (x, y)) in points.iter().enumerate() {
        path += if number == 0 { "M" } else { "L" };
        path += &format!("{} {}", px(*x), px(*y));
    }
    path
}

/// A dot is a line of length 0 with round ends.
fn dots(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("M{} {}h0", px(*x), px(*y))).collect()
}

fn area(points: &[(f64, f64)], bottom: f64) -> String {
    let Some(first) = points.first() else { return String::new() };
    format!("{}V{}H{}Z", line(points), px(bottom), px(first.0))
}

fn bar(class: &str, (x, y): (f64, f64), length: f64, plot: &Plot) -> Markup {
    const THICKNESS: f64 = 26.0;
    // Even the smallest bar is visible.
    let width = (x - plot.left).max(1.5);
    html! {
        rect class={ "bar " (class) } x=(plot.left) y=(px(y - THICKNESS / 2.0)) width=(px(width)) height=(THICKNESS) rx="2" {}
        text.value x=(px(x + 7.0)) y=(px(y + 5.0)) { (number(length)) }
    }
}

/// Rounds to a tenth of a unit: finer positions cannot be seen, and make the file large.
fn px(place: f64) -> String {
    let text = format!("{place:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_between_the_axes() {
        let chart = Chart {
            title: "a <test>".to_owned(),
            x: Axis { label: "users", scale: Scale::to(10.0) },
            y: Axis { label: "ms", scale: Scale::log([1.0, 100.0]) },
            series: vec![Series {
                shape: Shape::Marked,
                class: "naive",
                label: Some("naive".to_owned()),
                points: vec![(0.0, 1.0), (10.0, 100.0)],
            }],
        };
        let svg = chart.draw(Frame::WIDE).into_string();
        // The mark `100` is to the left of the points, the x axis below, the legend and the label of the y axis above.
        assert!(svg.contains("M35 274L626 44"), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt;test&gt;\""), "{svg}");
        assert!(svg.contains("<title>naive: 100 at 10 (ms, users)</title>"), "{svg}");
    }

    #[test]
    fn a_bar_is_as_long_as_its_number_and_always_visible() {
        let bar = |row, length| Series {
            shape: Shape::Bars,
            class: "hit",
            label: None,
            points: vec![(length, f64::from(row))],
        };
        let chart = Chart {
            title: "bars".to_owned(),
            x: Axis { label: "ms", scale: Scale::just(62.0) },
            y: Axis::rows(["a", "b", "c"].map(str::to_owned)),
            series: vec![bar(0, 62.0), bar(1, 31.0), bar(2, 0.0)],
        };
        let svg = chart.draw(Frame::NARROW).into_string();
        // 340 wide, 21 for the name, 30 for the number.
        for width in ["289", "144.5", "1.5"] {
            assert!(svg.contains(&format!("width=\"{width}\"")), "{width}: {svg}");
        }
    }
}
