//! Makes an `X-Request-Id` and a `traceparent` for requests without them, if the settings want that.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::Proxy;
use crate::request::{Lines, TRACEPARENT, trace_id};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A header that belongs to the traceparent of the request, and to no other.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The values that a request gets.
#[derive(Debug, Default)]
pub(super) struct MadeNames {
    pub(super) request_id: Option<String>,
    pub(super) traceparent: Option<String>,
}

impl<S> Proxy<S> {
    /// New values for the headers that a request lacks.
    pub(super) fn new_names(&self, lines: Lines<'_>) -> MadeNames {
        let needs_id = self.makes_request_ids && lines.get(&X_REQUEST_ID).is_none_or(<[u8]>::is_empty);
        let needs_trace = self.makes_traces && trace_id(lines).is_none();
        MadeNames {
            request_id: needs_id.then(|| format!("{:032x}", rand::random::<u128>())),
            traceparent: needs_trace.then(new_trace),
        }
    }

    /// Adds the missing headers, so that the origin and the log have them.
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

/// A new trace. Its flag asks to record the trace, since nobody has decided that before.
fn new_trace() -> String {
    // No id may be 0.
    let (trace, parent) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
    format!("00-{trace:032x}-{parent:016x}-01")
}
