//! The streams of a connection: how many there are, how many were reset, and whether their clients take the answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Buf as _, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::Record;

/// The requests that a client may give up within the period. Browsers that leave a page give up a few dozen.
const RESETS: u32 = 100;
const RESETS_WITHIN: Duration = Duration::from_secs(10);

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Too long without a request.
    Idle,
    /// The client gives up too many requests, or sends too many small frames.
    Flood,
    /// The client does not read an answer.
    Stalled,
}

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    state: Mutex<StreamCounts>,
    flood: Notify,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct StreamCounts {
    open: usize,
    begun: u64,
    /// The streams whose client was given bytes and has not asked for more, and since when.
    given: BTreeMap<u64, Instant>,
    /// When a stream was last begun or ended.
    last: Instant,
    resets: u32,
    resets_since: Instant,
}

impl Streams {
    pub(super) fn new(at_once: usize) -> Self {
        let now = Instant::now();
        let state = StreamCounts {
            open: 0,
            begun: 0,
            given: BTreeMap::new(),
            last: now,
            resets: 0,
            resets_since: now,
        };
        Self { state: Mutex::new(state), flood: Notify::new(), places: Arc::new(Semaphore::new(at_once)) }
    }

    /// A place at the handler. A reset request also keeps one, until it is answered.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.places.clone().acquire_owned().await.ok()
    }

    /// Whether there is a stream.
    pub(super) fn is_open(&self) -> bool {
        self.lock().open > 0
    }

    /// Begins the idle time anew.
    pub(super) fn touch(&self) {
        self.lock().last = Instant::now();
    }

    /// Completes when the connection has been without a stream for the time `idle`, when a client takes nothing of an answer
    /// for the time `write`, or when it floods the proxy.
    pub(super) async fn over(&self, idle: Duration, write: Duration) -> Over {
        loop {
            let due = match self.due(idle, write) {
                (over, due) if due <= Instant::now() => return over,
                (_, due) => due,
            };
            // A stream that begins meanwhile may be stalled earlier.
            let look = due.min(Instant::now() + write);
            tokio::select! {
                () = sleep_until(look) => {}
                () = self.flood.notified() => return Over::Flood,
            }
        }
    }

    /// When the connection must end at the latest, and why.
    fn due(&self, idle: Duration, write: Duration) -> (Over, Instant) {
        let state = self.lock();
        match state.given.values().min() {
            Some(&given) => (Over::Stalled, given + write),
            None if state.open == 0 => (Over::Idle, state.last + idle),
            // Check again after the shortest time in which anything can be due.
            None => (Over::Idle, Instant::now() + idle.min(write)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, StreamCounts> {
        // A panic elsewhere leaves the state consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        let mut state = self.lock();
        if state.resets_since.elapsed() > RESETS_WITHIN {
            (state.resets, state.resets_since) = (0, Instant::now());
        }
        state.resets += 1;
        if state.resets > RESETS {
            self.flooded();
        }
    }

    /// Ends the connection, since the client sends too much of something.
    pub(super) fn flooded(&self) {
        self.flood.notify_one();
    }
}

/// A stream, until its answer was given to h2. Dropping it earlier means that it was reset.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Arc<Streams>,
    number: u64,
    is_over: bool,
}

impl OpenStream {
    pub(super) fn begin(streams: &Arc<Streams>) -> Self {
        let mut state = streams.lock();
        state.open += 1;
        state.begun += 1;
        state.last = Instant::now();
        Self { streams: streams.clone(), number: state.begun, is_over: false }
    }

    /// Ends the stream in order.
    pub(super) fn end(mut self) {
        self.is_over = true;
    }

    fn gave(&self) {
        self.streams.lock().given.insert(self.number, Instant::now());
    }

    fn is_asked(&self) {
        self.streams.lock().given.remove(&self.number);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut state = self.streams.lock();
        state.open -= 1;
        state.last = Instant::now();
        state.given.remove(&self.number);
        drop(state);
        if !self.is_over {
            self.streams.reset();
        }
    }
}

/// The body of an answer, with its record.
#[derive(Debug)]
pub(crate) struct StreamBody<B, R> {
    body: B,
    record: R,
    stream: OpenStream,
    /// An answer to HEAD has a length and no body.
    is_empty: bool,
}

impl<B: Body, R> StreamBody<B, R> {
    pub(super) fn new(body: B, record: R, mut stream: OpenStream, is_head: bool) -> Self {
        let is_empty = is_head || body.is_end_stream();
        stream.is_over = is_empty;
        if !is_empty {
            // hyper polls the body when the client has taken some of it.
            stream.gave();
        }
        Self { body, record, stream, is_empty }
    }
}

impl<B: Body + Unpin, R: Record> Body for StreamBody<B, R> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.stream.is_asked();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            let bytes = data.remaining() as u64;
            self.record.sent(bytes);
        }
        // If the body fails, the client is not at fault.
        match frame.as_ref().is_some_and(Result::is_ok) && !self.body.is_end_stream() {
            true => self.stream.gave(),
            false => self.stream.is_over = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
