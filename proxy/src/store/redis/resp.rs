//! Redis' protocol, RESP2: commands in, replies out.
//!
//! The library's own reader copies each value, and has no limit for its length. This reader does not copy a value that has
//! come whole: the value is a slice of the memory that was read into, and keeps it. A value that is longer than any page is
//! not read.

use std::io::{Error, ErrorKind, Result};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::store::SHARED_MEMORY;

/// The size of the memory that replies are read into. A longer value gets memory of its own.
const BUFFER: usize = SHARED_MEMORY;

/// A shorter value is copied, since a slice would hold many times its own memory.
const SMALL: usize = BUFFER / 8;

/// The smallest room for a read.
const LEAST: usize = 4 << 10;

/// The longest line. Redis' longest lines are errors of scripts, with a few hundred bytes.
const LONGEST_LINE: usize = 16 << 10;

/// The longest array. An MGET of the proxy has two keys.
const LONGEST_ARRAY: usize = 64;

/// Values in the order of their keys; a key without a value has `None`.
pub(super) type FoundValues = SmallVec<[Option<Bytes>; 2]>;

/// The end of a line, and of an argument.
pub(super) const END: &[u8] = b"\r\n";

/// A reply to one command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RedisReply {
    /// A simple string, like `OK`.
    Status,
    Number(i64),
    Values(FoundValues),
    /// An error: a word in capitals and a text, in Redis' words.
    Error(String),
    /// A value that was not read. No more replies can be read from the stream.
    Unread(Unread),
}

/// Why a value has not been read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unread {
    /// The value of the key at this index has so many bytes.
    TooLong { index: usize, length: usize },
    /// It came too slowly.
    TooSlow,
}

/// Appends a command.
pub(super) fn write_command(output: &mut Vec<u8>, name: &str, arguments: &[&[u8]]) {
    write_words(output, name, arguments, 0);
}

/// Appends a command whose last argument is a value of this length. The value and [`END`] have to follow.
pub(super) fn begin_command(output: &mut Vec<u8>, name: &str, arguments: &[&[u8]], length: usize) {
    write_words(output, name, arguments, 1);
    write_length(output, b'$', length);
}

/// Appends the words of a command that has `more` further ones.
fn write_words(output: &mut Vec<u8>, name: &str, arguments: &[&[u8]], more: usize) {
    write_length(output, b'*', 1 + arguments.len() + more);
    for word in std::iter::once(name.as_bytes()).chain(arguments.iter().copied()) {
        write_length(output, b'$', word.len());
        output.extend_from_slice(word);
        output.extend_from_slice(END);
    }
}

fn write_length(output: &mut Vec<u8>, sign: u8, length: usize) {
    output.push(sign);
    output.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    output.extend_from_slice(END);
}

/// Replies on their way from Redis.
#[derive(Debug)]
pub(super) struct Incoming<R> {
    input: R,
    /// Bytes that have come and were not used yet.
    unread: BytesMut,
}

