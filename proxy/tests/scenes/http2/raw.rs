//! A client that writes any frame, and reads those that come.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Names and values.
pub(super) type Fields<'a> = &'a [(&'a str, &'a str)];

pub(super) struct Raw(TlsStream<TcpStream>);

#[derive(Clone, Debug)]
pub(super) struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self { kind, flags, stream, payload: payload.to_vec() }
    }

    pub(super) fn get(stream: u32, path: &str) -> Self {
        Self::new(1, 5, stream, &block(&head("GET", path)))
    }

    /// Its body follows.
    pub(super) fn post(stream: u32, path: &str) -> Self {
        Self::new(1, 4, stream, &block(&head("POST", path)))
    }

    pub(super) fn reset(stream: u32) -> Self {
        Self::new(3, 0, stream, &8_u32.to_be_bytes())
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }
}

fn head<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "https"), (":authority", "localhost:8000"), (":path", path)]
}

/// A head, each line in full.
pub(super) fn block(fields: Fields<'_>) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// A line that enters no table.
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    line(0, name, value)
}

/// A line that enters the table.
pub(super) fn indexed(name: &str, value: &str) -> Vec<u8> {
    line(0x40, name, value)
}

fn line(kind: u8, name: &str, value: &str) -> Vec<u8> {
    let mut line = vec![kind];
    for text in [name, value] {
        let mut rest = text.len();
        // A number of seven bits, and what is beyond in further bytes.
        if rest < 127 {
            line.push(u8::try_from(rest).unwrap());
        } else {
            line.push(127);
            rest -= 127;
            while rest >= 128 {
                line.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            line.push(u8::try_from(rest).unwrap());
        }
        line.extend_from_slice(text.as_bytes());
    }
    line
}

impl Raw {
    pub(super) async fn begin(mut stream: TlsStream<TcpStream>) -> Self {
        stream.write_all(&[PREFACE, &Frame::new(4, 0, 0, b"").bytes()].concat()).await.unwrap();
        stream.flush().await.unwrap();
        Self(stream)
    }

    /// Writes a frame; whether the other side still takes any.
    pub(super) async fn write(&mut self, frame: &Frame) -> bool {
        let bytes = frame.bytes();
        let written = async { self.0.write_all(&bytes).await.is_ok() && self.0.flush().await.is_ok() };
        timeout(PATIENCE, written).await.is_ok_and(|is_written| is_written)
    }

    /// Whether the other side takes these bytes, soon.
    pub(super) async fn takes(&mut self, bytes: &[u8]) -> bool {
        let written = async { self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok() };
        timeout(Duration::from_millis(500), written).await.is_ok_and(|is_written| is_written)
    }

    pub(super) async fn headers(&mut self, stream: u32, fields: Fields<'_>, is_end: bool) {
        self.write(&Frame::new(1, if is_end { 5 } else { 4 }, stream, &block(fields))).await;
    }

    /// Whether a stream is reset or answered with a 4xx, or the connection ended.
    pub(super) async fn is_refused(&mut self, stream: u32) -> bool {
        while let Some(frame) = self.next().await {
            match frame.kind {
                1 if frame.stream == stream => return status(&frame.payload) == Some(b'4'),
                3 if frame.stream == stream => return true,
                7 => return true,
                _ => {}
            }
        }
        true
    }

    /// The body of the answer on a stream.
    pub(super) async fn body(&mut self, stream: u32) -> String {
        let mut body = Vec::new();
        loop {
            let frame = self.next().await.expect("the rest of the answer");
            if frame.stream == stream && frame.kind == 0 {
                body.extend_from_slice(&frame.payload);
            }
            if frame.stream == stream && frame.kind <= 1 && frame.flags & 1 == 1 {
                return String::from_utf8(body).unwrap();
            }
        }
    }

    /// The reason for which the connection is ended; `None` if it only closes.
    pub(super) async fn goaway(mut self) -> Option<u32> {
        let mut reason = None;
        while let Some(frame) = self.next().await {
            if frame.kind == 7 {
                reason = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        reason
    }

    async fn next(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read()).await.expect("a frame, or the end, in time").ok()
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}

/// The first digit of the status, which is the first line of a head: a number of the static table, or its text.
fn status(block: &[u8]) -> Option<u8> {
    match block {
        [0x88..=0x8a, ..] => Some(b'2'),
        [0x8b..=0x8d, ..] => Some(if block[0] == 0x8b { b'3' } else { b'4' }),
        [0x8e, ..] => Some(b'5'),
        // `:status` by its number, then a text, in Huffman's code or not: digits begin 00000 to 00011 there.
        [0x48 | 0x08, length, first, ..] if length & 0x80 == 0 => Some(*first),
        [0x48 | 0x08, _, first, ..] => Some(match first >> 2 {
            0x1a => b'4',
            0x1b => b'5',
            other => b'0' + (other >> 1),
        }),
        _ => None,
    }
}
