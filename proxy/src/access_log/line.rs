//! A line of the access log, in each of its formats.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::slice::SliceIndex;
use std::time::SystemTime;

use super::clock::Clock;
use super::json;
use crate::config::LogFormat;
use crate::status::CacheStatus;

/// The months by their places in a date.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The fields of a line.
#[derive(Debug)]
pub(crate) struct LogLine<'a> {
    /// When the request began.
    pub(crate) time: SystemTime,
    pub(crate) client: IpAddr,
    pub(crate) method: LineText<'a>,
    pub(crate) scheme: LineText<'a>,
    /// The Host, as the client sent it.
    pub(crate) host: LineText<'a>,
    pub(crate) path: LineText<'a>,
    /// The query, without the `?`.
    pub(crate) query: LineText<'a>,
    pub(crate) protocol: LineText<'a>,
    pub(crate) status: u16,
    /// The length of the body.
    pub(crate) bytes: u64,
    pub(crate) duration_us: u64,
    pub(crate) outcome: LineText<'a>,
    pub(crate) detail: LineText<'a>,
    pub(crate) ttl: Option<i64>,
    pub(crate) rule: LineText<'a>,
    /// The origin that was asked for this request.
    pub(crate) origin: LineText<'a>,
    /// The time until the head of its answer.
    pub(crate) origin_us: Option<u64>,
    /// The time for the look into the store.
    pub(crate) store_us: Option<u64>,
    pub(crate) referer: LineText<'a>,
    pub(crate) user_agent: LineText<'a>,
    pub(crate) request_id: LineText<'a>,
    pub(crate) trace_id: LineText<'a>,
    /// Path and query. JSON has them as two fields.
    pub(crate) target: LineText<'a>,
    /// The value of `Cache-Status`. JSON has its parts as fields.
    pub(crate) cache_status: CacheStatus,
}

/// A text as a client sent it; empty if there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LineText<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether it is known to need no escapes.
    pub(super) is_printable: bool,
}

impl<'a> LineText<'a> {
    pub(crate) const EMPTY: Self = Self { bytes: b"", is_printable: true };

    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, is_printable: is_printable(bytes) }
    }

    /// One of our own texts, without quotes and backslashes.
    pub(crate) const fn fixed(text: &'static str) -> Self {
        Self { bytes: text.as_bytes(), is_printable: true }
    }

    /// A part of the text.
    pub(crate) fn part(self, part: impl SliceIndex<[u8], Output = [u8]>) -> Self {
        Self { bytes: &self.bytes[part], ..self }
    }

    /// The part of a target or URL before its `?`, and the part after it.
    pub(crate) fn split_query(self) -> (Self, Self) {
        match self.bytes.iter().position(|&byte| byte == b'?') {
            Some(at) => (self.part(..at), self.part(at + 1..)),
            None => (self, Self::EMPTY),
        }
    }

    /// Writes the text in double quotes, or a dash if there is none.
    fn write_quoted(self, line: &mut Vec<u8>) {
        line.push(b'"');
        match self.bytes {
            [] => line.push(b'-'),
            _ => self.write(line),
        }
        line.push(b'"');
    }

    /// Writes the text as Apache does. Quotes, backslashes and everything but printable ASCII are escaped, so that no client
    /// can end the field or the line.
    fn write(self, line: &mut Vec<u8>) {
        const HEX: [u8; 16] = *b"0123456789ABCDEF";
        if self.is_printable {
            return line.extend_from_slice(self.bytes);
        }
        for &byte in self.bytes {
            match byte {
                _ if is_itself(byte) => line.push(byte),
                b'"' | b'\\' => line.extend([b'\\', byte]),
                _ => line.extend([b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
            }
        }
    }
}

impl LogLine<'_> {
    /// Adds the line, with its end.
    pub(super) fn write(&self, format: LogFormat, clock: &mut Clock, lines: &mut Vec<u8>) {
        let start = lines.len();
        let written = match format {
            LogFormat::Combined => self.write_combined(clock, lines),
            LogFormat::Json => json::write(self, clock, lines),
        };
        match written {
            Ok(()) => lines.push(b'\n'),
            // A buffer in memory takes everything.
            Err(_) => lines.truncate(start),
        }
    }

    fn write_combined(&self, clock: &mut Clock, line: &mut Vec<u8>) -> io::Result<()> {
        // 2026-11-27T01:02:03
        let (time, _) = clock.read(self.time);
        let (year, month, day, clock) = (&time[..4], &time[5..7], &time[8..10], &time[11..]);
        let month = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"Jan");
        write!(line, "{} - - [{day}/{month}/{year}:{clock} +0000] ", self.client)?;
        self.write_request(line);
        match self.bytes {
            0 => write!(line, " {} - ", self.status)?,
            bytes => write!(line, " {} {bytes} ", self.status)?,
        }
        for text in [self.referer, self.user_agent] {
            text.write_quoted(line);
            line.push(b' ');
        }
        write!(line, "\"{}\" {}", self.cache_status, self.duration_us)
    }

    /// Writes the request line in double quotes; a dash if no request was read.
    fn write_request(&self, line: &mut Vec<u8>) {
        if self.method.bytes.is_empty() {
            return LineText::EMPTY.write_quoted(line);
        }
        line.push(b'"');
        self.method.write(line);
        line.push(b' ');
        self.target.write(line);
        line.push(b' ');
        self.protocol.write(line);
        line.push(b'"');
    }
}

/// Whether a text needs no escapes: it is printable ASCII without quotes and backslashes. Looks at all bytes, since the
/// compiler can then compare many at once.
fn is_printable(text: &[u8]) -> bool {
    text.iter().fold(true, |is_printable, &byte| is_printable & is_itself(byte))
}

fn is_itself(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
}
