//! The bodies that pass through the proxy.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

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
    #[error("the fill ended early")]
    Filled,
}

/// A body from one side to the other, piece by piece as it comes, with a bound on silence. Trailers end here: they
/// are for this hop alone.
#[derive(Debug)]
pub struct Relay {
    incoming: Incoming,
    idle: Duration,
    /// Set only once there was something to wait for.
    silence: Option<Pin<Box<Sleep>>>,
    progress: Option<Progress>,
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
    pub(crate) fn new(incoming: Incoming, idle: Duration) -> Self {
        Self { incoming, idle, silence: None, progress: None }
    }

    /// The same, noting when it moves.
    pub(crate) fn noting(self, progress: Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    fn moved(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.as_mut().reset(Instant::now() + self.idle);
        }
        if let Some(progress) = &self.progress {
            progress.mark();
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.idle)));
        silence.as_mut().poll(cx).map(|()| BodyError::Idle(self.idle))
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
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                return Poll::Ready(Some(Err(ready!(self.poll_silence(cx)))));
            };
            self.moved();
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Err(_trailers)) => {}
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The client's end of a fill.
#[derive(Debug)]
pub struct Filled {
    pieces: mpsc::Receiver<Piece>,
    /// The rest of the announced length.
    left: Option<u64>,
}

/// What a fill hands to the client. The end is said, so that a fill that dies is never taken for one that is done.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    End,
}

impl Filled {
    /// A body of this length, if it is known, and the sender of its pieces. One piece waits at most: the origin is
    /// read as fast as the client reads.
    pub(crate) fn new(length: Option<u64>) -> (mpsc::Sender<Piece>, Self) {
        let (sender, pieces) = mpsc::channel(1);
        (sender, Self { pieces, left: length })
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
            Some(Piece::Data(data)) => {
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