impl<R> Incoming<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, unread: BytesMut::new() }
    }

    pub(super) fn get_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// Whether all bytes that have come were used.
    pub(super) fn is_read(&self) -> bool {
        self.unread.is_empty()
    }
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Reads the reply to one command. `limit` is the length of the longest value that is read.
    pub(super) async fn reply(&mut self, limit: usize) -> Result<RedisReply> {
        let line = self.line().await?;
        let (sign, rest) = line.split_first().ok_or_else(|| malformed("an empty line"))?;
        match sign {
            b'+' => Ok(RedisReply::Status),
            b'-' => Ok(RedisReply::Error(String::from_utf8_lossy(rest).into_owned())),
            b':' => Ok(RedisReply::Number(parse(rest)?)),
            b'$' => Ok(match self.value(parse(rest)?, limit).await? {
                Ok(value) => RedisReply::Values(SmallVec::from_iter([value])),
                Err(length) => RedisReply::Unread(Unread::TooLong { index: 0, length }),
            }),
            b'*' => self.array(parse(rest)?, limit).await,
            _ => Err(malformed("an unknown type")),
        }
    }

    async fn array(&mut self, length: i64, limit: usize) -> Result<RedisReply> {
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_ARRAY);
        let length = length.ok_or_else(|| malformed("a list of an unexpected length"))?;
        let mut values = FoundValues::new();
        for _ in 0..length {
            let line = self.line().await?;
            let [b'$', rest @ ..] = &line[..] else {
                return Err(malformed("a list with items that are no values"));
            };
            match self.value(parse(rest)?, limit).await? {
                Ok(value) => values.push(value),
                Err(length) => {
                    return Ok(RedisReply::Unread(Unread::TooLong { index: values.len(), length }));
                }
            }
        }
        Ok(RedisReply::Values(values))
    }

    /// Reads a value of this length. `Err` has the length of a value that is too long.
    async fn value(
        &mut self,
        length: i64,
        limit: usize,
    ) -> Result<std::result::Result<Option<Bytes>, usize>> {
        // Redis says -1 for a key without a value.
        let Ok(length) = usize::try_from(length) else { return Ok(Ok(None)) };
        if length > limit {
            return Ok(Err(length));
        }
        while self.unread.len() < length && self.unread.capacity() >= length {
            self.read_on().await?;
        }
        let value = match self.unread.len() >= length {
            true if length < SMALL => Bytes::copy_from_slice(&self.unread.split_to(length)),
            true => self.unread.split_to(length).freeze(),
            false => self.value_apart(length).await?,
        };
        match &self.line().await?[..] {
            [] => Ok(Ok(Some(value))),
            _ => Err(malformed("a value without an end")),
        }
    }

    /// Reads a value into memory of its own, if the buffer has no room for it.
    async fn value_apart(&mut self, length: usize) -> Result<Bytes> {
        let mut value = BytesMut::with_capacity(length);
        value.extend_from_slice(&self.unread.split());
        while value.len() < length {
            // The bound keeps the bytes behind the value out of its memory.
            let missing = length - value.len();
            if self.input.read_buf(&mut (&mut value).limit(missing)).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(value.freeze())
    }

    /// Reads a line, without its end.
    async fn line(&mut self) -> Result<SmallVec<[u8; 64]>> {
        let mut seen = 0;
        let end = loop {
            if let Some(at) = self.unread[seen..].iter().position(|&byte| byte == b'\n') {
                break seen + at;
            }
            seen = self.unread.len();
            if seen > LONGEST_LINE {
                return Err(malformed("a line without an end"));
            }
            self.read_more().await?;
        };
        let line = self.unread[..end].strip_suffix(b"\r").map(SmallVec::from_slice);
        self.unread.advance(end + 1);
        line.ok_or_else(|| malformed("a line that does not end with CRLF"))
    }

    /// Reads more bytes. Memory that values are slices of is left to them.
    async fn read_more(&mut self) -> Result<()> {
        // If no value is a slice of the memory any more, it is used again from its beginning: there it is still in the
        // processor's cache, and the next value fits.
        let is_whole = self.unread.is_empty() && self.unread.try_reclaim(BUFFER);
        if !is_whole && self.unread.capacity() - self.unread.len() < LEAST {
            // If no byte is left in the buffer, its memory is used again, or replaced by memory of the same size. With bytes
            // in it, it would grow.
            let begun = (!self.unread.is_empty()).then(|| self.unread.split());
            self.unread.reserve(BUFFER);
            self.unread.extend_from_slice(&begun.unwrap_or_default());
        }
        self.read_on().await
    }

    /// Reads more bytes into the present memory.
    async fn read_on(&mut self) -> Result<()> {
        match self.input.read_buf(&mut self.unread).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn parse(digits: &[u8]) -> Result<i64> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| malformed("a number that is none"))
}

fn malformed(fault: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("no reply of a Redis: {fault}"))
}

/// The replies in these bytes, which arrive in pieces of this size. The last one may be an error. For fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn replies_in(bytes: &[u8], piece: usize, limit: usize) -> Vec<String> {
    let mut input = Incoming::new(Pieces { bytes, piece });
    let mut replies = Vec::new();
    loop {
        let reply = std::pin::pin!(input.reply(limit));
        let polled = reply.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        let std::task::Poll::Ready(reply) = polled else { unreachable!("the bytes are all there") };
        let is_last = !matches!(&reply, Ok(reply) if !matches!(reply, RedisReply::Unread(_)));
        if let Ok(RedisReply::Values(values)) = &reply {
            assert!(values.iter().flatten().all(|value| value.len() <= limit));
        }
        replies.push(format!("{reply:?}"));
        if is_last {
            return replies;
        }
    }
}

