//! The figures of the store, the near cache, purges, databases that are followed, and fills.

use super::text::{Labels, Text};
use crate::purge::TargetKind;
use crate::store::OperationEnd;
use crate::way::{FillEnd, LeaseEnd, OrderEnd, Report};

pub(super) fn store(report: &Report, text: &mut Text) {
    let mut up = text.gauges("cachepage_store_up", "Whether the store answers, or each of its nodes.");
    each_primary(report, |labels, is_up| up.sample(labels, u8::from(is_up)));
    let help = "Whether the store, or the node, is skipped, since it has failed several times in a row.";
    let mut open = text.gauges("cachepage_breaker_open", help);
    each_primary(report, |labels, is_up| open.sample(labels, u8::from(!is_up)));
    let help = "Pages and markers that the store in memory has dropped to make room.";
    text.counter("cachepage_memory_evictions_total", help, report.evictions);
}

pub(super) fn operations(report: &Report, text: &mut Text) {
    let help = "Commands that were sent to the store for requests, by their end.";
    let mut operations = text.counters("cachepage_store_operations_total", help);
    for totals in &report.operations {
        for (end, count) in OperationEnd::ALL.into_iter().zip(totals.ends) {
            operations.sample(&[("op", totals.name), ("result", end.name())], count);
        }
    }
    let help = "From the command until its reply, with the wait for others that share its round trip.";
    let mut durations = text.histograms("cachepage_store_duration_seconds", help);
    for totals in &report.operations {
        durations.durations(&[("op", totals.name)], &totals.durations);
    }
}

/// Writes the samples of each primary, or of a store without nodes.
fn each_primary(report: &Report, mut write: impl FnMut(&Labels<'_>, bool)) {
    if report.nodes.is_empty() {
        write(&[], report.store_is_up);
    }
    for node in report.nodes.iter().filter(|node| node.role == "primary") {
        write(&[("node", node.address.as_str())], node.is_up);
    }
}

pub(super) fn near(report: &Report, text: &mut Text) {
    let near = report.near.unwrap_or_default();
    text.gauge("cachepage_near_entries", "Pages and markers in the near cache.", near.entries);
    text.gauge("cachepage_near_bytes", "Bytes that the near cache takes.", near.bytes);
    let help = "Whether the changes of the store are certain to arrive, so that near pages are served.";
    text.gauge("cachepage_near_certain", help, u8::from(near.is_certain));
    let help = "Requests that were answered from the near cache.";
    text.counter("cachepage_near_hits_total", help, report.totals.near_hits);
    let help = "How often the changes of the store no longer arrived, so that the near cache was emptied.";
    text.counter("cachepage_near_lost_total", help, near.lost);
    let help = "Pages and markers that the near cache has dropped to make room.";
    text.counter("cachepage_near_evictions_total", help, near.evictions);
    let help = "Changes of keys that the store has told the near cache of.";
    text.counter("cachepage_invalidations_total", help, near.invalidations);
}

pub(super) fn purges(report: &Report, text: &mut Text) {
    let help = "What purges of this proxy have named, by kind; the purges of other proxies are not counted.";
    let mut purges = text.counters("cachepage_purges_total", help);
    for (kind, row) in TargetKind::ALL.into_iter().zip(report.purges) {
        for (soft, count) in ["false", "true"].into_iter().zip(row) {
            purges.sample(&[("kind", kind.name()), ("soft", soft)], count);
        }
    }
    let help = "Requests for purges on the data port, by how they ended.";
    let mut requests = text.counters("cachepage_purge_requests_total", help);
    for (end, count) in OrderEnd::ALL.into_iter().zip(report.purge_requests) {
        requests.sample(&[("result", end.name())], count);
    }
    let help =
        "From when the store took a purge, of any proxy, until this one has read it; by the clocks of both.";
    text.histograms("cachepage_purge_lag_seconds", help).durations(&[], &report.purge_lag);
}

pub(super) fn follows(report: &Report, text: &mut Text) {
    let help = "Whether the changes of the database are heard of.";
    let mut up = text.gauges("cachepage_follow_up", help);
    for follow in &report.follows {
        up.sample(&[("database", follow.database.as_str())], u8::from(follow.lost.is_none()));
    }
    let help = "How often the connection to the database was lost.";
    let mut lost = text.counters("cachepage_follow_lost_total", help);
    for follow in &report.follows {
        lost.sample(&[("database", follow.database.as_str())], follow.losses);
    }
    let help = "Notifications of the database. What they name is counted among the purges.";
    let mut notifications = text.counters("cachepage_follow_notifications_total", help);
    for follow in &report.follows {
        notifications.sample(&[("database", follow.database.as_str())], follow.notifications);
    }
}

pub(super) fn fills(report: &Report, text: &mut Text) {
    text.gauge("cachepage_flights", "Pages that are being fetched for the store.", report.flights);
    let help = "Answers of the origin that were fetched for the store, by what became of them.";
    let mut fills = text.counters("cachepage_fills_total", help);
    for (end, count) in FillEnd::ALL.into_iter().zip(report.fills.ends) {
        fills.sample(&[("result", end.name())], count);
    }
    let help = "From the head of the origin's answer until its page is stored.";
    text.histograms("cachepage_fill_seconds", help).durations(&[], &report.fills.durations);
    let help = "Pages that the fleet fetches once, by the proxy that has fetched them.";
    let mut leases = text.counters("cachepage_leases_total", help);
    for (end, count) in LeaseEnd::ALL.into_iter().zip(report.fills.leases) {
        leases.sample(&[("result", end.name())], count);
    }
}
