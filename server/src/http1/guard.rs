//! The limits on a client's connection: no bad head reaches hyper, and a slow client is given up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::ClientDeadlines;
use crate::http1::rest::Rest;
use crate::http1::scan::{HeadFault, Heads};
use crate::limits::{ClientLimits, Full};

/// How long a client that was refused has to read why. Closing at once, with some of its bytes unread, would reset the
/// connection, and it might never see the answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that gives hyper no head that is refused (see [`super::scan`]), and ends when its client takes too long
/// over a head, or does not read.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    inner: T,
    heads: Heads,
    refused: Option<HeadFault>,
    deadlines: ClientDeadlines,
    rest: Rest,
    /// Set while a head has begun and not ended: most come whole.
    head: Option<Pin<Box<Sleep>>>,
    /// Set while nothing can be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Guarded<T> {
    pub(crate) fn new(inner: T, limits: ClientLimits, deadlines: ClientDeadlines, rest: Rest) -> Self {
        Self { inner, heads: Heads::new(limits), refused: None, deadlines, rest, head: None, stalled: None }
    }

    /// Why its client is refused, if it is.
    pub(crate) fn refused(&self) -> Option<HeadFault> {
        self.refused
    }

    /// Takes what came in, and leaves in the buffer what hyper may see: of a head that is refused the first byte, so that
    /// it asks for more when it is done with the request before, and not earlier.
    fn take(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let ended = self.heads.ended();
        if let Err((head_at, refusal)) = self.heads.take(&buf.filled()[before..]) {
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

/// The error that makes hyper end a connection. It is not shown: [`Guarded::say_why`] tells the client.
fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "refused")
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guarded<T> {
    /// Tells the client why its request was refused, if it was. hyper is done with the connection then.
    pub(crate) async fn say_why(mut self, headers: &str) {
        if let Some(refusal) = self.refused {
            farewell(&mut self.inner, refusal.code(), headers).await;
        }
    }
}

/// Answers a connection for which there is no place but one to say so.
pub(crate) async fn turn_away(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    full: Full,
    headers: &str,
    place: impl Sized,
) {
    farewell(&mut stream, full.code(), &format!("Retry-After: 1\r\n{headers}")).await;
    drop(place);
}

/// The text of an answer that the server gives by itself: its status.
pub(crate) fn text_of(code: u16) -> String {
    StatusCode::from_u16(code).map(|status| format!("{status}\n")).unwrap_or_default()
}

/// Sends a last answer and waits, for a moment, until it was read.
async fn farewell(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), code: u16, headers: &str) {
    let body = text_of(code);
    let status = body.trim_end();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that has gone, or does not read, gets no answer.
    let _ = timeout(FAREWELL, said).await;
}

impl HeadFault {
    /// The status code.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Ambiguous => 400,
            Self::Late => 408,
            Self::Target => 414,
            Self::TooLarge => 431,
        }
    }
}

impl Full {
    /// The status code.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::All => 503,
            Self::Address => 429,
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
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.take(buf, before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_lateness(cx),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.poll_stall(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.poll_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        this.poll_stall(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refused.is_some() {
            // There is something to say yet.
            return Poll::Ready(Ok(()));
        }
        let ended = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.poll_stall(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::Clients;
    use crate::http1::testing::{Scene, TestClient, get, page, post, settle};

    const SECOND: Duration = Duration::from_secs(1);

    fn refusal(status: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nVia: scripted\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{status}\n",
            status.len() + 1
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
            assert_eq!(client.rest().await, refusal("408 Request Timeout"), "after {before:?}");
            assert_eq!(start.elapsed(), 10 * SECOND);
            assert_eq!(scene.handler.notes(), ["refuse 408"]);
            scene.closed().await;
            assert_eq!(start.elapsed(), 10 * SECOND + FAREWELL);
        }
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_client_and_the_handler() {
        let long = "x".repeat(40_000);
        for (text, status) in [
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &long[..9000]), "414 URI Too Long"),
            (
                format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"),
                "431 Request Header Fields Too Large",
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100)),
                "431 Request Header Fields Too Large",
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                "400 Bad Request",
            ),
            (format!("\r\n\r\n{}", get("/now")), "400 Bad Request"),
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
                assert_eq!(client.rest().await, refusal(status), "after {before:?}");
                assert_eq!(scene.handler.notes(), [format!("refuse {}", &status[..3])]);
            }
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
        assert_eq!(client.rest().await, refusal("400 Bad Request"));
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

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_turned_away_has_a_moment_to_read_why() {
        for (full, status) in
            [(Full::All, "503 Service Unavailable"), (Full::Address, "429 Too Many Requests")]
        {
            for stays in [true, false] {
                let (ours, theirs) = duplex(1000);
                let (mut client, start) = (TestClient(theirs), Instant::now());
                let turned = tokio::spawn(turn_away(ours, full, "", ()));
                // It has asked something meanwhile.
                client.send(&get("/now")).await;
                let told = client.rest().await;
                assert!(told.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{told}");
                assert!(
                    told.contains("\r\nRetry-After: 1\r\n") && told.ends_with(&format!("\r\n\r\n{status}\n"))
                );
                if !stays {
                    drop(client);
                }
                turned.await.unwrap();
                assert_eq!(start.elapsed(), if stays { FAREWELL } else { Duration::ZERO });
            }
        }
    }
}
