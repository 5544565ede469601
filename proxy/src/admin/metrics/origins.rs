//! The figures of the origins.

use super::text::{Family, Text};
use crate::origin::{FetchEnd, OriginState};
use crate::way::Report;

pub(super) fn origins(report: &Report, text: &mut Text) {
    let help = "Requests to the origin, by the class of the answer's status, or why there is none.";
    each(report, text.counters("cachepage_origin_requests_total", help), |family, name, origin| {
        for (end, count) in FetchEnd::ALL.into_iter().zip(origin.totals.ends) {
            family.sample(&[("origin", name), ("class", end.name())], count);
        }
    });
    let help = "From the wait for a slot to the head of the origin's answer.";
    each(report, text.histograms("cachepage_origin_duration_seconds", help), |family, name, origin| {
        family.durations(&[("origin", name)], &origin.totals.durations);
    });
    let help = "Requests that the origin has.";
    each_gauge(report, text.gauges("cachepage_origin_inflight", help), |origin| origin.in_flight);
    let help = "Requests that wait for a slot at the origin.";
    each_gauge(report, text.gauges("cachepage_origin_queue", help), |origin| origin.waiting);
    let help = "Whether the last connection to the origin was made, and the origin is not left out.";
    each_gauge(report, text.gauges("cachepage_origin_healthy", help), |origin| {
        usize::from(origin.is_up && !origin.is_ejected)
    });
    let help = "How often the origin was left out, since it had failed several times in a row.";
    each(report, text.counters("cachepage_origin_ejections_total", help), |family, name, origin| {
        family.sample(&[("origin", name)], origin.totals.ejections);
    });
    let help = "Requests that were sent to another origin, after one gave no answer.";
    text.counter("cachepage_retries_total", help, report.retries.made);
    let help = "Requests that were not sent to another origin, since the budget of retries was used up.";
    text.counter("cachepage_retry_budget_exhausted_total", help, report.retries.left_out);
}

/// Writes the samples of each origin. Origins with the same URL get a number.
fn each(report: &Report, mut family: Family<'_>, write: impl Fn(&mut Family<'_>, &str, &OriginState)) {
    for (index, origin) in report.origins.iter().enumerate() {
        let same = report.origins[..index].iter().filter(|other| other.url == origin.url).count();
        match same {
            0 => write(&mut family, &origin.url, origin),
            same => write(&mut family, &format!("{} #{}", origin.url, same + 1), origin),
        }
    }
}

/// Writes one figure of each origin.
fn each_gauge(report: &Report, family: Family<'_>, value: impl Fn(&OriginState) -> usize) {
    each(report, family, |family, name, origin| family.sample(&[("origin", name)], value(origin)));
}
