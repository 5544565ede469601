//! Redis' protocol, RESP2: commands in, replies out.
//!
//! The library's own reader copies each value and cannot be told how long a value may be. This one reads a value into
//! memory of exactly its size, and leaves a value alone that is longer than any page of ours.

use std::io::{Error, ErrorKind, Result};

use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// Redis' longest lines are errors of scripts, with a few hundred bytes.
const LONGEST_LINE: usize = 16 << 10;

/// An MGET of ours has two keys.
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
    /// An error: a word in capitals and a text, as Redis says it.
    Error(String),
    /// A value that has not been read. Nothing more can be read from the stream.
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

/// Appends the words of a command that has some more.
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

/// Reads the reply to one command. `limit` is the length of the longest value that is read.
pub(super) async fn read_reply<R: AsyncBufRead + Unpin>(input: &mut R, limit: usize) -> Result<RedisReply> {
    let line = read_line(input).await?;
    let (sign, rest) = line.split_first().ok_or_else(|| malformed("an empty line"))?;
    match sign {
        b'+' => Ok(RedisReply::Status),
        b'-' => Ok(RedisReply::Error(String::from_utf8_lossy(rest).into_owned())),
        b':' => Ok(RedisReply::Number(parse(rest)?)),
        b'$' => Ok(match read_value(input, parse(rest)?, limit).await? {
            Ok(value) => RedisReply::Values(SmallVec::from_iter([value])),
            Err(length) => RedisReply::Unread(Unread::TooLong { index: 0, length }),
        }),
        b'*' => read_array(input, parse(rest)?, limit).await,
        _ => Err(malformed("an unknown type")),
    }
}

async fn read_array<R: AsyncBufRead + Unpin>(input: &mut R, length: i64, limit: usize) -> Result<RedisReply> {
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_ARRAY);
    let length = length.ok_or_else(|| malformed("a list of a length that nobody asked for"))?;
    let mut values = FoundValues::new();
    for _ in 0..length {
        let line = read_line(input).await?;
        let [b'$', rest @ ..] = &line[..] else {
            return Err(malformed("a list of other things than values"));
        };
        match read_value(input, parse(rest)?, limit).await? {
            Ok(value) => values.push(value),
            Err(length) => {
                return Ok(RedisReply::Unread(Unread::TooLong { index: values.len(), length }));
            }
        }
    }
    Ok(RedisReply::Values(values))
}

/// Reads a value of this length; `Err` has the length of one that is too long.
async fn read_value<R: AsyncBufRead + Unpin>(
    input: &mut R,
    length: i64,
    limit: usize,
) -> Result<std::result::Result<Option<Bytes>, usize>> {
    // Redis says -1 for a key without a value.
    let Ok(length) = usize::try_from(length) else { return Ok(Ok(None)) };
    if length > limit {
        return Ok(Err(length));
    }
    let mut value = BytesMut::with_capacity(length);
    while value.len() < length {
        // The bound keeps the end of the value and the next reply out of its memory.
        let missing = length - value.len();
        if input.read_buf(&mut (&mut value).limit(missing)).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    match &read_line(input).await?[..] {
        [] => Ok(Ok(Some(value.freeze()))),
        _ => Err(malformed("a value without an end")),
    }
}

/// Reads a line, without its end.
async fn read_line<R: AsyncBufRead + Unpin>(input: &mut R) -> Result<SmallVec<[u8; 64]>> {
    let mut line = SmallVec::new();
    loop {
        let buffered = input.fill_buf().await?;
        if buffered.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let end = buffered.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffered.len(), |end| end + 1);
        line.extend_from_slice(&buffered[..taken]);
        input.consume(taken);
        if line.len() > LONGEST_LINE {
            return Err(malformed("a line without an end"));
        }
        if end.is_some() {
            if !line.ends_with(b"\r\n") {
                return Err(malformed("a line that ends otherwise"));
            }
            line.truncate(line.len() - 2);
            return Ok(line);
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

/// The replies in these bytes, which arrive in pieces of this size; the last may be an error. For fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn replies_in(bytes: &[u8], piece: usize, limit: usize) -> Vec<String> {
    let mut input = tokio::io::BufReader::with_capacity(piece, bytes);
    let mut replies = Vec::new();
    loop {
        let reply = std::pin::pin!(read_reply(&mut input, limit));
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

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn read(mut input: &[u8]) -> Result<RedisReply> {
        read_reply(&mut input, 10).await
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
            let mut input = BufReader::with_capacity(piece, &input[..]);
            for reply in [values(&[Some("value")]), values(&[None, Some("abc")]), RedisReply::Number(7)] {
                assert_eq!(read_reply(&mut input, 10).await.unwrap(), reply, "{piece}");
            }
        }
    }

    #[test]
    fn a_command_is_written_with_the_lengths_of_its_words() {
        let mut output = Vec::new();
        write_command(&mut output, "GET", &[b"a\r\nb"]);
        assert_eq!(output, b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
    }
}
