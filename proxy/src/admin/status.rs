//! The status of the proxy, as JSON.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::view::View;
use crate::config::StoreUrl;
use crate::histogram::BOUNDS;
use crate::status::Outcome;
use crate::store::RedisKind;
use crate::way::{Report, now};

pub(super) fn json(view: &View, workers: usize) -> Value {
    let View { report, settings, .. } = view;
    let outcomes = Outcome::ALL.map(Outcome::name).into_iter().zip(report.totals.by_outcome());
    let requests: Map<_, _> = outcomes.map(|(name, count)| (name.to_owned(), count.into())).collect();
    json!({
        "time": humantime::format_rfc3339_millis(now()).to_string(),
        "version": View::VERSION,
        "uptime_seconds": view.started.at.elapsed().as_secs(),
        "workers": workers,
        "requests": requests,
        "store": store(report, &settings.config.store),
        "flights": report.flights,
        "near": report.near.map(|near| json!({
            "entries": near.entries, "bytes": near.bytes, "certain": near.is_certain,
        })),
        "follow": report.follows.iter().map(|follow| json!({
            "database": follow.database,
            "heard": follow.lost.is_none(),
            "lost_since": follow.lost.map(time),
            "losses": follow.losses,
            "notifications": follow.notifications,
        })).collect::<Vec<_>>(),
        "origins": report.origins.iter().map(|origin| json!({
            "url": origin.url, "up": origin.is_up, "ejected": origin.is_ejected, "inflight": origin.in_flight,
        })).collect::<Vec<_>>(),
        "acme": view.issued.iter().map(|issued| json!({
            "name": issued.name,
            "expires": issued.expires.map(time),
            "next_try": time(issued.next_try),
            "last_error": issued.last_error,
        })).collect::<Vec<_>>(),
        "rules": report.rules.iter().zip(&report.totals.requests).map(|(rule, row)| json!({
            "path": rule.path,
            "timeout": rule.timeout.map_or(json!("off"), |timeout| timeout.as_secs().into()),
            "requests": row.iter().sum::<u64>(),
            "hits": row[Outcome::Hit as usize] + row[Outcome::Stale as usize],
        })).collect::<Vec<_>>(),
        "errors": report.errors.iter().map(|error| json!({
            "time": time(error.time), "error": error.text,
        })).collect::<Vec<_>>(),
        "hottest": report.hottest.iter().map(|page| json!({
            "url": page.url,
            "share": page.share,
            "age_seconds": page.freshness.age,
            "ttl_seconds": page.freshness.ttl,
        })).collect::<Vec<_>>(),
        "slowest": report.slowest.iter().map(|answer| json!({
            "time": time(answer.time),
            "method": answer.method,
            "url": answer.url,
            "status": answer.status,
            "origin_us": answer.took.as_micros() as u64,
        })).collect::<Vec<_>>(),
        "durations": durations(report),
        "config": { "generation": settings.generation, "loaded_at": time(settings.loaded_at) },
    })
}

/// The histograms of the requests' durations, without their sums. The last bucket counts the requests beyond all bounds.
fn durations(report: &Report) -> Value {
    let outcomes = Outcome::ALL.map(Outcome::name).into_iter().zip(&report.totals.durations);
    let buckets: Map<_, _> =
        outcomes.map(|(name, durations)| (name.to_owned(), json!(durations.buckets))).collect();
    json!({ "bounds_us": BOUNDS, "buckets": buckets })
}

fn store(report: &Report, store: &StoreUrl) -> Value {
    let kind = match store {
        StoreUrl::Memory => "memory",
        StoreUrl::Redis(redis) => match redis.kind() {
            RedisKind::Alone => "redis",
            RedisKind::Sentinel(_) => "sentinel",
            RedisKind::Cluster => "cluster",
        },
    };
    let nodes = report
        .nodes
        .iter()
        .map(|node| json!({ "address": node.address, "role": node.role, "up": node.is_up }));
    json!({ "kind": kind, "nodes": nodes.collect::<Vec<_>>() })
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
