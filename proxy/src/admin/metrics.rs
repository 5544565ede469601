//! The figures as Prometheus reads them: its text format 0.0.4, or OpenMetrics 1.0.0 if that is asked for.

use std::collections::HashSet;
use std::fmt::{Display, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::HeaderValue;

use super::view::View;
use crate::counts::{BOUNDS, Durations};
use crate::purge::TargetKind;
use crate::status::Outcome;
use crate::way::Report;

/// A format of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposition {
    Prometheus,
    OpenMetrics,
}

impl Exposition {
    /// The format for an `Accept`.
    pub(super) fn accepted(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        })
    }
}

/// All families, each with HELP and TYPE, also where nothing has been counted yet.
pub(super) fn text(view: &View, exposition: Exposition) -> String {
    let mut text = Text { written: String::new(), exposition };
    requests_of(&view.report, &mut text);
    durations(&view.report, &mut text);
    purges(&view.report, &mut text);
    parts(&view.report, &mut text);
    program_state(view, &mut text);
    process(view, &mut text);
    if exposition == Exposition::OpenMetrics {
        text.written.push_str("# EOF\n");
    }
    text.written
}

fn requests_of(report: &Report, text: &mut Text) {
    let totals = &report.totals;
    let requests =
        text.family("cachepage_requests_total", COUNTER, "Requests of clients, by rule and outcome.");
    let mut named = HashSet::new();
    let paths = report.rules.iter().map(|rule| rule.path.as_str());
    // Of a path that flag and file have a rule for, the first counts.
    for (path, row) in paths.chain([""]).zip(&totals.requests).filter(|(path, _)| named.insert(*path)) {
        for (outcome, count) in Outcome::ALL.into_iter().zip(row) {
            text.sample(requests, &[("outcome", outcome.name()), ("rule", path)], count);
        }
    }
    let responses =
        text.family("cachepage_responses_total", COUNTER, "Answers, by the class of their status.");
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(totals.classes) {
        text.sample(responses, &[("class", class)], count);
    }
    let help = "Requests that left the cache out, by the reason in Cache-Status.";
    let bypass = text.family("cachepage_bypass_total", COUNTER, help);
    for (detail, count) in &totals.details {
        text.sample(bypass, &[("detail", detail)], count);
    }
    let bytes = text.family("cachepage_bytes_total", COUNTER, "Bytes of bodies that were sent to clients.");
    text.sample(bytes, &[("direction", "out")], totals.bytes);
}

fn durations(report: &Report, text: &mut Text) {
    let help = "From the head of a request to the last byte of its answer, by outcome.";
    text.family("cachepage_request_duration_seconds", "histogram", help);
    for (outcome, durations) in Outcome::ALL.into_iter().zip(&report.totals.durations) {
        histogram(outcome.name(), durations, text);
    }
}

fn histogram(outcome: &str, durations: &Durations, text: &mut Text) {
    let mut count = 0;
    let bounds = BOUNDS.iter().map(|&bound| seconds(bound).to_string()).chain(["+Inf".to_owned()]);
    for (bound, bucket) in bounds.zip(durations.buckets) {
        count += bucket;
        let labels = [("outcome", outcome), ("le", bound.as_str())];
        text.sample("cachepage_request_duration_seconds_bucket", &labels, count);
    }
    let labels = [("outcome", outcome)];
    text.sample("cachepage_request_duration_seconds_sum", &labels, seconds(durations.microseconds));
    text.sample("cachepage_request_duration_seconds_count", &labels, count);
}

fn purges(report: &Report, text: &mut Text) {
    let help = "What purges of this proxy have named, by kind; the purges of other proxies are not counted.";
    let purges = text.family("cachepage_purges_total", COUNTER, help);
    for (kind, row) in TargetKind::ALL.into_iter().zip(report.purges) {
        for (soft, count) in ["false", "true"].into_iter().zip(row) {
            text.sample(purges, &[("kind", kind.name()), ("soft", soft)], count);
        }
    }
}

/// The store, the near cache, the flights and the origin.
fn parts(report: &Report, text: &mut Text) {
    let up = text.family("cachepage_store_up", GAUGE, "Whether the store answers, or each of its nodes.");
    if report.nodes.is_empty() {
        text.sample(up, &[], u8::from(report.store_is_up));
    }
    for node in report.nodes.iter().filter(|node| node.role == "primary") {
        text.sample(up, &[("node", node.address.as_str())], u8::from(node.is_up));
    }
    let near = report.near.unwrap_or_default();
    text.gauge("cachepage_near_entries", "Pages and markers in the near cache.", near.entries);
    text.gauge("cachepage_near_bytes", "Bytes that the near cache takes.", near.bytes);
    let help = "Whether the changes of the store are certain to arrive, so that near pages are served.";
    text.gauge("cachepage_near_certain", help, u8::from(near.is_certain));
    text.gauge("cachepage_flights", "Pages that are being fetched for the store.", report.flights);
    let inflight = text.family("cachepage_origin_inflight", GAUGE, "Requests that the origin has.");
    for origin in &report.origins {
        text.sample(inflight, &[("origin", origin.url.as_str())], origin.in_flight);
    }
    let help = "Whether the last connection to the origin was made, and the origin is not left out.";
    let healthy = text.family("cachepage_origin_healthy", GAUGE, help);
    for origin in &report.origins {
        let is_healthy = origin.is_up && !origin.is_ejected;
        text.sample(healthy, &[("origin", origin.url.as_str())], u8::from(is_healthy));
    }
}

