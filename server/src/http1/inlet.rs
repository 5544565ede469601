//! What hyper reads of a connection: what the front passes on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::front::{Front, Passed};
use super::rest::Rest;
use crate::Handler;

/// The stream of a connection below hyper. While the connection is at rest the front reads it, and answers what it can.
pub(crate) struct Inlet<'i, 'a, I, H: Handler> {
    front: &'i mut Front<'a, I, H>,
    /// Not read by hyper yet.
    bytes: Bytes,
    /// On the request that hyper reads next.
    decision: &'i Mutex<Option<H::Decision>>,
    rest: Rest,
}

impl<'i, 'a, I: AsyncRead + AsyncWrite + Unpin, H: Handler> Inlet<'i, 'a, I, H> {
    pub(crate) fn new(
        front: &'i mut Front<'a, I, H>,
        passed: Passed<H>,
        decision: &'i Mutex<Option<H::Decision>>,
        rest: Rest,
    ) -> Self {
        let mut inlet = Self { front, bytes: Bytes::new(), decision, rest };
        inlet.take(passed);
        inlet
    }

    fn take(&mut self, passed: Passed<H>) {
        self.bytes = passed.bytes;
        self.rest.passed(!self.bytes.is_empty());
        *self.decision.lock().unwrap_or_else(PoisonError::into_inner) = passed.decision;
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut I> {
        Pin::new(&mut *self.get_mut().front.stream)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin, H: Handler> AsyncRead for Inlet<'_, '_, I, H> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            // On a connection that is about to close each answer must say so, which hyper's do.
            let is_fronts = this.rest.is_now() && !this.rest.is_closing();
            if !is_fronts && !this.front.is_busy() {
                return Pin::new(&mut *this.front.stream).poll_read(cx, buf);
            }
            let passed = ready!(this.front.poll(cx))?;
            this.take(passed);
        }
        let count = this.bytes.len().min(buf.remaining());
        buf.put_slice(&this.bytes.split_to(count));
        this.rest.passed(!this.bytes.is_empty());
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin, H: Handler> AsyncWrite for Inlet<'_, '_, I, H> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.front.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
