//! The guard of a client's connection: no bad head reaches hyper, and a slow client is disconnected.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::ClientDeadlines;
use crate::http1::farewell::{drain, farewell};
use crate::http1::rest::Rest;
use crate::http1::scan::{HeadFault, Heads};
use crate::http1::target::HiddenBytes;
use crate::limits::ClientLimits;
use crate::refused::Refused;

/// How much is read ahead while hyper does not read.
const AHEAD: usize = 4096;

/// A connection that gives hyper no head that is refused (see [`super::scan`]), and ends when its client takes too long
/// over a head, does not read, or resets it.
///
/// A client that only ends its side waits for its answer (RFC 9112 §9.6).
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    inner: T,
    heads: Heads,
    refused: Option<HeadFault>,
    /// Bytes that were read while hyper waited for an answer.
    ahead: Vec<u8>,
    deadlines: ClientDeadlines,
    rest: Rest,
    /// Set while a head is incomplete. Most heads come whole.
    head: Option<Pin<Box<Sleep>>>,
    /// Set while nothing can be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Guarded<T> {
    pub(crate) fn new(
        inner: T,
        limits: ClientLimits,
        deadlines: ClientDeadlines,
        rest: Rest,
        hidden: HiddenBytes,
    ) -> Self {
        let (heads, ahead) = (Heads::new(limits, hidden), Vec::new());
        Self { inner, heads, refused: None, ahead, deadlines, rest, head: None, stalled: None }
    }

    /// Why the client is refused, if it is.
    pub(crate) fn refused(&self) -> Option<HeadFault> {
        self.refused
    }

    /// Takes the bytes that came in, and leaves in the buffer those that hyper may see. Of a refused head hyper sees the first
    /// byte, so that it asks for more only when it is done with the request before.
    fn take(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let ended = self.heads.ended();
        if let Err((head_at, refusal)) = self.heads.take(&mut buf.filled_mut()[before..]) {
            self.refused = Some(refusal);
            self.rest.took(ended, true);
            let Some(head_at) = head_at else { return Err(refused()) };
            buf.set_filled(before + head_at + 1);
            return Ok(());
        }
        self.rest.took(self.heads.ended(), self.heads.is_within());
        if !self.heads.is_inside() {
            self.head = None;
        } else if self.head.is_none() || ended != self.heads.ended() {
            self.head = Some(Box::pin(sleep_until(Instant::now() + self.deadlines.head)));
        }
        Ok(())
    }

    fn poll_lateness(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.head.as_mut().map(|head| head.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {
                self.refused = Some(HeadFault::Late);
                Poll::Ready(Err(refused()))
            }
            _ => Poll::Pending,
        }
    }

    /// The result of a write. A write that makes no progress for too long is an error.
    fn poll_stall<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let write = self.deadlines.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write)));
        stalled
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

/// The error that makes hyper end a connection. It is not shown: [`Guarded::part`] tells the client.
fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "refused")
}

impl<T> Guarded<T> {
    /// The bytes that were read and not given to hyper, and the stream below.
    pub(crate) fn into_parts(self) -> (Vec<u8>, T) {
        (self.ahead, self.inner)
    }
}

impl<T: AsyncRead + Unpin> Guarded<T> {
    /// Reads ahead while hyper waits for an answer, since only a read shows that the client has reset the connection.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.rest.is_asked() || !self.ahead.is_empty() {
            return Ok(());
        }
        let mut bytes = [const { MaybeUninit::uninit() }; AHEAD];
        let mut buf = ReadBuf::uninit(&mut bytes);
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
            read?;
            self.ahead.extend_from_slice(buf.filled());
            self.rest.ahead(!self.ahead.is_empty());
        }
        Ok(())
    }

    /// Reads what was read ahead, or what comes.
    fn poll_next(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        self.rest.ahead(!self.ahead.is_empty());
        Poll::Ready(Ok(()))
    }
}

