//! Whether a connection is at rest: each request that came has had its whole answer, and nothing of another has come.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

/// What has come and gone on a connection. All of it is counted on the one task that has the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Heads of requests that have come whole.
    asked: AtomicU64,
    /// Whether something is under way from the client: a part of a head, or a body.
    is_within: AtomicBool,
    /// Answers whose body hyper has taken whole.
    answered: AtomicU64,
    /// Of these, how many are in the kernel's hands.
    flushed: AtomicU64,
}

impl Rest {
    pub(crate) fn took(&self, asked: u64, is_within: bool) {
        self.0.asked.store(asked, Relaxed);
        self.0.is_within.store(is_within, Relaxed);
    }

    /// hyper flushes what it has written, all of it, before it flushes what is below.
    pub(crate) fn flushed(&self) {
        self.0.flushed.store(self.answered(), Relaxed);
    }

    /// How many requests have had their answers.
    pub(crate) fn answered(&self) -> u64 {
        self.0.answered.load(Relaxed)
    }

    pub(crate) fn is_now(&self) -> bool {
        let asked = self.0.asked.load(Relaxed);
        !self.0.is_within.load(Relaxed) && asked == self.answered() && asked == self.0.flushed.load(Relaxed)
    }
}

/// The body of an answer, which is counted when hyper is done with it.
#[derive(Debug)]
pub(crate) struct Counted<B> {
    body: B,
    rest: Rest,
}

impl<B> Counted<B> {
    pub(crate) fn new(body: B, rest: Rest) -> Self {
        Self { body, rest }
    }
}

impl<B> Drop for Counted<B> {
    fn drop(&mut self) {
        self.rest.0.answered.fetch_add(1, Relaxed);
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
