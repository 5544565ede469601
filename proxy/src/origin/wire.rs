//! The stream of a connection to the origin, below hyper.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use server::SentTarget;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that writes targets that hyper cannot write. If the origin has answered and reads no more, the answer can still be
/// read from it.
///
/// An origin may answer an upload before it has read it, and close (RFC 9112 §9.6). hyper gives a request up when it cannot be
/// written. So this stream drops bytes that cannot be written, and hyper then reads the answer, or that there is none.
#[derive(Debug)]
pub(super) struct Wire<T> {
    stream: T,
    exchange: WireExchange,
    is_closed: bool,
}

/// The request that is written next, and whether its answer has begun, beside hyper.
#[derive(Clone, Debug, Default)]
pub(super) struct WireExchange(Arc<ExchangeState>);

#[derive(Debug, Default)]
struct ExchangeState {
    /// The true target, if hyper writes another.
    target: Mutex<Option<Overlay>>,
    is_answered: AtomicBool,
}

/// Bytes that replace the same number of other bytes, and how many bytes are written before them.
#[derive(Debug)]
struct Overlay {
    at: usize,
    bytes: Vec<u8>,
}

impl WireExchange {
    /// Begins the next request, of this method, which is written with this target if there is one.
    pub(super) fn begin(&self, method: &str, target: Option<&SentTarget>) {
        self.0.is_answered.store(false, Relaxed);
        if let Some(target) = target {
            let overlay = Overlay { at: method.len() + " ".len(), bytes: target.as_str().into() };
            *self.0.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(overlay);
        }
    }

    /// Whether a byte has come since the request began.
    pub(super) fn is_answered(&self) -> bool {
        self.0.is_answered.load(Relaxed)
    }

    /// Writes these bytes, with the overlay on them.
    fn write(
        &self,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut next = self.0.target.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(overlay) = &mut *next else { return write(bytes) };
        let written = write(&overlay.on(bytes));
        if let Poll::Ready(Ok(count)) = written
            && overlay.is_done(count)
        {
            *next = None;
        }
        written
    }
}

impl Overlay {
    /// These bytes, with the part of the overlay that falls on them.
    fn on(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let places = bytes.iter_mut().skip(self.at);
        places.zip(&self.bytes).for_each(|(place, byte)| *place = *byte);
        bytes
    }

    /// Whether the overlay is used up after so many bytes.
    fn is_done(&mut self, written: usize) -> bool {
        let of_it = written.saturating_sub(self.at).min(self.bytes.len());
        self.at = self.at.saturating_sub(written);
        self.bytes.drain(..of_it);
        self.bytes.is_empty()
    }
}

impl<T> Wire<T> {
    pub(super) fn new(stream: T, exchange: WireExchange) -> Self {
        Self { stream, exchange, is_closed: false }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.exchange.0.is_answered.store(true, Relaxed);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, exchange, is_closed } = self.get_mut();
        if !*is_closed {
            match exchange.write(buf, |bytes| Pin::new(stream).poll_write(cx, bytes)) {
                Poll::Ready(Err(_)) => *is_closed = true,
                written => return written,
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_target_is_written_as_it_was_sent_in_however_many_pieces() {
        const SENT: &str = "GET /?a=\"b\" HTTP/1.1\r\n\r\nGET /?a=_b_ HTTP/1.1\r\n\r\n";
        const WRITTEN: &str = "GET /?a=_b_ HTTP/1.1\r\n\r\nGET /?a=_b_ HTTP/1.1\r\n\r\n";
        for size in [1, 3, 10, 1000] {
            let (ours, mut theirs) = duplex(size);
            let exchange = WireExchange::default();
            exchange.begin("GET", Some(&SentTarget::from("/?a=\"b\"")));
            let mut wire = Wire::new(ours, exchange);
            let written = async move {
                let mut rest = WRITTEN.as_bytes();
                while !rest.is_empty() {
                    let count = poll_fn(|cx| Pin::new(&mut wire).poll_write(cx, rest)).await.unwrap();
                    rest = &rest[count..];
                }
            };
            let mut sent = String::new();
            let (_, read) = tokio::join!(written, theirs.read_to_string(&mut sent));
            read.unwrap();
            assert_eq!(sent, SENT, "{size}");
        }
    }

    #[tokio::test]
    async fn what_an_origin_that_has_closed_does_not_read_is_dropped() {
        let (ours, mut theirs) = duplex(1000);
        theirs.write_all(b"answer").await.unwrap();
        drop(theirs);
        let exchange = WireExchange::default();
        let mut wire = Wire::new(ours, exchange.clone());
        for _ in 0..2 {
            assert_eq!(poll_fn(|cx| Pin::new(&mut wire).poll_write(cx, b"more")).await.unwrap(), 4);
        }
        assert!(!exchange.is_answered());
        let mut answer = String::new();
        wire.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        assert!(exchange.is_answered());
        exchange.begin("GET", None);
        assert!(!exchange.is_answered());
    }
}
