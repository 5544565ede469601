//! Charts as SVG: lines, dots and areas between two axes, and bars.
//!
//! Everything is drawn once for a wide page and once for a narrow one: a picture that is merely scaled down cannot be
//! read. Colours come from the page's style, by class.

mod bars;
mod scale;

use maud::{Markup, PreEscaped, html};

pub(super) use self::bars::{Bar, Bars};
pub(super) use self::scale::{Axis, Scale, number};

/// The style of all charts, light and dark.
pub(super) const STYLE: &str = include_str!("chart.css");

/// How large a chart is drawn, in the units of its texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Frame {
    /// For half a screen of 1,400 pixels.
    pub(super) const WIDE: Self = Self { width: 640.0, height: 320.0 };
    /// For a phone.
    pub(super) const NARROW: Self = Self { width: 340.0, height: 280.0 };
}

/// The room beside the plot: for the marks of the y axis, and for those of the x axis and its label.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// A line of the legend, and the label of the y axis below it.
const LEGEND_LINE: f64 = 20.0;
const LABEL_LINE: f64 = 24.0;

/// Of the texts' font: near enough to lay them out.
const CHARACTER: f64 = 7.0;

/// How points are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Line,
    /// A line with each of its points marked.
    Marked,
    Dashed,
    Dots,
    /// Filled down to the x axis.
    Area,
}

/// Points of one kind.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) shape: Shape,
    /// Of the style: its colour.
    pub(super) class: &'static str,
    /// In the legend, if it is to be there.
    pub(super) label: Option<String>,
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart with two axes.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What it shows, for those who cannot see it.
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

/// The part of a frame where points are.
#[derive(Clone, Copy, Debug)]
struct Plot {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Chart {
    pub(super) fn draw(&self, frame: Frame) -> Markup {
        svg(frame, &self.title, &self.inside(frame))
    }

    /// As a file of its own, with its style.
    pub(super) fn file(&self, frame: Frame) -> String {
        let styled = html! {
            style { (PreEscaped(STYLE)) }
            rect.paper width="100%" height="100%" {}
            (self.inside(frame))
        };
        svg(frame, &self.title, &styled).into_string() + "\n"
    }

    fn inside(&self, frame: Frame) -> Markup {
        let legend = legend(&self.entries(), frame);
        let top = legend.height + LABEL_LINE;
        let plot = Plot { left: LEFT, top, right: frame.width - RIGHT, bottom: frame.height - BOTTOM };
        html! {
            (legend.markup)
            (self.grid(plot))
            @for series in &self.series { (self.series(series, plot)) }
            text.label x=(plot.left - LEFT + 4.0) y=(plot.top - 9.0) { (self.y.label) }
            text.label.middle x=((plot.left + plot.right) / 2.0) y=(frame.height - 8.0) { (self.x.label) }
        }
    }

    fn entries(&self) -> Vec<(&'static str, Shape, &str)> {
        let labelled = self.series.iter().filter_map(|series| Some((series, series.label.as_deref()?)));
        labelled.map(|(series, label)| (series.class, series.shape, label)).collect()
    }

    fn grid(&self, plot: Plot) -> Markup {
        html! {
            @for tick in self.y.scale.ticks() {
                @let y = plot.y(self.y.scale.position(tick));
                path.grid d={ "M" (plot.left) " " (px(y)) "H" (plot.right) } {}
                text.tick.end x=(plot.left - 7.0) y=(px(y + 4.0)) { (number(tick)) }
            }
            @for tick in self.x.scale.ticks() {
                @let x = px(plot.x(self.x.scale.position(tick)));
                path.mark d={ "M" (x) " " (plot.bottom) "v5" } {}
                text class={ "tick " (anchor(&number(tick), self.x.scale.position(tick))) } x=(x) y=(plot.bottom + 19.0) {
                    (number(tick))
                }
            }
            path.axis d={ "M" (plot.left) " " (plot.bottom) "H" (plot.right) } {}
        }
    }

    fn series(&self, series: &Series, plot: Plot) -> Markup {
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
            }
        }
    }

    /// What a point says when it is pointed at.
    fn told(&self, series: &Series, x: f64, y: f64) -> String {
        let name = series.label.as_deref().unwrap_or_default();
        format!("{name}: {} at {} ({}, {})", number(y), number(x), self.y.label, self.x.label)
    }
}

impl Plot {
    fn x(&self, share: f64) -> f64 {
        self.left + share * (self.right - self.left)
    }

    fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }
}

struct Legend {
    markup: Markup,
    height: f64,
}

/// The names of the series, as many lines as they need.
fn legend(entries: &[(&'static str, Shape, &str)], frame: Frame) -> Legend {
    const SWATCH: f64 = 28.0;
    const GAP: f64 = 16.0;
    let (mut x, mut y) = (4.0, 0.0);
    let mut placed = Vec::new();
    for (class, shape, label) in entries {
        let width = SWATCH + label.chars().count() as f64 * CHARACTER;
        if x > 4.0 && x + width > frame.width {
            (x, y) = (4.0, y + LEGEND_LINE);
        }
        placed.push((x, y + 14.0, *class, *shape, *label));
        x += width + GAP;
    }
    let height = if entries.is_empty() { 0.0 } else { y + LEGEND_LINE };
    let markup = html! {
        @for (x, y, class, shape, label) in placed {
            @if shape == Shape::Dots {
                path class={ "dots " (class) } d={ "M" (x + 4.0) " " (y - 4.0) "h0m7 0h0m7 0h0" } {}
            } @else if shape == Shape::Area {
                path class={ "area " (class) } d={ "M" (x) " " (y - 9.0) "h20v10h-20z" } {}
            } @else {
                @let dashed = if shape == Shape::Dashed { "dashed " } else { "" };
                path class={ "line " (dashed) (class) } d={ "M" (x) " " (y - 4.0) "h20" } {}
            }
            text.name x=(x + SWATCH - 2.0) y=(y) { (label) }
        }
    };
    Legend { markup, height }
}

/// The picture around what was drawn.
fn svg(frame: Frame, title: &str, drawn: &Markup) -> Markup {
    let Frame { width, height } = frame;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(title) {
            (drawn)
        }
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

/// A point is a line without length: its round end shows.
fn dots(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("M{} {}h0", px(*x), px(*y))).collect()
}

fn area(points: &[(f64, f64)], bottom: f64) -> String {
    let Some(first) = points.first() else { return String::new() };
    format!("{}V{}H{}Z", line(points), px(bottom), px(first.0))
}

/// A long number at the right end of its axis ends there.
fn anchor(text: &str, position: f64) -> &'static str {
    if position > 0.97 && text.len() as f64 * CHARACTER / 2.0 > RIGHT { "end" } else { "middle" }
}

/// To a tenth of a unit: finer is not seen, and makes the file large.
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
        assert!(svg.contains("M56 274L626 44"), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt;test&gt;\""), "{svg}");
        assert!(svg.contains("<title>naive: 100 at 10 (ms, users)</title>"), "{svg}");
    }

    #[test]
    fn a_legend_takes_the_lines_it_needs() {
        let entries =
            [("a", Shape::Line, "a long name of a series"), ("b", Shape::Dots, "another long name")];
        assert_eq!(legend(&entries, Frame::WIDE).height, LEGEND_LINE);
        assert_eq!(legend(&entries, Frame { width: 200.0, height: 100.0 }).height, 2.0 * LEGEND_LINE);
        assert_eq!(legend(&[], Frame::WIDE).height, 0.0);
    }
}
