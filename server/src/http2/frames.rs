//! Counts the frames besides heads that a client sends. Each costs far more memory or time than its few bytes suggest. h2
//! bounds only bytes, and a window of a mebibyte allows a million pieces of one byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::streams::Streams;

/// The bytes that a connection of HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: u32 = 24;

/// The length of a frame's head.
const HEAD: usize = 9;

/// The kinds of frames that are not counted (RFC 9113 §6): `streams` and h2 bound heads and resets.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

const DATA: u8 = 0;
const END_STREAM: u8 = 1;

/// A piece of a body of at least this length does not count.
const PIECE: u32 = 256;

/// The frames that a client may send at once, and in a second. An upload of small messages stays far below.
const AT_ONCE: f64 = 2000.0;
const A_SECOND: f64 = 500.0;

/// For each so many bytes that a client takes, it may send one more frame: clients with small windows do so after 4 KiB.
const TAKEN: f64 = 1024.0;

/// A stream of HTTP/2 that counts the frames that come.
#[derive(Debug)]
pub(super) struct CountedFrames<'a, I> {
    stream: &'a mut I,
    streams: Arc<Streams>,
    frames: Frames,
}

/// The reader's state, and how many frames the client may still send.
#[derive(Debug)]
struct Frames {
    /// Bytes left of the frame under way, or of the preface.
    rest: u32,
    head: [u8; HEAD],
    /// How many bytes of the next frame's head have come.
    begun: usize,
    left: f64,
    at: Instant,
}

impl<'a, I> CountedFrames<'a, I> {
    /// Tells `streams` of a flood.
    pub(super) fn new(stream: &'a mut I, streams: Arc<Streams>) -> Self {
        Self { stream, streams, frames: Frames::new(Instant::now()) }
    }
}

impl Frames {
    fn new(now: Instant) -> Self {
        Self { rest: PREFACE, head: [0; HEAD], begun: 0, left: AT_ONCE, at: now }
    }

    /// Counts what was read. Returns whether the client may go on.
    fn read(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        let mut count = 0;
        while !bytes.is_empty() {
            let passed = (self.rest as usize).min(bytes.len());
            self.rest -= passed as u32;
            bytes = &bytes[passed..];
            let more = (HEAD - self.begun).min(bytes.len());
            self.head[self.begun..self.begun + more].copy_from_slice(&bytes[..more]);
            self.begun += more;
            bytes = &bytes[more..];
            if self.begun == HEAD {
                count += u32::from(self.begin());
            }
        }
        count == 0 || self.pay(count, now)
    }

    /// Begins the frame whose head is complete. Returns whether it counts.
    fn begin(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.rest = u32::from_be_bytes([0, high, middle, low]);
        self.begun = 0;
        match kind {
            HEADERS | RST_STREAM | CONTINUATION => false,
            DATA => self.rest < PIECE && flags & END_STREAM == 0,
            _ => true,
        }
    }

    fn pay(&mut self, count: u32, now: Instant) -> bool {
        self.earn(A_SECOND * (now - self.at).as_secs_f64());
        self.at = now;
        self.left -= f64::from(count);
        self.left >= 0.0
    }

    fn earn(&mut self, frames: f64) {
        self.left = (self.left + frames).min(AT_ONCE);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for CountedFrames<'_, I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *this.stream).poll_read(cx, buffer))?;
        if !this.frames.read(&buffer.filled()[before..], Instant::now()) {
            this.streams.flooded();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for CountedFrames<'_, I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes))?;
        self.frames.earn(written as f64 / TAKEN);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write_vectored(cx, parts))?;
        self.frames.earn(written as f64 / TAKEN);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(vec![7; length.into()]);
        frame
    }

    fn begun(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        assert!(frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now));
        frames
    }

    #[test]
    fn frames_are_counted_however_their_bytes_arrive() {
        let now = Instant::now();
        let mut bytes = [frame(HEADERS, 4, 200), frame(DATA, 0, 1), frame(DATA, END_STREAM, 0)].concat();
        bytes.extend([0, 1, 0, DATA, 0, 0, 0, 0, 1]);
        bytes.extend([7; 256]);
        bytes.extend(frame(8, 0, 4));
        for size in [1, 2, 8, 9, 10, 100, bytes.len()] {
            let mut frames = begun(now);
            assert!(bytes.chunks(size).all(|piece| frames.read(piece, now)));
            assert_eq!(frames.left, AT_ONCE - 2.0, "{size}");
        }
    }

    #[test]
    fn a_flood_is_told_and_a_client_that_takes_its_time_goes_on() {
        let now = Instant::now();
        let piece = frame(DATA, 0, 1);
        let mut frames = begun(now);
        assert!((0..2000).all(|_| frames.read(&piece, now)));
        assert!(!frames.read(&piece, now));
        let mut frames = begun(now);
        assert!((0..10_000).all(|number| frames.read(&piece, now + Duration::from_millis(2) * number)));
    }

    #[test]
    fn what_a_client_takes_pays_for_its_window_updates() {
        let now = Instant::now();
        let mut frames = begun(now);
        for _ in 0..10_000 {
            frames.earn(4096.0 / TAKEN);
            assert!(frames.read(&[frame(8, 0, 4), frame(8, 0, 4)].concat(), now));
        }
    }
}