impl<T> Guarded<T> {
    /// Keeps back the answer that hyper writes by itself to a client whose head it cannot read: such an answer has no body.
    fn keeps_back(&mut self, written: &[u8]) -> bool {
        const VERSION: usize = "HTTP/1.1".len();
        let fault = match written.get(VERSION..).unwrap_or_default() {
            [b' ', b'4', b'1', b'4', ..] => HeadFault::TargetTooLong,
            [b' ', b'4', ..] => HeadFault::NotHttp,
            _ => return false,
        };
        let is_hypers = !self.rest.is_answering() && written.starts_with(b"HTTP/1.");
        if is_hypers {
            self.refused.get_or_insert(fault);
        }
        is_hypers
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guarded<T> {
    /// Ends the connection when hyper is done with it. Tells the client why its request was refused, if it
    /// was, and reads the rest of its bytes, so that it can read the answer.
    pub(crate) async fn part(mut self, refused: Option<(Refused, String)>) {
        match refused {
            Some((refused, headers)) => farewell(&mut self.inner, refused, &headers).await,
            None if self.heads.is_within() => drain(&mut self.inner).await,
            None => {}
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refused.is_some() {
            return Poll::Ready(Err(refused()));
        }
        let before = buf.filled().len();
        match this.poll_next(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.take(buf, before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_lateness(cx),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.keeps_back(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.poll_stall(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // hyper writes that answer in one small piece.
        if bufs.first().is_some_and(|buf| this.keeps_back(buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.poll_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.watch(cx)?;
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        this.poll_stall(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refused.is_some() {
            // The refusal must still be written.
            return Poll::Ready(Ok(()));
        }
        let ended = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.poll_stall(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::StatusCode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::Clients;
    use crate::http1::farewell::FAREWELL;
    use crate::http1::testing::{Scene, get, page, post, settle};

    const SECOND: Duration = Duration::from_secs(1);

    /// The answer to a bad head.
    fn refusal(fault: HeadFault) -> String {
        let refused = Refused::from(fault);
        let (status, text) = (StatusCode::from_u16(refused.status).unwrap(), refused.text());
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nVia: scripted\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{text}",
            text.len()
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte_on() {
        for before in ["", "/now", "/hyper"] {
            let scene = Scene::new(Clients::default());
            let mut client = scene.connect();
            if !before.is_empty() {
                client.send(&get(before)).await;
                client.page().await;
            }
            sleep(5 * SECOND).await;
            scene.handler.notes();
            let start = Instant::now();
            client.send("GET").await;
            for piece in [" /now HTTP/1.1", "\r\nHost: a\r\n", "A: b\r\n"] {
                sleep(3 * SECOND).await;
                client.send(piece).await;
            }
            assert_eq!(client.rest().await, refusal(HeadFault::Late), "after {before:?}");
            assert_eq!(start.elapsed(), 10 * SECOND);
            assert_eq!(scene.handler.notes(), ["refuse 408"]);
            scene.closed().await;
            assert_eq!(start.elapsed(), 10 * SECOND + FAREWELL);
        }
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_client_and_the_handler() {
        let long = "x".repeat(40_000);
        for (text, fault) in [
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &long[..9000]), HeadFault::TargetTooLong),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"), HeadFault::TooLarge),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100)), HeadFault::TooMany),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                HeadFault::Ambiguous,
            ),
            (format!("\r\n\r\n{}", get("/now")), HeadFault::Ambiguous),
            (get("/#a"), HeadFault::BadTarget),
            // Heads that hyper refuses.
            (get("/ a"), HeadFault::NotHttp),
            ("GET / HTTP/9.9\r\n\r\n".to_owned(), HeadFault::NotHttp),
            ("GET / HTTP/1.1\r\nA : b\r\n\r\n".to_owned(), HeadFault::NotHttp),
            ("GET / HTTP/1.1\r\nA: \0\r\n\r\n".to_owned(), HeadFault::NotHttp),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n".to_owned(), HeadFault::NotHttp),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), HeadFault::NotHttp),
        ] {
            for before in ["", "/now", "/hyper"] {
                let scene = Scene::new(Clients::default());
                let mut client = scene.connect();
                if !before.is_empty() {
                    client.send(&get(before)).await;
                    client.page().await;
                    scene.handler.notes();
                }
                client.send(&text).await;
                assert_eq!(client.rest().await, refusal(fault), "after {before:?}");
                assert_eq!(scene.handler.notes(), [format!("refuse {}", Refused::from(fault).status)]);
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_has_ended_its_side_gets_its_answer_and_the_connection_is_closed() {
        let chunked =
            "POST /wait HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        for text in [
            get("/now"),
            get("/later"),
            get("/undecided"),
            get("/wait"),
            post("/wait", "abc"),
            chunked.into(),
        ] {
            let scene = Scene::new(Clients::default());
            let mut client = scene.connect();
            client.send(&text).await;
            client.0.shutdown().await.unwrap();
            settle().await;
            scene.handler.open(1);
            let answer = client.rest().await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{text}: {answer:?}");
            scene.closed().await;
        }
    }

    #[tokio::test]
    async fn a_refusal_comes_after_the_answers_to_the_requests_before() {
        let scene = Scene::new(Clients::default());
        let mut client = scene.connect();
        let bad = "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n";
        client.send(&(post("/wait", "abc") + &get("/now") + bad)).await;
        settle().await;
        assert_eq!(scene.handler.notes(), ["handle POST /wait, 2 lines, 3 bytes, None"]);
        scene.handler.open(1);
        assert_eq!([client.page().await, client.page().await], ["/wait", "/now"]);
        assert_eq!(client.rest().await, refusal(HeadFault::Ambiguous));
        let notes = scene.handler.notes();
        assert_eq!((notes.len(), notes[3].as_str()), (4, "refuse 400"), "{notes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_served_and_one_that_does_not_read_is_given_up() {
        let scene = Scene::new(Clients::default());
        let mut client = scene.connect_over(1000);
        let start = Instant::now();
        client.send(&post("/slow?3000", "")).await;
        sleep(29 * SECOND).await;
        let (_, mut body) = (client.head().await, vec![0; 3000]);
        client.0.read_exact(&mut body[..2000]).await.unwrap();
        sleep(29 * SECOND).await;
        client.0.read_exact(&mut body[2000..]).await.unwrap();
        assert!(body == page("/slow?3000").as_bytes());

        client.send(&post("/slow?5000", "")).await;
        scene.closed().await;
        assert_eq!(start.elapsed(), (29 + 29 + 30) * SECOND);
        assert_eq!(scene.handler.notes().last().unwrap(), "end /slow?5000, 5000 bytes");
    }
}
