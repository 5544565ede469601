//! The body of a request to the origin.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use server::in_time;
use tokio::time::Instant;

use super::error::BodyError;
use super::silence::{Silence, next_data};

/// A client's body as it arrives, with a deadline for silence.
#[derive(Debug)]
pub(crate) struct Upload {
    /// `None` for a request whose body is not forwarded.
    incoming: Option<Incoming>,
    silence: Silence,
    pace: Pace,
}

/// How far a body has been sent, and how long it may stand still.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    progress: Progress,
    idle: Duration,
}

/// When the last part of a body was sent. Shared with the fetch, which waits for the answer.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Upload {
    pub(crate) fn new(incoming: Option<Incoming>, idle: Duration, progress: Progress) -> Self {
        Self { incoming, silence: Silence::new(idle, None), pace: Pace { progress, idle } }
    }

    /// The client's body, of which nothing was read.
    pub(super) fn into_incoming(self) -> Option<Incoming> {
        self.incoming
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace.clone()
    }
}

impl Pace {
    /// The output of a future, unless it comes only after the body has stood still for too long.
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
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let frame = next_data(incoming, &mut this.silence, cx);
        if frame.is_ready() {
            this.pace.progress.mark();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