/// Bytes that come in pieces.
#[cfg(any(test, fuzzing))]
struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

#[cfg(any(test, fuzzing))]
impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<Result<()>> {
        let count = self.piece.min(self.bytes.len()).min(buffer.remaining());
        let (piece, rest) = self.bytes.split_at(count);
        buffer.put_slice(piece);
        self.bytes = rest;
        std::task::Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(input: &[u8]) -> Result<RedisReply> {
        Incoming::new(input).reply(10).await
    }

    fn values(values: &[Option<&'static str>]) -> RedisReply {
        RedisReply::Values(values.iter().map(|value| value.map(Bytes::from)).collect())
    }

    #[tokio::test]
    async fn each_kind_of_reply_is_read() {
        for (input, reply) in [
            ("+OK\r\n", RedisReply::Status),
            (":-2\r\n", RedisReply::Number(-2)),
            ("-OOM not allowed\r\n", RedisReply::Error("OOM not allowed".to_owned())),
            ("$-1\r\n", values(&[None])),
            ("$0\r\n\r\n", values(&[Some("")])),
            ("$5\r\nfi\r\nv\r\n", values(&[Some("fi\r\nv")])),
            ("*2\r\n$1\r\na\r\n$-1\r\n", values(&[Some("a"), None])),
            ("*0\r\n", values(&[])),
            ("$11\r\n", RedisReply::Unread(Unread::TooLong { index: 0, length: 11 })),
            (
                "*2\r\n$1\r\na\r\n$99999999999\r\n",
                RedisReply::Unread(Unread::TooLong { index: 1, length: 99_999_999_999 }),
            ),
        ] {
            assert_eq!(read(input.as_bytes()).await.unwrap(), reply, "{input}");
        }
    }

    #[tokio::test]
    async fn what_no_redis_says_is_an_error() {
        for input in [
            "",
            "+OK",
            "\r\n",
            "+OK\n",
            "$x\r\n",
            "$2\r\nabc\r\n",
            "$2\r\na",
            "*-1\r\n",
            "*999999\r\n",
            "%1\r\n",
            "*1\r\n:1\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
            ":99999999999999999999\r\n",
        ] {
            assert!(read(input.as_bytes()).await.is_err(), "{input}");
        }
        assert!(read(&[b'+'].repeat(LONGEST_LINE + 2)).await.is_err());
    }

    #[tokio::test]
    async fn replies_are_read_one_after_the_other_whatever_the_pieces() {
        let input = b"$5\r\nvalue\r\n*2\r\n$-1\r\n$3\r\nabc\r\n:7\r\n";
        for piece in 1..input.len() {
            let mut input = Incoming::new(Pieces { bytes: input, piece });
            for reply in [values(&[Some("value")]), values(&[None, Some("abc")]), RedisReply::Number(7)] {
                assert_eq!(input.reply(10).await.unwrap(), reply, "{piece}");
            }
        }
    }

    #[tokio::test]
    async fn values_that_come_together_share_their_memory_and_a_long_one_has_its_own() {
        let value = |length: usize| format!("${length}\r\n{}\r\n", "x".repeat(length));
        let replies = [value(10_000), value(20_000), value(BUFFER + 1), value(7)].concat();
        let mut input = Incoming::new(Pieces { bytes: replies.as_bytes(), piece: usize::MAX });
        let mut read = Vec::new();
        for length in [10_000, 20_000, BUFFER + 1, 7] {
            let RedisReply::Values(values) = input.reply(1 << 20).await.unwrap() else { panic!() };
            assert_eq!(values[0].as_deref(), Some("x".repeat(length).as_bytes()));
            read.extend(values);
        }
        assert!(input.unread.capacity() <= BUFFER);
        let at = |index: usize| read[index].as_ref().unwrap().as_ptr().addr();
        assert_eq!(at(1) - at(0), 10_000 + "\r\n$20000\r\n".len());
        assert!(!(at(0)..at(0) + BUFFER).contains(&at(2)));
        assert!(!(at(0)..at(0) + BUFFER).contains(&at(3)), "a short one is copied");
        assert!(input.is_read());
    }

    #[test]
    fn a_command_is_written_with_the_lengths_of_its_words() {
        let mut output = Vec::new();
        write_command(&mut output, "GET", &[b"a\r\nb"]);
        assert_eq!(output, b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
    }
}
