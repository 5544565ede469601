//! Whether a connection is at rest: each request has had its whole answer, and no byte of a further request has come.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Buf as _, Frame, SizeHint};

use crate::Record;

/// The requests and answers of a connection, counted on the one task that serves it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Whether bytes that the front has passed on wait for hyper.
    is_passed: AtomicBool,
    /// Heads of requests that have come whole.
    asked: AtomicU64,
    /// Whether something is under way from the client: a part of a head, or a body.
    is_within: AtomicBool,
    /// Whether something has come that hyper does not read yet.
    is_ahead: AtomicBool,
    /// Answers whose head was given to hyper.
    begun: AtomicU64,
    /// Answers whose whole body hyper has taken.
    answered: AtomicU64,
    /// How many of these answers the kernel has.
    flushed: AtomicU64,
    /// Whether the next answer is the last.
    is_closing: AtomicBool,
}

impl Rest {
    pub(crate) fn passed(&self, is_passed: bool) {
        self.0.is_passed.store(is_passed, Relaxed);
    }

    pub(crate) fn took(&self, asked: u64, is_within: bool) {
        self.0.asked.store(asked, Relaxed);
        self.0.is_within.store(is_within, Relaxed);
    }

    /// Notes whether bytes have come that hyper does not read yet, since it waits for an answer.
    pub(crate) fn ahead(&self, is_ahead: bool) {
        self.0.is_ahead.store(is_ahead, Relaxed);
    }

    /// Whether a request has come whose answer is not complete.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.asked.load(Relaxed) > self.answered()
    }

    /// Whether an answer has begun and is not sent.
    pub(crate) fn is_answering(&self) -> bool {
        self.0.begun.load(Relaxed) > self.0.flushed.load(Relaxed)
    }

    /// Notes that all answers so far are with the kernel: hyper writes out its own buffer before it calls this.
    pub(crate) fn flushed(&self) {
        self.0.flushed.store(self.answered(), Relaxed);
    }

    /// How many requests have had their answers.
    pub(crate) fn answered(&self) -> u64 {
        self.0.answered.load(Relaxed)
    }

    /// Makes the next answer the last one.
    pub(crate) fn close(&self) {
        self.0.is_closing.store(true, Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.is_closing.load(Relaxed)
    }

    pub(crate) fn is_now(&self) -> bool {
        let asked = self.0.asked.load(Relaxed);
        let is_under_way =
            [&self.0.is_passed, &self.0.is_within, &self.0.is_ahead].iter().any(|it| it.load(Relaxed));
        !is_under_way && asked == self.answered() && asked == self.0.flushed.load(Relaxed)
    }
}

/// The body of an answer. The answer is counted when hyper is done with its body, and its record ends.
#[derive(Debug)]
pub(crate) struct Counted<B: Body, R> {
    body: B,
    record: R,
    rest: Rest,
    /// The error of the body, held back while hyper sends the bytes before it, at least the head. hyper would drop them.
    failed: Option<B::Error>,
}

impl<B: Body, R> Counted<B, R> {
    pub(crate) fn new(body: B, record: R, rest: Rest) -> Self {
        rest.0.begun.fetch_add(1, Relaxed);
        Self { body, record, rest, failed: None }
    }
}

impl<B: Body, R> Drop for Counted<B, R> {
    fn drop(&mut self) {
        self.rest.0.answered.fetch_add(1, Relaxed);
    }
}

/// Its error is never pinned.
impl<B: Body + Unpin, R: Unpin> Unpin for Counted<B, R> {}

impl<B: Body + Unpin, R: Record> Body for Counted<B, R> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(error)) = frame.take_if(|frame| frame.is_err()) {
            self.failed = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            let bytes = data.remaining() as u64;
            self.record.sent(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::Full;
    use hyper::body::Bytes;

    use super::*;

    /// Adds up what it is told.
    #[derive(Default)]
    struct Sent(Arc<AtomicU64>);

    impl Record for Sent {
        fn sent(&mut self, bytes: u64) {
            self.0.fetch_add(bytes, Relaxed);
        }
    }

    /// A body that fails.
    struct Broken;

    impl Body for Broken {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(Some(Err("broken")))
        }
    }

    fn answer(rest: &Rest) -> Counted<Full<Bytes>, ()> {
        Counted::new(Full::default(), (), rest.clone())
    }

    #[test]
    fn a_connection_is_at_rest_when_each_request_has_its_answer_and_nothing_more_has_come() {
        let rest = Rest::default();
        assert!(rest.is_now());
        rest.took(2, false);
        let (first, second) = (answer(&rest), answer(&rest));
        drop(first);
        rest.flushed();
        assert!(!rest.is_now(), "one request waits");
        drop(second);
        assert!(!rest.is_now(), "its answer is not sent");
        rest.flushed();
        assert!(rest.is_now());
        assert_eq!(rest.answered(), 2);
        rest.took(2, true);
        assert!(!rest.is_now(), "a head has begun");
        rest.took(2, false);
        rest.passed(true);
        assert!(!rest.is_now(), "hyper has not read what came");
        rest.passed(false);
        assert!(rest.is_now());
    }

    #[tokio::test]
    async fn a_body_that_fails_lets_hyper_send_what_came_before_first() {
        let mut answer = Counted::new(Broken, (), Rest::default());
        let mut polls = 0;
        let frame = poll_fn(|cx| {
            polls += 1;
            Pin::new(&mut answer).poll_frame(cx)
        });
        assert_eq!((frame.await.unwrap().unwrap_err(), polls), ("broken", 2));
    }

    #[test]
    fn a_connection_that_closes_may_be_at_rest() {
        let rest = Rest::default();
        assert!(!rest.is_closing());
        rest.close();
        assert!(rest.is_closing() && rest.is_now());
    }

    #[tokio::test]
    async fn the_record_of_an_answer_is_told_what_hyper_takes_of_it() {
        let (sent, rest) = (Sent::default(), Rest::default());
        let told = sent.0.clone();
        let mut answer = Counted::new(Full::<Bytes>::from("abc"), sent, rest.clone());
        assert_eq!((answer.size_hint().exact(), answer.is_end_stream()), (Some(3), false));
        let frame = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "abc");
        assert!(poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await.is_none());
        assert!(answer.is_end_stream());
        assert_eq!((told.load(Relaxed), rest.answered()), (3, 0));
        drop(answer);
        assert_eq!(rest.answered(), 1);
    }
}
