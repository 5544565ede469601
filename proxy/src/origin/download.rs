//! The body of an answer on its way from the origin.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::error::BodyError;
use super::gate::Admitted;
use super::link::Link;
use super::silence::{Silence, next_data};

/// The origin's body, piece by piece as it comes, with a bound on silence and on the time in all.
#[derive(Debug)]
pub struct Download {
    incoming: Incoming,
    silence: Silence,
    /// The connection that it comes on, and a place at the origin, held until its end.
    held: Option<(Link, Admitted)>,
}

impl Download {
    pub(super) fn new(
        incoming: Incoming,
        idle: Duration,
        until: Option<Instant>,
        held: (Link, Admitted),
    ) -> Self {
        Self { incoming, silence: Silence::new(idle, until), held: Some(held) }
    }

    /// Lets the connection go. It is asked again if the body was read to its end: what is left of it is in the way of others.
    fn end(&mut self, is_whole: bool) {
        if let Some((link, _place)) = self.held.take()
            && is_whole
        {
            link.give_back();
        }
    }
}

impl Drop for Download {
    /// hyper stops polling at Content-Length, so that the end is noticed when the body is dropped.
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
        let frame = ready!(next_data(&mut this.incoming, &mut this.silence, cx));
        if frame.is_none() {
            this.end(true);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
