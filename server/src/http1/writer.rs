//! Requests that come in the very same words as one before, answered without hyper: it would read, and write, the same
//! again, for more than all the rest of a hit.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::http::Extensions;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::alarm::in_time;
use crate::http1::socket::{TOGETHER, together};

/// Longer heads are not remembered.
const LONGEST: usize = 4 << 10;

/// Of a head.
const END: &[u8] = b"\r\n\r\n";

/// What is read at once. More is left to hyper.
const BUFFER: usize = 16 << 10;

thread_local! {
    /// One for all connections of a worker: idle ones have none.
    static ASKED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
    /// The line that says when an answer was sent, and the second that it is of.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// An answer that is being looked for, or how its request goes on.
pub type Later<'a> = Pin<Box<dyn Future<Output = Result<Answer, Ordinary>> + Send + 'a>>;

/// What comes of a request whose words may be known.
pub enum Recalled<'a> {
    /// Its answer.
    Answer(Answer),
    /// The answer is being looked for.
    Later(Later<'a>),
    /// Its answer is not to be had in this way.
    Ordinary(Ordinary),
}

/// The answer to a request whose words are known.
#[derive(Debug)]
pub struct Answer {
    /// Status line and headers, each with its end of line, but for `Date` and the empty line.
    pub head: Vec<u8>,
    /// All of it: its `Content-Length` is in the head.
    pub body: Bytes,
    /// When it was made, for `Date`.
    pub at: SystemTime,
}

/// A request that has to be answered in the ordinary way.
#[derive(Debug)]
pub struct Ordinary {
    /// The words that it came in.
    pub words: Bytes,
    /// What the handler gets with it.
    pub extensions: Extensions,
}

impl From<&[u8]> for Ordinary {
    fn from(words: &[u8]) -> Self {
        Self { words: Bytes::copy_from_slice(words), extensions: Extensions::new() }
    }
}

/// In the extensions of an answer: the next request on the connection may well be one that can be recalled.
#[derive(Clone, Copy, Debug)]
pub struct Recallable;

/// Reads what is there, and takes it while it is in the worker's buffer.
pub(crate) fn poll_take<R>(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> R,
) -> Poll<io::Result<R>> {
    ASKED.with_borrow_mut(|asked| {
        let mut asked = ReadBuf::new(asked);
        ready!(Pin::new(stream).poll_read(cx, &mut asked))?;
        Poll::Ready(Ok(take(asked.filled())))
    })
}

/// Whether these bytes, which came together, end as a head does, and are few enough to be remembered.
pub(crate) fn may_be_known(bytes: &[u8]) -> bool {
    bytes.len() <= LONGEST && bytes.ends_with(END)
}

/// Whether these bytes are the head of one request, and nothing else.
pub fn is_one_head(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(length) = memchr(b'\n', &bytes[at..]) {
        let line = &bytes[at..at + length];
        at += length + 1;
        // Lines may also end in a line feed alone (RFC 9112 §2.2). What comes after an empty one is another's.
        if matches!(line, b"" | b"\r") {
            return at == bytes.len() && bytes.ends_with(END);
        }
    }
    false
}

/// An answer on its way to a client.
#[derive(Debug)]
pub(crate) struct Unsent {
    answer: Answer,
    sent: usize,
}

impl From<Answer> for Unsent {
    fn from(mut answer: Answer) -> Self {
        push_date(&mut answer.head, answer.at);
        Self { answer, sent: 0 }
    }
}

impl Unsent {
    /// Sends what the client takes at once, most often all of it.
    pub(crate) fn begin(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> io::Result<()> {
        if let Poll::Ready(written) = poll_write(stream, cx, self.parts()) {
            self.sent = written?;
        }
        Ok(())
    }

    fn parts(&self) -> [&[u8]; 2] {
        let Answer { head, body, .. } = &self.answer;
        [head.get(self.sent..).unwrap_or_default(), &body[self.sent.saturating_sub(head.len())..]]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts().iter().all(|part| part.is_empty())
    }

    /// Sends the rest. A client that takes nothing of it for so long is given up.
    pub(crate) async fn finish(
        mut self: Box<Self>,
        stream: &mut TcpStream,
        patience: Duration,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let written = poll_fn(|cx| poll_write(stream, cx, self.parts()));
            self.sent += match in_time(Instant::now() + patience, written).await {
                None => return Err(io::ErrorKind::TimedOut.into()),
                Some(written) => match written? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    some => some,
                },
            };
        }
        Ok(())
    }
}

fn poll_write(stream: &mut TcpStream, cx: &mut Context<'_>, parts: [&[u8]; 2]) -> Poll<io::Result<usize>> {
    let parts = parts.map(IoSlice::new);
    match parts.iter().map(|part| part.len()).sum::<usize>() {
        ..=TOGETHER => together(&parts, |bytes| Pin::new(stream).poll_write(cx, bytes)),
        _ => Pin::new(stream).poll_write_vectored(cx, &parts),
    }
}

/// `Date`, as hyper writes it, and the empty line.
fn push_date(head: &mut Vec<u8>, at: SystemTime) {
    let second = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(of, line)| {
        if *of != second {
            (*of, *line) = (
                second,
                format!("Date: {}\r\n\r\n", httpdate::fmt_http_date(at.max(SystemTime::UNIX_EPOCH))),
            );
        }
        head.extend_from_slice(line.as_bytes());
    });
}

/// A connection of which something has been read already.
#[derive(Debug)]
pub(crate) struct Resumed<'a> {
    pub(crate) words: Bytes,
    pub(crate) stream: &'a mut TcpStream,
}

impl AsyncRead for Resumed<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.words.is_empty() {
            return Pin::new(&mut *this.stream).poll_read(cx, buf);
        }
        let count = this.words.len().min(buf.remaining());
        buf.put_slice(&this.words.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
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
    use super::*;

    #[test]
    fn only_one_whole_head_may_be_remembered() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], true),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", false),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nG", false),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            (b"GET / HTTP/1.1\nHost: a\n\n", false),
            (b"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            (b"\r\n\r\n", false),
            (b"\r\n\r", false),
            (b"", false),
        ] {
            assert_eq!(is_one_head(bytes), expected, "{}", bytes.escape_ascii());
        }
        assert!(!may_be_known(&[&vec![b'x'; LONGEST], END].concat()));
    }
}
