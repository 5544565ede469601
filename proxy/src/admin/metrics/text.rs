//! How figures are written: Prometheus's text format 0.0.4, or OpenMetrics 1.0.0.

use std::fmt::{Arguments, Display, Write as _};

use hyper::header::HeaderValue;

use crate::histogram::{BOUNDS, Durations};
use crate::request::weighted;

/// A format of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Exposition {
    Prometheus,
    OpenMetrics,
}

impl Exposition {
    /// The format for an `Accept`: OpenMetrics, if the client names it and does not prefer plain text.
    pub(in crate::admin) fn accepted(accept: &str) -> Self {
        let weight = |wanted: &str| {
            let members = accept.split(',').filter_map(|member| weighted(member.as_bytes()));
            let named = |(name, _): &(&[u8], u16)| name.eq_ignore_ascii_case(wanted.as_bytes());
            members.filter(named).map(|(_, weight)| weight).max()
        };
        let open = weight("application/openmetrics-text").unwrap_or(0);
        let plain = ["text/plain", "text/*", "*/*"].into_iter().find_map(weight).unwrap_or(0);
        match open > 0 && open >= plain {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub(in crate::admin) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        })
    }
}

/// Names and values of labels.
pub(super) type Labels<'a> = [(&'a str, &'a str)];

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

/// The families that are written so far.
pub(super) struct Text {
    written: String,
    exposition: Exposition,
}

/// A family that has begun.
pub(super) struct Family<'a> {
    text: &'a mut Text,
    name: &'static str,
}

impl Text {
    pub(super) fn new(exposition: Exposition) -> Self {
        Self { written: String::new(), exposition }
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        if self.exposition == Exposition::OpenMetrics {
            self.written.push_str("# EOF\n");
        }
        self.written
    }

    /// Begins a family of figures that only grow. Its name ends in `_total`.
    pub(super) fn counters(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, COUNTER, help)
    }

    /// Begins a family of figures that rise and fall.
    pub(super) fn gauges(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, GAUGE, help)
    }

    /// Begins a family of durations.
    pub(super) fn histograms(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// A family of one figure that only grows.
    pub(super) fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.counters(name, help).sample(&[], value);
    }

    /// A family of one figure that rises and falls.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.gauges(name, help).sample(&[], value);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let family = match (self.exposition, kind) {
            // OpenMetrics leaves the suffix to the samples.
            (Exposition::OpenMetrics, COUNTER) => name.trim_end_matches("_total"),
            _ => name,
        };
        self.write(format_args!("# HELP {family} {help}\n# TYPE {family} {kind}\n"));
        Family { text: self, name }
    }

    fn sample(&mut self, name: Arguments<'_>, labels: &Labels<'_>, value: impl Display) {
        self.write(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", escaped(text)));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{after} {value}\n"));
    }

    fn write(&mut self, text: Arguments<'_>) {
        // A `String` takes everything.
        let _ = self.written.write_fmt(text);
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.text.sample(format_args!("{}", self.name), labels, value);
    }

    /// The samples of durations that have these labels.
    pub(super) fn durations(&mut self, labels: &Labels<'_>, durations: &Durations) {
        let mut count = 0;
        let bounds = BOUNDS.iter().map(|&bound| seconds(bound).to_string()).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(durations.buckets) {
            count += bucket;
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.text.sample(format_args!("{}_bucket", self.name), &labels, count);
        }
        self.text.sample(format_args!("{}_sum", self.name), labels, seconds(durations.microseconds));
        self.text.sample(format_args!("{}_count", self.name), labels, count);
    }
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_an_accept_choose_the_format() {
        use Exposition::{OpenMetrics, Prometheus};
        for (accept, expected) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            ("Application/OpenMetrics-Text; version=1.0.0, */*", OpenMetrics),
            ("text/plain, application/openmetrics-text;q=0.1", Prometheus),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-textual", Prometheus),
        ] {
            assert_eq!(Exposition::accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn labels_are_escaped_and_counters_named_as_the_format_wants() {
        for (exposition, family, end) in
            [(Exposition::Prometheus, "a_total", ""), (Exposition::OpenMetrics, "a", "# EOF\n")]
        {
            let mut text = Text::new(exposition);
            text.counters("a_total", "Help.").sample(&[("rule", "/\"\\*"), ("outcome", "hit")], 3);
            let expected = format!(
                "# HELP {family} Help.\n# TYPE {family} counter\na_total{{rule=\"/\\\"\\\\*\",outcome=\"hit\"}} 3\n{end}"
            );
            assert_eq!(text.finish(), expected);
        }
    }

    #[test]
    fn buckets_of_a_histogram_include_those_below() {
        let mut durations = Durations::default();
        (durations.buckets[0], durations.buckets[2], durations.buckets[BOUNDS.len()]) = (5, 2, 1);
        durations.microseconds = 1_500_000;
        let mut text = Text::new(Exposition::Prometheus);
        text.histograms("a_seconds", "Help.").durations(&[("outcome", "hit")], &durations);
        let written = text.finish();
        for line in [
            "a_seconds_bucket{outcome=\"hit\",le=\"0.00005\"} 5\n",
            "a_seconds_bucket{outcome=\"hit\",le=\"0.00025\"} 7\n",
            "a_seconds_bucket{outcome=\"hit\",le=\"10\"} 7\n",
            "a_seconds_bucket{outcome=\"hit\",le=\"+Inf\"} 8\n",
            "a_seconds_sum{outcome=\"hit\"} 1.5\n",
            "a_seconds_count{outcome=\"hit\"} 8\n",
        ] {
            assert!(written.contains(line), "{line}{written}");
        }
    }
}
