//! Bars, one below the other, from 0.

use maud::{Markup, html};

use super::{CHARACTER, Frame, Scale, number, px, svg};

/// A number with its name.
#[derive(Clone, Debug)]
pub(in crate::report) struct Bar {
    pub(in crate::report) name: String,
    pub(in crate::report) class: &'static str,
    pub(in crate::report) value: f64,
    /// What stands at its end.
    pub(in crate::report) text: String,
}

/// Bars over one axis.
#[derive(Clone, Debug)]
pub(in crate::report) struct Bars {
    pub(in crate::report) title: String,
    pub(in crate::report) label: &'static str,
    pub(in crate::report) bars: Vec<Bar>,
}

/// A bar and the room below it.
const PITCH: f64 = 44.0;
const THICKNESS: f64 = 26.0;

/// Of the axis with its label.
const AXIS: f64 = 52.0;

impl Bars {
    pub(in crate::report) fn draw(&self, frame: Frame) -> Markup {
        let longest = |text: fn(&Bar) -> &str| {
            self.bars.iter().map(|bar| text(bar).chars().count()).max().unwrap_or(0) as f64 * CHARACTER + 18.0
        };
        let (left, right) = (longest(|bar| &bar.name), frame.width - longest(|bar| &bar.text));
        let bottom = 8.0 + PITCH * self.bars.len() as f64;
        let scale = Scale::just(self.bars.iter().map(|bar| bar.value).fold(0.0, f64::max));
        let x = |value| left + scale.position(value) * (right - left);
        let drawn = html! {
            @for tick in scale.ticks() {
                path.grid d={ "M" (px(x(tick))) " 4V" (bottom) } {}
                text.tick.middle x=(px(x(tick))) y=(bottom + 18.0) { (number(tick)) }
            }
            @for (row, bar) in self.bars.iter().enumerate() {
                @let y = 8.0 + PITCH * row as f64;
                text.name.end x=(left - 8.0) y=(y + 18.0) { (bar.name) }
                // What is almost nothing is seen, too.
                rect class={ "bar " (bar.class) } x=(left) y=(y) width=(px((x(bar.value) - left).max(1.5))) height=(THICKNESS) rx="2" {}
                text.value x=(px(x(bar.value) + 7.0)) y=(y + 18.0) { (bar.text) }
            }
            path.axis d={ "M" (left) " 4V" (bottom) } {}
            text.label.middle x=((left + right) / 2.0) y=(bottom + 40.0) { (self.label) }
        };
        svg(Frame { height: bottom + AXIS, ..frame }, &self.title, &drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_number_and_never_unseen() {
        let bar = |value: f64| Bar { name: "a".to_owned(), class: "hit", value, text: "1 ms".to_owned() };
        let bars = Bars { title: "t".to_owned(), label: "ms", bars: vec![bar(62.0), bar(31.0), bar(0.0)] };
        let svg = bars.draw(Frame::NARROW).into_string();
        // 340 wide, 25 for the name, 46 for the text.
        for width in ["269", "134.5", "1.5"] {
            assert!(svg.contains(&format!("width=\"{width}\"")), "{width}: {svg}");
        }
    }
}
