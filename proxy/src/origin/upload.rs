//! The body of a request to the origin.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use server::in_time;
use tokio::time::Instant;

use super::error::BodyError;
use super::request_body::RequestBody;
use super::silence::Silence;

/// A client's body as it arrives, with a deadline for silence.
#[derive(Debug)]
pub(crate) struct Upload {
    body: RequestBody,
    silence: Silence,
    pace: Pace,
}

/// How much of a body was sent, and how long it may pause.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    progress: Progress,
    idle: Duration,
}

/// How much of a body was sent, and when the last part was. Shared with the fetch, which waits for the answer.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Mutex<Sent>>);

#[derive(Clone, Copy, Debug)]
struct Sent {
    bytes: usize,
    last: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Sent { bytes: 0, last: Instant::now() })))
    }

    pub(crate) fn last(&self) -> Instant {
        self.sent().last
    }

    /// Adds a part that is sent now.
    fn add(&self, bytes: usize) {
        let mut sent = self.sent();
        *sent = Sent { bytes: sent.bytes + bytes, last: Instant::now() };
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    pub(crate) fn new(body: RequestBody, idle: Duration, progress: Progress) -> Self {
        Self { body, silence: Silence::new(idle, None), pace: Pace { progress, idle } }
    }

    /// The client's body, if there is one and no byte of it was sent.
    pub(super) fn into_body(self) -> Option<RequestBody> {
        Some(self.body).filter(|body| !body.is_none())
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace.clone()
    }
}

impl Pace {
    /// Whether so much was sent that the origin may have answered without reading all of it.
    pub(super) fn is_long(&self) -> bool {
        /// gunicorn reads up to this much of a body that its application leaves unread, and keeps the connection. After a
        /// longer body it closes the connection, a moment after its answer.
        const LONG: usize = 64 << 10;
        self.progress.sent().bytes >= LONG
    }

    /// The output of a future, unless the body pauses for too long before it comes.
    pub(super) async fn keep<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        loop {
            let due = self.progress.last() + self.idle;
            match in_time(due, &mut future).await {
                None if self.progress.last() + self.idle > due => {}
                output => return output,
            }
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = this.body.poll_next(&mut this.silence, cx);
        if let Poll::Ready(sent) = &frame {
            let data = sent.as_ref().and_then(|sent| sent.as_ref().ok()?.data_ref());
            this.pace.progress.add(data.map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.length()
    }
}
