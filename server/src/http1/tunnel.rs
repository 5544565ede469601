//! A connection after its client and an origin have changed to another protocol: bytes both ways.

use std::any::Any;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional_with_sizes};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The bytes that wait for the other side, in each direction.
const BUFFER: usize = 16 << 10;

/// What a tunnel holds until it ends: an extension of the answer that opens it.
#[derive(Clone)]
pub struct HeldByTunnel(#[expect(dead_code, reason = "it is only dropped")] Arc<dyn Any + Send + Sync>);

impl HeldByTunnel {
    /// Holds this.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Arc::new(held))
    }
}

impl fmt::Debug for HeldByTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldByTunnel")
    }
}

/// Copies bytes both ways until both sides have ended, one of them breaks, or no byte has come for the time `idle`. The bytes
/// that the client sent before the answer go first.
pub(super) async fn tunnel<I: AsyncRead + AsyncWrite + Unpin>(
    client: &mut I,
    early: &[u8],
    origin: OnUpgrade,
    idle: Duration,
) {
    let Ok(origin) = origin.await else { return };
    let mut origin = TokioIo::new(origin);
    if origin.write_all(early).await.is_err() {
        return;
    }
    let (moved, last) = watch::channel(Instant::now());
    let mut client = Moving { stream: client, moved };
    tokio::select! {
        _ = copy_bidirectional_with_sizes(&mut client, &mut origin, BUFFER, BUFFER) => {}
        () = silence(last, idle) => {}
    }
}

/// Completes when no byte has moved for this time.
async fn silence(last: watch::Receiver<Instant>, idle: Duration) {
    loop {
        let due = *last.borrow() + idle;
        if due <= Instant::now() {
            return;
        }
        sleep_until(due).await;
    }
}

/// A stream that notes when bytes move on it, in either direction.
struct Moving<'a, I> {
    stream: &'a mut I,
    moved: watch::Sender<Instant>,
}

impl<I> Moving<'_, I> {
    fn note<T>(&self, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Ok(_)) = moved {
            self.moved.send_replace(Instant::now());
        }
        moved
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Moving<'_, I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream).poll_read(cx, buf);
        self.note(read)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Moving<'_, I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
