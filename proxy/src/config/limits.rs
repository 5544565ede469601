//! `[deadlines]` and `[limits]`: for the origin, the store and clients.

use super::parse;
use super::settings::Settings;
use super::{Deadlines, Limits};
use crate::origin::{OriginDeadlines, OriginLimits};

/// Reads the deadlines. Those for clients are separate, since the `server` crate keeps them.
pub(super) fn deadlines(settings: &mut Settings<'_>) -> Option<(Deadlines, server::ClientDeadlines)> {
    let mut take =
        |name: &str, default| settings.take(&format!("deadlines.{name}"), None, default, parse::duration);
    let connect = take("origin_connect", "2s");
    let head = take("origin_head", "30s");
    let queue = take("origin_queue", "5s");
    let idle = take("body_idle", "30s");
    let client_head = take("client_head", "10s");
    let client_idle = take("client_idle", "75s");
    let client_write = take("client_write", "30s");
    let store = take("store", "50ms");
    let shutdown = take("shutdown", "10s");
    let tunnel = take("tunnel_idle", "1h");
    let total = settings.take("deadlines.origin_total", None, "0", parse::duration_if_any);
    let origin =
        OriginDeadlines { connect: connect?, head: head?, idle: idle?, queue: queue?, total: total? };
    let client = server::ClientDeadlines {
        head: client_head?,
        idle: client_idle?,
        write: client_write?,
        shutdown: shutdown?,
        tunnel: tunnel?,
    };
    Some((Deadlines { origin, store: store? }, client))
}

/// Reads the limits. Those for clients are separate, since the `server` crate keeps them.
pub(super) fn limits(settings: &mut Settings<'_>) -> Option<(Limits, server::ClientLimits)> {
    let mut size =
        |name: &str, default| settings.take(&format!("limits.{name}"), None, default, parse::buffer);
    let request_line = size("request_line", "8KiB");
    let head = size("head", "32KiB");
    let origin_head = size("origin_head", "64KiB");
    let headers = settings.take("limits.headers", None, "100", parse::lines);
    let mut count =
        |name: &str, default| settings.take(&format!("limits.{name}"), None, default, parse::count);
    let connections = count("connections", "10000");
    let origin_requests = count("origin_requests", "1000");
    let variants = count("variants", "1000");
    let mut count_or_none =
        |name: &str, default| settings.take(&format!("limits.{name}"), None, default, parse::count_or_none);
    let connections_per_address = count_or_none("connections_per_address", "0");
    let origin_queue = count_or_none("origin_queue", "1000");
    let origin = OriginLimits { head: origin_head?, requests: origin_requests?, queue: origin_queue? };
    let client = server::ClientLimits {
        request_line: request_line?,
        head: head?,
        headers: headers?,
        connections: connections?,
        connections_per_address: connections_per_address?,
    };
    Some((Limits { origin, variants: variants? }, client))
}
