//! The bodies of answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::origin::{BodyError, Download};

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// In memory: a hit, or an error's text.
    Stored(Full<Bytes>),
    /// On its way from the origin.
    Relayed(Download),
    /// On its way from the origin through a fill.
    Filled(FillBody),
}

/// The client's end of a fill.
#[derive(Debug)]
pub struct FillBody {
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

impl FillBody {
    /// A body of this length, if it is known, and the way to it.
    pub(crate) fn new(length: Option<u64>, window: u64) -> (Client, Self) {
        // As many as a semaphore takes; more than anybody lets a page be.
        let size = u32::try_from(window).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        let (sender, pieces) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(size as usize));
        (Client { pieces: sender, window, size }, Self { pieces, left: length })
    }
}

impl HttpBody for FillBody {
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
            None => Some(Err(BodyError::Fill)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
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
            Self::Relayed(download) => Pin::new(download).poll_frame(cx),
            Self::Filled(filled) => Pin::new(filled).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stored(full) => full.is_end_stream(),
            Self::Relayed(download) => download.is_end_stream(),
            Self::Filled(filled) => filled.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stored(full) => full.size_hint(),
            Self::Relayed(download) => download.size_hint(),
            Self::Filled(filled) => filled.size_hint(),
        }
    }
}