fn program_state(view: &View, text: &mut Text) {
    let build = text.family("cachepage_build_info", GAUGE, "The version that runs.");
    text.sample(build, &[("version", View::VERSION)], 1);
    let help = "Whether the last reading of the settings was without a fault.";
    text.gauge("cachepage_config_last_reload_successful", help, u8::from(view.is_last_reload_good));
    let help = "When the settings were last read without a fault.";
    text.gauge("cachepage_config_last_reload_success_timestamp_seconds", help, unix(view.settings.loaded_at));
    let help = "Lines of the access log that could not be written.";
    let dropped = text.family("cachepage_log_lines_dropped_total", COUNTER, help);
    text.sample(dropped, &[], view.log_lines_dropped);
}

/// The figures of the process that Prometheus's own libraries have, as far as the system tells them.
fn process(view: &View, text: &mut Text) {
    text.gauge("process_start_time_seconds", "When the process started.", unix(view.started.time));
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&stat) {
        let cpu = text.family("process_cpu_seconds_total", COUNTER, "CPU time, of the user and the system.");
        text.sample(cpu, &[], seconds);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    if let Some(kibibytes) = resident.and_then(|text| text.trim().parse::<u64>().ok()) {
        text.gauge("process_resident_memory_bytes", "Memory that is resident.", kibibytes * 1024);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Files that are open.", files.count());
    }
}

/// From proc(5): the 14th and 15th field. The second, in parentheses, may hold blanks.
fn cpu_seconds(stat: &str) -> Option<f64> {
    /// USER_HZ, the same on every Linux.
    const TICKS: f64 = 100.0;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

struct Text {
    written: String,
    exposition: Exposition,
}

impl Text {
    /// Begins a family. Returns the name of its samples.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> &'static str {
        let family = match (self.exposition, kind) {
            // OpenMetrics leaves the suffix to the samples.
            (Exposition::OpenMetrics, COUNTER) => name.trim_end_matches("_total"),
            _ => name,
        };
        self.write(format_args!("# HELP {family} {help}\n# TYPE {family} {kind}\n"));
        name
    }

    /// A family of one sample.
    fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, GAUGE, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.written.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", escaped(text)));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{after} {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // A `String` takes everything.
        let _ = self.written.write_fmt(text);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Totals;
    use crate::origin::OriginState;
    use crate::way::RuleState;

    #[test]
    fn labels_are_escaped_and_counters_named_as_the_format_wants() {
        for (exposition, family) in [(Exposition::Prometheus, "a_total"), (Exposition::OpenMetrics, "a")] {
            let mut text = Text { written: String::new(), exposition };
            let name = text.family("a_total", COUNTER, "Help.");
            text.sample(name, &[("rule", "/\"\\*"), ("outcome", "hit")], 3);
            let expected = format!(
                "# HELP {family} Help.\n# TYPE {family} counter\na_total{{rule=\"/\\\"\\\\*\",outcome=\"hit\"}} 3\n"
            );
            assert_eq!(text.written, expected);
        }
    }

    #[test]
    fn a_path_with_a_rule_of_flag_and_file_has_one_series() {
        let rule = || RuleState { path: "/a/".to_owned(), timeout: None };
        let origin =
            OriginState { url: "http://app".to_owned(), is_up: true, is_ejected: false, in_flight: 0 };
        let requests = vec![[1; Outcome::ALL.len()], Default::default(), [2; Outcome::ALL.len()]];
        let report = Report {
            totals: Totals { requests, ..Totals::default() },
            rules: vec![rule(), rule()],
            store_is_up: true,
            nodes: Vec::new(),
            near: None,
            flights: 0,
            purges: Default::default(),
            origins: vec![origin],
            errors: Vec::new(),
            hottest: Vec::new(),
            slowest: Vec::new(),
        };
        let mut text = Text { written: String::new(), exposition: Exposition::Prometheus };
        requests_of(&report, &mut text);
        let samples: Vec<_> = text.written.lines().filter(|line| line.contains("outcome=\"hit\"")).collect();
        let name = "cachepage_requests_total{outcome=\"hit\",rule=";
        assert_eq!(samples, [format!("{name}\"/a/\"}} 1"), format!("{name}\"\"}} 2")]);
    }

    #[test]
    fn buckets_of_a_histogram_include_those_below() {
        let mut durations = Durations::default();
        (durations.buckets[0], durations.buckets[2], durations.buckets[BOUNDS.len()]) = (5, 2, 1);
        durations.microseconds = 1_500_000;
        let mut text = Text { written: String::new(), exposition: Exposition::Prometheus };
        histogram("hit", &durations, &mut text);
        let name = "cachepage_request_duration_seconds";
        for line in [
            format!("{name}_bucket{{outcome=\"hit\",le=\"0.00005\"}} 5\n"),
            format!("{name}_bucket{{outcome=\"hit\",le=\"0.00025\"}} 7\n"),
            format!("{name}_bucket{{outcome=\"hit\",le=\"10\"}} 7\n"),
            format!("{name}_bucket{{outcome=\"hit\",le=\"+Inf\"}} 8\n"),
            format!("{name}_sum{{outcome=\"hit\"}} 1.5\n"),
            format!("{name}_count{{outcome=\"hit\"}} 8\n"),
        ] {
            assert!(text.written.contains(&line), "{line}{}", text.written);
        }
    }

    #[test]
    fn the_time_of_the_cpu_is_found_behind_any_name_of_the_program() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
