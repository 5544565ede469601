//! The body of an origin's answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::error::BodyError;
use super::gate::GatePermit;
use super::link::Link;
use super::silence::{Silence, next_data};

/// The origin's body as it arrives, with deadlines for silence and for the whole answer.
#[derive(Debug)]
pub struct Download {
    incoming: Incoming,
    silence: Silence,
    /// The first part, if it has been read ahead.
    first: Option<Bytes>,
    /// The connection and the slot, held until the end of the body.
    held: Option<(Link, GatePermit)>,
}

impl Download {
    pub(super) fn new(
        incoming: Incoming,
        idle: Duration,
        until: Option<Instant>,
        held: (Link, GatePermit),
    ) -> Self {
        Self { incoming, silence: Silence::new(idle, until), first: None, held: Some(held) }
    }

    /// Reads the first part ahead, if it is there, without waiting. If a body breaks before its first byte, there is no
    /// answer, and the client can still be told.
    pub(crate) async fn begin(&mut self) -> Result<(), BodyError> {
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_frame(cx))).await;
        if let Poll::Ready(Some(first)) = first {
            self.first = first?.into_data().ok();
        }
        Ok(())
    }

    /// Releases the connection. It is reused only if the body was read to its end.
    fn end(&mut self, is_whole: bool) {
        if let Some((link, _place)) = self.held.take()
            && is_whole
        {
            link.give_back();
        }
    }
}

impl Drop for Download {
    /// hyper stops polling at Content-Length, so the end is noticed when the body is dropped.
    fn drop(&mut self) {
        self.end(self.incoming.is_end_stream());
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let frame = ready!(next_data(&mut this.incoming, &mut this.silence, cx));
        if frame.is_none() {
            this.end(true);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.incoming.size_hint();
        match (&self.first, left.exact()) {
            (Some(first), Some(left)) => SizeHint::with_exact(left + first.len() as u64),
            _ => left,
        }
    }
}
