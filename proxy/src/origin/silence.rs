//! Deadlines for a body: for silence between its parts, and for the whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use server::Alarm;
use tokio::time::Instant;

use super::error::BodyError;

/// How long a body may be silent, and until when it may last.
#[derive(Debug)]
pub(super) struct Silence {
    idle: Duration,
    until: Option<Instant>,
    /// When the next data is due; set at the first wait for it.
    due: Option<Instant>,
    alarm: Alarm,
}

impl Silence {
    pub(super) fn new(idle: Duration, until: Option<Instant>) -> Self {
        Self { idle, until, due: None, alarm: Alarm::default() }
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let due = *self.due.get_or_insert_with(|| {
            let due = Instant::now() + self.idle;
            self.until.map_or(due, |until| until.min(due))
        });
        ready!(self.alarm.poll(cx, due));
        Poll::Ready(if self.is_late() { BodyError::Late } else { BodyError::Idle(self.idle) })
    }
}

/// The next data of a body, or an error at a deadline. Trailers are dropped: they are hop-by-hop.
pub(super) fn next_data(
    incoming: &mut Incoming,
    silence: &mut Silence,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    loop {
        let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
            return silence.poll(cx).map(|error| Some(Err(error)));
        };
        silence.due = None;
        if silence.is_late() {
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        match frame.transpose()?.map(Frame::into_data) {
            Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Err(_trailers)) => {}
            None => return Poll::Ready(None),
        }
    }
}
