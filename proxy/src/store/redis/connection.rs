//! One connection to Redis: commands go out together, and their replies come back in order.
//!
//! It serves one batch of commands at a time. On the library's shared connection, a value that arrives slowly would hold up
//! all others, and a deadline could not distinguish a slow value from a silent Redis.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use server::Alarm;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use super::dialer::{ByteStream, Dialer, Login};
use super::resp::{Incoming, RedisReply, Unread, write_command};

/// The slowest transfer that the proxy waits for, in bytes a second.
const SLOWEST: u32 = 2 << 20;

/// Every value may take this time, however short it is.
const TRANSFER: Duration = Duration::from_secs(1);

/// The bytes that may be on their way at once. Only further bytes take time to send.
const IN_FLIGHT: usize = 64 << 10;

/// Replies to commands, in their order.
pub(super) type Replies = SmallVec<[RedisReply; 4]>;

/// The bounds of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How long Redis may be silent.
    pub(super) silence: Duration,
    /// The length of the longest value that is read.
    pub(super) longest_value: usize,
}

/// A connection that is logged in.
pub(super) struct Connection {
    stream: Incoming<Watched>,
    bounds: Bounds,
    /// False while replies are outstanding.
    is_at_rest: bool,
    pub(super) was_used: bool,
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn open(dialer: &Dialer, bounds: Bounds) -> io::Result<Self> {
        let stream = Incoming::new(Watched::new(dialer.dial().await?));
        let mut connection = Self { stream, bounds, is_at_rest: true, was_used: false };
        connection.log_in(&dialer.login).await?;
        if let Some(sentinels) = dialer.sentinels() {
            connection.verify_master().await.inspect_err(|_| sentinels.disbelieve())?;
        }
        connection.was_used = false;
        Ok(connection)
    }

    async fn log_in(&mut self, login: &Login) -> io::Result<()> {
        let database = login.database.to_string();
        let user = login.user.iter().map(String::as_bytes);
        if let Some(password) = &login.password {
            let words: SmallVec<[&[u8]; 2]> = user.chain([password.as_bytes()]).collect();
            self.ask("AUTH", &words).await?;
        }
        if login.database != 0 {
            self.ask("SELECT", &[database.as_bytes()]).await?;
        }
        Ok(())
    }

    /// Checks that this is a master. A Sentinel may name one that is none any more, and a replica takes no writes.
    async fn verify_master(&mut self) -> io::Result<()> {
        let RedisReply::Values(values) = self.ask("INFO", &[b"replication"]).await? else { return Ok(()) };
        match values.iter().flatten().any(|text| text.windows(11).any(|part| part == b"role:master")) {
            true => Ok(()),
            false => Err(io::Error::other("the Sentinels name a Redis that is no master")),
        }
    }

