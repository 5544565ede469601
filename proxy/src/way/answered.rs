//! The record of a request, and the only place that writes its log line.

use std::fmt::Display;

use hyper::{Method, StatusCode};
use server::Record;
use tokio::time::Instant;
use tracing::{Level, debug};

use crate::status::CacheStatus;

/// The status of a request whose client left before its answer began, as in nginx's log.
const CLIENT_GONE: u16 = 499;

/// The record of a request, from its beginning to the last byte of its answer. Dropping it writes the line.
#[derive(Debug)]
pub struct Answered(Option<Box<Fields>>);

/// The fields of the log line, the same for every outcome.
#[derive(Debug)]
struct Fields {
    method: Method,
    target: String,
    status: StatusCode,
    cache: CacheStatus,
    /// Of the body, as they were handed to hyper or, by the front, to the kernel.
    bytes: u64,
    began: Instant,
}

impl Answered {
    /// Begins a record; an empty one if the log level would drop it.
    pub(super) fn begin(method: &Method, target: impl Display, began: Instant) -> Self {
        let fields = || Fields {
            method: method.clone(),
            target: target.to_string(),
            status: StatusCode::from_u16(CLIENT_GONE).unwrap_or_default(),
            cache: CacheStatus::Failed("unanswered"),
            bytes: 0,
            began,
        };
        Self(tracing::enabled!(Level::DEBUG).then(|| Box::new(fields())))
    }

    /// Adds the status of the answer.
    pub(super) fn with(mut self, status: StatusCode, cache: CacheStatus) -> Self {
        if let Some(fields) = &mut self.0 {
            (fields.status, fields.cache) = (status, cache);
        }
        self
    }
}

impl Record for Answered {
    fn sent(&mut self, bytes: u64) {
        if let Some(fields) = &mut self.0 {
            fields.bytes += bytes;
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        if let Some(fields) = self.0.take() {
            let Fields { method, target, status, cache, bytes, began } = *fields;
            debug!(
                %method,
                target,
                status = status.as_u16(),
                cache_status = %cache,
                bytes,
                microseconds = began.elapsed().as_micros() as u64,
                "answered"
            );
        }
    }
}
