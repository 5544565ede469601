//! The record of a request: the only place that counts it and writes its log line.

use std::fmt::Display;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use server::Record;
use tokio::time::Instant;
use tracing::{Level, debug};

use super::Proxy;
use crate::counts::{Cells, CountedRequest};
use crate::status::CacheStatus;

/// The status of a request whose client left before its answer began, as in nginx's log.
const CLIENT_GONE: u16 = 499;

/// The record of a request, from its beginning to the last byte of its answer. Dropping it counts the request and writes
/// the line.
#[derive(Debug)]
pub struct Answered {
    /// The cells of the worker that the request began on, if requests are counted.
    cells: Option<Arc<Cells>>,
    /// For the log, if it wants the line.
    asked: Option<Box<Asked>>,
    /// The place of the rule, if the request has one and requests are counted.
    rule: Option<usize>,
    status: StatusCode,
    cache: CacheStatus,
    /// Of the body, as they were handed to hyper or, by the front, to the kernel.
    bytes: u64,
    began: Instant,
}

/// The fields of the log line that only the log has.
#[derive(Debug)]
struct Asked {
    method: Method,
    target: String,
}

impl<S> Proxy<S> {
    /// Begins the record of a request. It copies what was asked only if the log level would not drop the line.
    pub(super) fn record(
        &self,
        method: &Method,
        target: impl Display,
        path: &str,
        began: Instant,
    ) -> Answered {
        let asked = || Box::new(Asked { method: method.clone(), target: target.to_string() });
        let cells = self.counts.as_ref().map(|counts| counts.own().clone());
        Answered {
            rule: cells.as_ref().and_then(|_| self.policy.rules().position(path)),
            cells,
            asked: tracing::enabled!(Level::DEBUG).then(asked),
            status: StatusCode::from_u16(CLIENT_GONE).unwrap_or_default(),
            cache: CacheStatus::Failed("unanswered"),
            bytes: 0,
            began,
        }
    }
}

impl Answered {
    /// Adds the status of the answer.
    pub(super) fn with(mut self, status: StatusCode, cache: CacheStatus) -> Self {
        (self.status, self.cache) = (status, cache);
        self
    }
}

impl Record for Answered {
    fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        if self.cells.is_none() && self.asked.is_none() {
            return;
        }
        let took = self.began.elapsed();
        if let Some(cells) = &self.cells {
            cells.count(&CountedRequest {
                outcome: self.cache.outcome(self.status),
                status: self.status,
                rule: self.rule,
                detail: self.cache.bypass(),
                bytes: self.bytes,
                took,
            });
        }
        if let Some(asked) = &self.asked {
            debug!(
                method = %asked.method,
                target = asked.target,
                status = self.status.as_u16(),
                cache_status = %self.cache,
                bytes = self.bytes,
                microseconds = took.as_micros() as u64,
                "answered"
            );
        }
    }
}
