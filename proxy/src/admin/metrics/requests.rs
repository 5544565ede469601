//! The figures of requests and of the connections that they come on.

use std::collections::BTreeMap;
use std::collections::HashSet;

use server::ClientTotals;

use super::text::Text;
use crate::status::Outcome;
use crate::way::Report;

pub(super) fn requests(report: &Report, text: &mut Text) {
    let totals = &report.totals;
    let mut requests = text.counters("cachepage_requests_total", "Requests of clients, by rule and outcome.");
    let mut named = HashSet::new();
    let paths = report.rules.iter().map(|rule| rule.path.as_str());
    // If both a flag and the file have a rule for a path, the first counts.
    for (path, row) in paths.chain([""]).zip(&totals.requests).filter(|(path, _)| named.insert(*path)) {
        for (outcome, count) in Outcome::ALL.into_iter().zip(row) {
            requests.sample(&[("outcome", outcome.name()), ("rule", path)], count);
        }
    }
    let mut responses = text.counters("cachepage_responses_total", "Answers, by the class of their status.");
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(totals.classes) {
        responses.sample(&[("class", class)], count);
    }
    let help = "Requests that left the cache out, by the reason in Cache-Status.";
    let mut bypass = text.counters("cachepage_bypass_total", help);
    for (detail, count) in &totals.details {
        bypass.sample(&[("detail", detail)], count);
    }
    let help = "Bytes of bodies that came from clients, and that were sent to them.";
    let mut bytes = text.counters("cachepage_bytes_total", help);
    for (direction, count) in [("in", totals.bytes_in), ("out", totals.bytes)] {
        bytes.sample(&[("direction", direction)], count);
    }
    let help = "From the head of a request to the last byte of its answer, by outcome.";
    let mut durations = text.histograms("cachepage_request_duration_seconds", help);
    for (outcome, counted) in Outcome::ALL.into_iter().zip(&totals.durations) {
        durations.durations(&[("outcome", outcome.name())], counted);
    }
}

pub(super) fn clients(clients: &ClientTotals, text: &mut Text) {
    let help = "Connections of clients that are open: with a request under way, and at rest.";
    let mut connections = text.gauges("cachepage_connections", help);
    // The two figures are not read at one moment.
    for (state, count) in [("active", clients.active), ("idle", clients.open.saturating_sub(clients.active))]
    {
        connections.sample(&[("state", state)], count);
    }
    let help = "Connections for which there was no place, by the limit that they met.";
    let mut refused = text.counters("cachepage_connections_refused_total", help);
    for (limit, count) in clients.refused {
        refused.sample(&[("limit", limit)], count);
    }
    let help = "Connections that have changed to another protocol and are open.";
    text.gauge("cachepage_tunnels_open", help, clients.tunnels);
    let help = "Connections that have changed to another protocol.";
    text.counter("cachepage_tunnels_total", help, clients.tunnels_begun);
    let help =
        "Connections to listeners with certificates, by the end of their handshake and the version of TLS.";
    let mut handshakes = text.counters("cachepage_tls_handshakes_total", help);
    for (result, version, count) in clients.handshakes {
        handshakes.sample(&[("result", result), ("version", version)], count);
    }
}

pub(super) fn certificates(expiries: &[(String, i64)], text: &mut Text) {
    let help = "When each certificate of the listeners expires.";
    let mut expires = text.gauges("cachepage_certificate_expiry_timestamp_seconds", help);
    // Several listeners may show the same certificate.
    let of_names: BTreeMap<_, _> = expiries.iter().map(|(name, expiry)| (name, expiry)).collect();
    for (name, expiry) in of_names {
        expires.sample(&[("name", name)], expiry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::metrics::text::Exposition;
    use crate::counts::Totals;
    use crate::way::RuleState;

    #[test]
    fn a_path_with_a_rule_of_flag_and_file_has_one_series() {
        let rule = || RuleState { path: "/a/".to_owned(), timeout: None };
        let rows = vec![[1; Outcome::ALL.len()], Default::default(), [2; Outcome::ALL.len()]];
        let totals = Totals { requests: rows, ..Totals::default() };
        let report = Report { totals, rules: vec![rule(), rule()], ..Report::default() };
        let mut text = Text::new(Exposition::Prometheus);
        requests(&report, &mut text);
        let written = text.finish();
        let name = "cachepage_requests_total{outcome=\"hit\",rule=";
        let samples: Vec<_> = written.lines().filter(|line| line.starts_with(name)).collect();
        assert_eq!(samples, [format!("{name}\"/a/\"}} 1"), format!("{name}\"\"}} 2")]);
    }
}
