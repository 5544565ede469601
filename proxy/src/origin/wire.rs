//! The stream of a connection to the origin, below hyper.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use server::SentTarget;

/// A stream that writes targets that hyper cannot write. If the origin has answered and reads no more, the answer can still be
/// read from it.
///
/// An origin may answer an upload before it has read it, and close (RFC 9112 §9.6). hyper gives a request up when it cannot be
/// written. So this stream drops bytes that cannot be written, and hyper then reads the answer, or that there is none.
#[derive(Debug)]
pub(super) struct Wire<T> {
    stream: T,
    target: NextTarget,
    is_closed: bool,
}

/// The true target of the next request, if hyper writes a stand-in.
#[derive(Clone, Debug, Default)]
pub(super) struct NextTarget(Arc<Mutex<Option<Overlay>>>);

/// Bytes that replace the same number of other bytes, and how many bytes are written before them.
#[derive(Debug)]
struct Overlay {
    at: usize,
    bytes: Vec<u8>,
}

impl NextTarget {
    /// Makes the next request, which has this method, go out with this target.
    pub(super) fn set(&self, method: &str, target: &SentTarget) {
        let overlay = Overlay { at: method.len() + " ".len(), bytes: target.as_str().into() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(overlay);
    }

    /// Writes these bytes, with the overlay on them.
    fn write(
        &self,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub(super) fn new(stream: T, target: NextTarget) -> Self {
        Self { stream, target, is_closed: false }
    }
}

impl<T: Read + Unpin> Read for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Wire<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, target, is_closed } = self.get_mut();
        if !*is_closed {
            match target.write(buf, |bytes| Pin::new(stream).poll_write(cx, bytes)) {
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

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_target_is_written_as_it_was_sent_in_however_many_pieces() {
        const SENT: &str = "GET /?a=\"b\" HTTP/1.1\r\n\r\nGET /?a=_b_ HTTP/1.1\r\n\r\n";
        const WRITTEN: &str = "GET /?a=_b_ HTTP/1.1\r\n\r\nGET /?a=_b_ HTTP/1.1\r\n\r\n";
        for size in [1, 3, 10, 1000] {
            let (ours, mut theirs) = duplex(size);
            let target = NextTarget::default();
            target.set("GET", &SentTarget::from("/?a=\"b\""));
            let mut wire = Wire::new(TokioIo::new(ours), target);
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
        let mut wire = Wire::new(TokioIo::new(ours), NextTarget::default());
        for _ in 0..2 {
            assert_eq!(poll_fn(|cx| Pin::new(&mut wire).poll_write(cx, b"more")).await.unwrap(), 4);
        }
        let mut answer = String::new();
        TokioIo::new(wire).read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
    }
}
