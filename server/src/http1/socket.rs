//! A client's connection as hyper sees it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::rest::Rest;
use super::writer::{TOGETHER, together};

/// A connection that writes small answers whole, and notes when everything is written.
#[derive(Debug)]
pub(crate) struct Socket<T> {
    stream: TokioIo<T>,
    rest: Rest,
}

impl<T: Unpin> Socket<T> {
    pub(crate) fn new(stream: T, rest: Rest) -> Self {
        Self { stream: TokioIo::new(stream), rest }
    }

    /// Returns the connection, when hyper is done with it.
    pub(crate) fn into_inner(self) -> T {
        self.stream.into_inner()
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut TokioIo<T>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl<T: AsyncRead + Unpin> Read for Socket<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> Write for Socket<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.len() == 1 || bufs.iter().map(|buf| buf.len()).sum::<usize>() > TOGETHER {
            return self.inner().poll_write_vectored(cx, bufs);
        }
        together(bufs, |bytes| self.inner().poll_write(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.rest.flushed();
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{empty, join};

    use super::*;
    use crate::http1::testing::Writes;

    #[tokio::test]
    async fn a_small_answer_is_one_piece_and_a_large_one_is_not_copied() {
        let mut socket = Socket::new(join(empty(), Writes::default()), Rest::default());
        let parts = |length: usize| [vec![b'x'; 100], vec![b'y'; length - 100]];
        for (length, is_vectored) in [(200, false), (TOGETHER, false), (TOGETHER + 1, true)] {
            let parts = parts(length);
            let parts = [IoSlice::new(&parts[0]), IoSlice::new(&parts[1])];
            let written = poll_fn(|cx| Pin::new(&mut socket).poll_write_vectored(cx, &parts)).await;
            assert_eq!(written.unwrap(), length);
            assert_eq!(socket.stream.inner_mut().writer_mut().0.pop(), Some((length, is_vectored)));
        }
    }

    #[test]
    fn parts_are_put_together_in_their_order() {
        for parts in [&[&b"ab"[..], b"", b"c"][..], &[b"d"], &[]] {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            assert_eq!(together(&slices, <[u8]>::to_vec), parts.concat());
        }
    }
}
