//! A client's connection, with an eye on how it is used.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::ClientDeadlines;
use crate::http1::rest::Rest;
use crate::http1::scan::{Heads, Refusal};
use crate::limits::{ClientLimits, Full};

/// How long a client that was refused has to read why. Closing at once, with some of its bytes unread, would reset the
/// connection, and it might never see the answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that gives hyper no head that is refused (see [`crate::heads`]), and ends when its client takes too long
/// over a head, or does not read.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    inner: T,
    heads: Heads,
    refused: Option<Refusal>,
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
    pub(crate) fn refused(&self) -> Option<Refusal> {
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
                self.refused = Some(Refusal::Late);
                Poll::Ready(Err(refused()))
            }
            _ => Poll::Pending,
        }
    }

    /// What a write came to; one that can do nothing for too long is an error.
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

/// The error that ends hyper's part of a connection. Nobody sees it: [`Guarded::say_why`] says it.
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

/// Sends a last answer and waits, for a moment, until it was read.
async fn farewell(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), code: u16, headers: &str) {
    let status = StatusCode::from_u16(code).map(|status| status.to_string()).unwrap_or_default();
    let body = format!("{status}\n");
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
    // Who has gone, or does not read, has no answer.
    let _ = timeout(FAREWELL, said).await;
}

impl Refusal {
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