    /// Sends one command. An error reply becomes an error.
    async fn ask(&mut self, name: &str, arguments: &[&[u8]]) -> io::Result<RedisReply> {
        let mut command = Vec::new();
        write_command(&mut command, name, arguments);
        let mut replies = Replies::new();
        self.exchange(&[&command], 1, &mut replies).await?;
        match replies.pop() {
            Some(RedisReply::Error(error)) => Err(io::Error::other(format!("{name}: {error}"))),
            Some(reply) => Ok(reply),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends commands, in pieces, and appends their replies. After an error, or if this is dropped before its end, the
    /// connection is not at rest and cannot be used again.
    pub(super) async fn exchange(
        &mut self,
        commands: &[&[u8]],
        count: usize,
        replies: &mut Replies,
    ) -> io::Result<()> {
        let Bounds { silence, longest_value } = self.bounds;
        self.is_at_rest = count == 0;
        let length: usize = commands.iter().map(|piece| piece.len()).sum();
        let sending = transfer(length.saturating_sub(IN_FLIGHT));
        self.watch().allow(silence, TRANSFER + sending);
        self.watch().write_pieces(commands).await?;
        self.watch().flush().await?;
        for _ in 0..count {
            self.watch().allow(silence + sending, TRANSFER.max(transfer(longest_value)));
            let reply = match self.stream.reply(longest_value).await {
                Err(_) if self.watch().is_too_slow => RedisReply::Unread(Unread::TooSlow),
                reply => reply?,
            };
            self.was_used = true;
            let is_last = matches!(reply, RedisReply::Unread(_));
            replies.push(reply);
            if is_last {
                return Err(io::Error::other("a value was not read"));
            }
        }
        self.is_at_rest = true;
        Ok(())
    }

    /// Whether the connection can take commands: no replies are outstanding, and Redis has not closed it. Costs no system
    /// call while it is open.
    pub(super) fn is_usable(&mut self) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        // Redis never speaks first, so bytes that can be read mean that it has closed the connection.
        let is_silent = self.stream.is_read();
        self.is_at_rest
            && is_silent
            && Pin::new(&mut self.watch().stream).poll_read(&mut cx, &mut byte).is_pending()
    }

    /// Whether it broke, or was left in the middle of an exchange.
    pub(super) fn is_broken(&self) -> bool {
        !self.is_at_rest
    }

    fn watch(&mut self) -> &mut Watched {
        self.stream.get_mut()
    }
}

/// How long the transfer of so many bytes may take.
fn transfer(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64) / SLOWEST
}

/// A stream that fails if no byte moves on it for too long.
struct Watched {
    stream: Box<dyn ByteStream>,
    alarm: Alarm,
    silence: Duration,
    /// The time at which silence becomes an error. Each byte moves it, up to `end`.
    until: Instant,
    end: Instant,
    /// Whether bytes were still moving at the end.
    is_too_slow: bool,
}

impl Watched {
    fn new(stream: Box<dyn ByteStream>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            alarm: Alarm::default(),
            silence: Duration::ZERO,
            until: now,
            end: now,
            is_too_slow: false,
        }
    }

    /// Allows so much silence, and so much time for moving bytes, from now on.
    fn allow(&mut self, silence: Duration, transfer: Duration) {
        let now = Instant::now();
        (self.silence, self.until, self.end) = (silence, now + silence, now + silence + transfer);
    }

    /// Writes all pieces, as many at once as the stream takes.
    async fn write_pieces(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        // Most batches have no large value, and need no list of pieces.
        if let [piece] = pieces {
            return self.write_all(piece).await;
        }
        let filled = pieces.iter().filter(|piece| !piece.is_empty());
        let mut unsent: SmallVec<[IoSlice<'_>; 8]> = filled.map(|piece| IoSlice::new(piece)).collect();
        let mut unsent = &mut unsent[..];
        while !unsent.is_empty() {
            match self.write_vectored(unsent).await? {
                0 => return Err(ErrorKind::WriteZero.into()),
                count => IoSlice::advance_slices(&mut unsent, count),
            }
        }
        Ok(())
    }

    /// Judges the outcome of an attempt to move bytes.
    fn watch<T>(&mut self, moved: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.until = self.end.min(Instant::now() + self.silence);
            return moved;
        }
        std::task::ready!(self.alarm.poll(cx, self.until));
        self.is_too_slow = self.until == self.end;
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.watch(read, cx)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn pieces_are_written_in_their_order_to_a_stream_that_takes_a_few_bytes_at_a_time() {
        let pieces = [&b"SETEX a 60 "[..], &[b'x'; 1000], b"", b"\r\n", b"GET b\r\n"];
        let (ours, mut theirs) = duplex(7);
        let mut stream = Watched::new(Box::new(ours));
        stream.allow(Duration::from_secs(5), TRANSFER);
        let mut read = vec![0; pieces.concat().len()];
        let (written, _) = tokio::join!(stream.write_pieces(&pieces), theirs.read_exact(&mut read));
        written.unwrap();
        assert_eq!(read, pieces.concat());
        drop(theirs);
        assert!(stream.write_pieces(&pieces).await.is_err());
    }
}
