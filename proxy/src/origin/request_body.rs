//! The body of a client's request. A part of it may have been read before it is forwarded.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

use super::error::BodyError;
use super::silence::{Silence, next_data};

/// A body: the part that was read, and the rest.
#[derive(Debug, Default)]
pub(crate) struct RequestBody {
    read: VecDeque<Bytes>,
    /// `None` if no more bytes come.
    rest: Option<Incoming>,
    /// Counts the bytes that come, if the settings want that.
    count: Option<Arc<AtomicU64>>,
}

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        Self { rest: Some(incoming), ..Self::default() }
    }
}

impl From<Bytes> for RequestBody {
    fn from(whole: Bytes) -> Self {
        Self { read: VecDeque::from([whole]), ..Self::default() }
    }
}

impl RequestBody {
    /// The same body. Its bytes are counted as they come.
    pub(crate) fn counted(self, count: Option<Arc<AtomicU64>>) -> Self {
        Self { count, ..self }
    }

    /// Puts a piece back that was read.
    pub(crate) fn unread(&mut self, piece: Bytes) {
        self.read.push_front(piece);
    }

    /// The next piece, unless the client is silent for too long; `None` at the end.
    pub(super) async fn next(&mut self, idle: Duration) -> Option<Result<Bytes, BodyError>> {
        let mut silence = Silence::new(idle, None);
        let frame = poll_fn(|cx| self.poll_next(&mut silence, cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    pub(super) fn poll_next(
        &mut self,
        silence: &mut Silence,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match (self.read.pop_front(), &mut self.rest) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, Some(rest)) => {
                let frame = ready!(next_data(rest, silence, cx));
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                if let (Some(count), Some(data)) = (&self.count, data) {
                    count.fetch_add(data.len() as u64, Relaxed);
                }
                Poll::Ready(frame)
            }
            (None, None) => Poll::Ready(None),
        }
    }

    /// The same body once more, if it is in memory.
    pub(super) fn again(&self) -> Option<Self> {
        let is_read = self.rest.as_ref().is_none_or(Incoming::is_end_stream);
        is_read.then(|| Self { read: self.read.clone(), ..Self::default() })
    }

    /// Whether the request has no body, not even an empty one.
    pub(super) fn is_none(&self) -> bool {
        self.read.is_empty() && self.rest.is_none()
    }

    pub(super) fn is_end(&self) -> bool {
        self.read.is_empty() && self.rest.as_ref().is_none_or(Incoming::is_end_stream)
    }

    /// Its length.
    pub(crate) fn length(&self) -> SizeHint {
        let read = self.read.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint);
        let mut length = SizeHint::new();
        length.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            length.set_upper(upper.saturating_add(read));
        }
        length
    }
}
