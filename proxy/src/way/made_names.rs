//! `X-Request-Id` and `traceparent`: names for each request that comes without them, if the settings want that.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::Proxy;
use crate::request::{Lines, TRACEPARENT, trace_id};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A part of the traceparent that it came with, and of no other.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The names that a request gets.
#[derive(Debug, Default)]
pub(super) struct MadeNames {
    pub(super) request_id: Option<String>,
    pub(super) traceparent: Option<String>,
}

impl<S> Proxy<S> {
    /// New names for a request that has none.
    pub(super) fn new_names(&self, lines: Lines<'_>) -> MadeNames {
        let needs_id = self.makes_request_ids && lines.get(&X_REQUEST_ID).is_none_or(<[u8]>::is_empty);
        let needs_trace = self.makes_traces && trace_id(lines).is_none();
        MadeNames {
            request_id: needs_id.then(|| format!("{:032x}", rand::random::<u128>())),
            traceparent: needs_trace.then(new_trace),
        }
    }

    /// Gives a request its names, by which the origin and the log know it.
    pub(super) fn name_request(&self, headers: &mut HeaderMap) {
        let MadeNames { request_id, traceparent } = self.new_names(Lines::Map(headers));
        if traceparent.is_some() {
            headers.remove(TRACESTATE);
        }
        for (name, made) in [(X_REQUEST_ID, request_id), (TRACEPARENT, traceparent)] {
            if let Some(value) = made.and_then(|made| HeaderValue::try_from(made).ok()) {
                headers.insert(name, value);
            }
        }
    }
}

/// A new trace. The flag asks those who record traces to record this one: no one before has decided on it.
fn new_trace() -> String {
    // No id is 0.
    let (trace, parent) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
    format!("00-{trace:032x}-{parent:016x}-01")
}
