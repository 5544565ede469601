//! The bodies that pass through the proxy.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use server::Alarm;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::origin::Link;
use crate::origin::gate::Admitted;

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// In memory: a hit, or an error's text.
    Stored(Full<Bytes>),
    /// On its way from the origin.
    Relayed(Relay),
    /// On its way from the origin through a fill.
    Filled(Filled),
}

/// Why a body ended before its end. The connection is closed on it, so that nobody takes the part for the whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the other side broke off")]
    Broken(#[from] hyper::Error),
    #[error("nothing came for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("it took too long in all")]
    Late,
    #[error("the fill ended early")]
    Filled,
}

/// A body from one side to the other, piece by piece as it comes, with a bound on silence. Trailers end here: they
/// are for this hop alone.
#[derive(Debug)]
pub struct Relay {
    /// Nothing, for a request whose body stays here.
    incoming: Option<Incoming>,
    idle: Duration,
    /// When something must have come, once there was something to wait for.
    due: Option<Instant>,
    silence: Alarm,
    progress: Option<Progress>,
    /// When it must have ended.
    until: Option<Instant>,
    /// Held until its end: the connection that it comes on, and a place at the origin.
    held: Option<(Link, Admitted)>,
}

/// When a body last moved; shared with who waits for the answer to it.
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

impl Relay {
    pub(crate) fn new(incoming: impl Into<Option<Incoming>>, idle: Duration) -> Self {
        let (due, silence) = (None, Alarm::default());
        Self { incoming: incoming.into(), idle, due, silence, progress: None, until: None, held: None }
    }

    /// The same, with a time at which it must have ended, and what it holds until then.
    pub(crate) fn within(mut self, until: Option<Instant>, held: (Link, Admitted)) -> Self {
        (self.until, self.held) = (until, Some(held));
        self
    }

    /// The same, noting when it moves.
    pub(crate) fn noting(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The connection may be asked again, if the body was read to its end: what is left of it is in the way of others.
    fn end(&mut self, is_whole: bool) {
        if let Some((link, _place)) = self.held.take()
            && is_whole
        {
            link.give_back();
        }
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    fn moved(&mut self) {
        self.due = None;
        if let Some(progress) = &self.progress {
            progress.mark();
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let due = *self.due.get_or_insert_with(|| {
            let due = Instant::now() + self.idle;
            self.until.map_or(due, |until| until.min(due))
        });
        ready!(self.silence.poll(cx, due));
        Poll::Ready(if self.is_late() { BodyError::Late } else { BodyError::Idle(self.idle) })
    }
}

impl Drop for Relay {
    /// Whoever knows a body's length does not ask for its end.
    fn drop(&mut self) {
        self.end(HttpBody::is_end_stream(self));
    }
}

impl HttpBody for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
            let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else {
                return Poll::Ready(Some(Err(ready!(self.poll_silence(cx)))));
            };
            self.moved();
            if self.is_late() {
                return Poll::Ready(Some(Err(BodyError::Late)));
            }
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Err(_trailers)) => {}
                None => {
                    self.end(true);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// The client's end of a fill.
#[derive(Debug)]
pub struct Filled {
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// The rest of the announced length.
    left: Option<u64>,
}

/// What a fill hands to the client. The end is said, so that a fill that dies is never taken for one that is done.
#[derive(Debug)]
enum Piece {
    /// With its part of the window, which is free again when the client has taken the data.
    Data(Bytes, OwnedSemaphorePermit),
    End,
}

/// A fill's way to its client: a window of bytes that may be under way. A page that is captured fits into it, so that a
/// slow client does not hold up the page; what is larger goes at the client's pace.
#[derive(Debug)]
pub(crate) struct Client {
    pieces: mpsc::UnboundedSender<Piece>,
    window: Arc<Semaphore>,
    size: u32,
}

impl Client {
    /// Sends a piece, once there is room for it. Whether the client is still there.
    pub(crate) async fn send(&self, data: Bytes) -> bool {
        let room = u32::try_from(data.len()).unwrap_or(u32::MAX).min(self.size);
        let Ok(permit) = self.window.clone().acquire_many_owned(room).await else { return false };
        self.pieces.send(Piece::Data(data, permit)).is_ok()
    }

    /// Says that all was sent.
    pub(crate) fn end(self) {
        // Who left does not need to know.
        let _ = self.pieces.send(Piece::End);
    }
}

impl Filled {
    /// A body of this length, if it is known, and the way to it.
    pub(crate) fn new(length: Option<u64>, window: u64) -> (Client, Self) {
        // As many as a semaphore takes; more than anybody lets a page be.
        let size = u32::try_from(window).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        let (sender, pieces) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(size as usize));
        (Client { pieces: sender, window, size }, Self { pieces, left: length })
    }
}

impl HttpBody for Filled {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data(data, _permit)) => {
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            Some(Piece::End) => None,
            None => Some(Err(BodyError::Filled)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Stored(Full::from(text))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Stored(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Relayed(relay) => Pin::new(relay).poll_frame(cx),
            Self::Filled(filled) => Pin::new(filled).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stored(full) => full.is_end_stream(),
            Self::Relayed(relay) => relay.is_end_stream(),
            Self::Filled(filled) => filled.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stored(full) => full.size_hint(),
            Self::Relayed(relay) => relay.size_hint(),
            Self::Filled(filled) => filled.size_hint(),
        }
    }
}
