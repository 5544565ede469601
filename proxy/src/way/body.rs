//! The bodies of answers.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::origin::{BodyError, Download};

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// A body in memory: that of a hit, or the text of an error.
    Stored(Full<Bytes>),
    /// Relayed from the origin.
    Relayed(Download),
    /// Relayed from the origin by a fill.
    Filled(FillBody),
    /// Some bytes of one of the other kinds.
    Part(Box<PartBody>),
}

/// Some bytes of a body. It does not wait for the bytes behind them.
#[derive(Debug)]
pub struct PartBody {
    whole: Body,
    /// The bytes to skip, and then the bytes to send.
    skip: usize,
    left: usize,
}

impl Default for Body {
    fn default() -> Self {
        Self::Stored(Full::default())
    }
}

impl Body {
    /// Some bytes of this body.
    pub(crate) fn part(self, range: Range<usize>) -> Self {
        Self::Part(Box::new(PartBody { whole: self, skip: range.start, left: range.len() }))
    }
}

impl PartBody {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while self.left > 0 {
            let Some(frame) = ready!(Pin::new(&mut self.whole).poll_frame(cx)?) else {
                return Poll::Ready(Some(Err(BodyError::Fill)));
            };
            let Ok(mut piece) = frame.into_data() else { continue };
            let skipped = self.skip.min(piece.len());
            piece.advance(skipped);
            self.skip -= skipped;
            piece.truncate(self.left);
            self.left -= piece.len();
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        Poll::Ready(None)
    }
}

/// The client's end of a fill.
#[derive(Debug)]
pub struct FillBody {
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// The bytes still to come, if the length is known.
    left: Option<u64>,
}

/// A piece of a fill's body. The end is a piece of its own, so that a fill that dies is not mistaken for a complete one.
#[derive(Debug)]
enum Piece {
    /// Data, and its share of the window. The share is freed when the client takes the data.
    Data(Bytes, OwnedSemaphorePermit),
    End,
}

/// The fill's end of the body. Its window bounds the bytes that the client has not read. A captured page fits into the window,
/// so a slow client does not delay its storing. A larger page is relayed at the client's pace.
#[derive(Debug)]
pub(crate) struct Client {
    pieces: mpsc::UnboundedSender<Piece>,
    window: Arc<Semaphore>,
    size: u32,
}

impl Client {
    /// Sends data as soon as the window has room. Returns whether the client is still there.
    pub(crate) async fn send(&self, data: Bytes) -> bool {
        let room = u32::try_from(data.len()).unwrap_or(u32::MAX).min(self.size);
        let Ok(permit) = self.window.clone().acquire_many_owned(room).await else { return false };
        self.pieces.send(Piece::Data(data, permit)).is_ok()
    }

    /// The size of its window in bytes.
    pub(crate) fn window(&self) -> u64 {
        self.size.into()
    }

    /// Marks the body as complete.
    pub(crate) fn end(self) {
        // If this fails, the client has left.
        let _ = self.pieces.send(Piece::End);
    }
}

impl FillBody {
    /// Both ends of a body, with its length if that is known.
    pub(crate) fn new(length: Option<u64>, window: u64) -> (Client, Self) {
        // At most as much as a semaphore can count.
        let size = u32::try_from(window).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        let (sender, pieces) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(size as usize));
        (Client { pieces: sender, window, size }, Self { pieces, left: length })
    }

    /// Sets the length. Call it before the first read.
    pub(crate) fn set_length(&mut self, length: u64) {
        self.left = Some(length);
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
            Self::Part(part) => part.poll_part(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stored(full) => full.is_end_stream(),
            Self::Relayed(download) => download.is_end_stream(),
            Self::Filled(filled) => filled.is_end_stream(),
            Self::Part(part) => part.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stored(full) => full.size_hint(),
            Self::Relayed(download) => download.size_hint(),
            Self::Filled(filled) => filled.size_hint(),
            Self::Part(part) => SizeHint::with_exact(part.left as u64),
        }
    }
}
