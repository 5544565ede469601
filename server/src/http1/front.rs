//! The front of a connection: it reads what comes while the connection is at rest, and answers plain requests by itself.
//!
//! A request that the handler answers at once, or after a look into its store, never reaches hyper: no map of headers is made, and
//! the answer leaves in one write. All other requests go on to hyper ([`super::exchange`]), with the bytes that were read and the
//! decision of the handler.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::head::{KeptHead, RequestHead};
use super::writer::Unsent;
use crate::alarm::Alarm;
use crate::clients::KnownClients;
use crate::peer::Peer;
use crate::{Answer, Decided, Handler};

/// The size of a worker's read buffer. hyper reads longer heads.
const BUFFER: usize = 16 << 10;

thread_local! {
    /// One buffer for all connections of a worker, so that idle connections have none.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// The stream of a connection, and what is under way on it without hyper.
pub(crate) struct Front<'a, I, H: Handler> {
    pub(crate) stream: &'a mut I,
    pub(crate) handler: &'a Arc<H>,
    pub(crate) clients: &'a mut KnownClients,
    pub(crate) peer: &'a Peer,
    /// When the last request was answered here, or the connection began.
    pub(crate) at_rest_since: Instant,
    idle: Alarm,
    step: Step<'a, H>,
}

/// Boxed where it is large, so that idle connections don't pay for it.
enum Step<'a, H: Handler> {
    Rest,
    Lookup(Lookup<'a, H>),
    Sending(Box<Unsent<H::Page, H::Record>>),
}

/// A lookup under way.
type Lookup<'a, H> = Pin<Box<dyn Future<Output = Looked<H>> + Send + 'a>>;

/// The result of a lookup: an answer, or bytes for hyper.
type Looked<H> = Result<Answer<<H as Handler>::Page, <H as Handler>::Record>, Passed<H>>;

/// Bytes for hyper, which the front does not answer. Empty at the end of the stream.
pub(crate) struct Passed<H: Handler> {
    pub(crate) bytes: Bytes,
    /// The decision on the one request in these bytes, if they are one.
    pub(crate) decision: Option<H::Decision>,
}

impl<'a, I: AsyncRead + AsyncWrite + Unpin, H: Handler> Front<'a, I, H> {
    pub(crate) fn new(
        stream: &'a mut I,
        handler: &'a Arc<H>,
        clients: &'a mut KnownClients,
        peer: &'a Peer,
    ) -> Self {
        let (at_rest_since, idle) = (Instant::now(), Alarm::default());
        Self { stream, handler, clients, peer, at_rest_since, idle, step: Step::Rest }
    }

