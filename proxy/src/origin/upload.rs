//! The body of a request to the origin.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::error::BodyError;
use super::silence::{Silence, next_data};

/// A client's body as it arrives, with a deadline for silence.
#[derive(Debug)]
pub(crate) struct Upload {
    /// `None` for a request whose body is not forwarded.
    incoming: Option<Incoming>,
    silence: Silence,
    progress: Progress,
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
        Self { incoming, silence: Silence::new(idle, None), progress }
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
            this.progress.mark();
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