    /// Whether a request is being answered here.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.step, Step::Rest)
    }

    /// Ready when the connection has been at rest for too long.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.idle.poll(cx, self.at_rest_since + self.clients.now().deadlines.idle)
    }

    /// Answers plain requests, until bytes for hyper come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Passed<H>>> {
        loop {
            if let Some(passed) = ready!(self.poll_answer(cx))? {
                return Poll::Ready(Ok(passed));
            }
            self.step = match ready!(self.poll_request(cx))? {
                Ok(step) => step,
                Err(passed) => return Poll::Ready(Ok(passed)),
            };
        }
    }

    /// Ready when the front is not answering a request; returns the bytes that a lookup has left to hyper.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Passed<H>>>> {
        loop {
            self.step = match &mut self.step {
                Step::Rest => return Poll::Ready(Ok(None)),
                Step::Lookup(lookup) => match ready!(lookup.as_mut().poll(cx)) {
                    Ok(answer) => {
                        self.at_rest_since = Instant::now();
                        self.send(answer, cx)?
                    }
                    Err(passed) => {
                        self.step = Step::Rest;
                        return Poll::Ready(Ok(Some(passed)));
                    }
                },
                Step::Sending(unsent) => {
                    ready!(unsent.poll(&mut *self.stream, cx, self.clients.now().deadlines.write))?;
                    self.at_rest_since = Instant::now();
                    Step::Rest
                }
            };
        }
    }

    /// Reads the bytes that are there, and passes all of them to hyper.
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Passed<H>>> {
        self.poll_read(cx, |_, bytes, _| Ok(Passed { bytes: Bytes::copy_from_slice(bytes), decision: None }))
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Result<Step<'a, H>, Passed<H>>>> {
        self.poll_read(cx, Self::begin)
    }

    /// Reads the bytes that are there. `take` uses them while they are in the worker's buffer.
    fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Self, &[u8], &mut Context<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut buffer))?;
            Poll::Ready(take(self, buffer.filled(), cx))
        })
    }

    /// Begins to answer a request, if these bytes are one that can be answered here.
    fn begin(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<Result<Step<'a, H>, Passed<H>>> {
        let now = Instant::now();
        self.at_rest_since = now;
        let passed = |decision| Passed { bytes: Bytes::copy_from_slice(bytes), decision };
        let Some(head) = RequestHead::read(bytes, &self.clients.now().limits) else {
            return Ok(Err(passed(None)));
        };
        Ok(match self.handler.answer(&head, *self.peer, now) {
            Decided::Answer(answer) => Ok(self.send(answer, cx)?),
            Decided::Lookup(lookup) => Ok(Step::Lookup(self.look_up(lookup, head.keep()))),
            Decided::Decision(decision) => Err(passed(Some(decision))),
        })
    }

    /// A lookup for a request. A block holds `lookup` and `head` once; an `async fn` would hold them twice, and each hit moves
    /// the whole future.
    fn look_up(&self, lookup: H::Lookup, head: KeptHead) -> Lookup<'a, H> {
        let (handler, peer) = (self.handler, *self.peer);
        Box::pin(async move {
            let looked = handler.look_up(&lookup, &head.borrow(), peer).await;
            looked.map_err(|decision| Passed { bytes: head.bytes, decision: Some(decision) })
        })
    }

    /// Sends as much as the client takes at once, which is mostly everything.
    fn send(&mut self, answer: Answer<H::Page, H::Record>, cx: &mut Context<'_>) -> io::Result<Step<'a, H>> {
        let mut unsent = Unsent::new(answer);
        match unsent.poll(&mut *self.stream, cx, self.clients.now().deadlines.write) {
            // This is soon after the decision, so the clock is not read again.
            Poll::Ready(sent) => sent.map(|()| Step::Rest),
            Poll::Pending => Ok(Step::Sending(Box::new(unsent))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::sleep;

    use super::*;
    use crate::ClientDeadlines;
    use crate::Clients;
    use crate::http1::testing::{Scene, get, page, settle};

    fn scene() -> Scene {
        Scene::new(Clients::default())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_plain_request_is_answered_at_once() {
        let scene = scene();
        let mut client = scene.connect();
        for _ in 0..2 {
            client.send(&get("/now?a")).await;
            let (head, body) = client.answer().await;
            assert_eq!(
                head,
                "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
            );
            assert_eq!(body, "/now?a");
            assert_eq!(scene.handler.notes(), ["decide GET /now?a", "end /now?a, 6 bytes"]);
        }
    }

    #[tokio::test]
    async fn a_plain_request_is_answered_after_a_lookup() {
        let scene = scene();
        let mut client = scene.connect();
        client.send(&get("/later")).await;
        settle().await;
        // The next request waits for the answer to this one.
        client.send(&get("/now")).await;
        settle().await;
        assert_eq!(scene.handler.notes(), ["decide GET /later", "look up /later"]);
        scene.handler.open(1);
        assert_eq!([client.page().await, client.page().await], ["/later", "/now"]);
        assert_eq!(scene.handler.notes(), ["end /later, 6 bytes", "decide GET /now", "end /now, 4 bytes"]);
    }

    #[tokio::test]
    async fn a_lookup_that_ends_in_a_decision_goes_to_hyper_with_the_whole_request() {
        let scene = scene();
        let mut client = scene.connect();
        client.send("GET /undecided HTTP/1.1\r\nHost: a\r\nA: b\r\nA: c\r\n\r\n").await;
        settle().await;
        assert_eq!(scene.handler.notes(), ["decide GET /undecided", "look up /undecided"]);
        scene.handler.open(1);
        assert_eq!(client.page().await, "/undecided");
        assert_eq!(
            scene.handler.notes(),
            [r#"handle GET /undecided, 3 lines, 0 bytes, Some("/undecided")"#, "end /undecided, 10 bytes"]
        );
    }

    #[tokio::test]
    async fn an_answer_to_head_has_no_body() {
        let scene = scene();
        let mut client = scene.connect();
        scene.handler.open(1);
        for target in ["/now", "/later", "/hyper"] {
            client.send(&format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert!(client.head().await.contains(&format!("Content-Length: {}\r\n", target.len())));
            assert_eq!(scene.handler.notes().last().unwrap(), &format!("end {target}, 0 bytes"));
        }
        client.send(&get("/now")).await;
        assert_eq!(client.page().await, "/now");
    }

    #[tokio::test]
    async fn the_record_of_a_client_that_has_gone_ends_with_the_lookup() {
        let scene = scene();
        let mut client = scene.connect();
        client.send(&get("/later")).await;
        settle().await;
        drop(client);
        scene.handler.open(1);
        scene.closed().await;
        assert_eq!(scene.handler.notes(), ["decide GET /later", "look up /later", "end /later, 0 bytes"]);
    }

    #[tokio::test]
    async fn a_client_that_sends_no_more_gets_its_answer() {
        let scene = scene();
        let mut client = scene.connect();
        client.send(&get("/later")).await;
        client.0.shutdown().await.unwrap();
        settle().await;
        scene.handler.open(1);
        assert_eq!(client.page().await, "/later");
        assert_eq!(client.rest().await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_its_answer_and_one_that_does_not_read_is_given_up() {
        let scene = scene();
        let start = Instant::now();
        let mut slow = scene.connect_over(1000);
        slow.send(&get("/now?3000")).await;
        sleep(29 * SECOND).await;
        let (head, mut body) = (slow.head().await, vec![0; 3000]);
        slow.0.read_exact(&mut body[..2000]).await.unwrap();
        sleep(29 * SECOND).await;
        slow.0.read_exact(&mut body[2000..]).await.unwrap();
        assert!(body == page("/now?3000").as_bytes());
        assert_eq!(scene.handler.notes(), ["decide GET /now?3000", "end /now?3000, 3000 bytes"]);

        slow.send(&get("/now?5000")).await;
        scene.closed().await;
        assert_eq!(start.elapsed(), (29 + 29 + 30) * SECOND);
        let sent = 1000 - head.len();
        let notes = ["decide GET /now?5000".to_owned(), format!("end /now?5000, {sent} bytes")];
        assert_eq!(scene.handler.notes(), notes);
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_time_begins_with_the_last_answer() {
        let idle = ClientDeadlines::default().idle;
        for (target, answered) in [
            ("/now", 40),
            ("/hyper", 40),
            ("/later", 70),
            ("/undecided", 70),
            ("/now?3000", 70),
            ("/later?3000", 70),
            ("/hyper?3000", 70),
        ] {
            let (scene, start) = (scene(), Instant::now());
            let mut client = scene.connect_over(1000);
            sleep(40 * SECOND).await;
            client.send(&get(target)).await;
            sleep(30 * SECOND).await;
            scene.handler.open(1);
            assert_eq!(client.page().await, page(target));
            assert_eq!(client.rest().await, "");
            scene.closed().await;
            assert_eq!(start.elapsed(), answered * SECOND + idle, "{target}");
        }
    }
}
