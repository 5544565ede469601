//! A line of the access log, in each of its formats.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use humantime::format_rfc3339_micros;
use serde::{Serialize, Serializer};

use crate::config::LogFormat;
use crate::status::CacheStatus;

/// The months by their places in a date.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The fields of a line. JSON has them in this order, and leaves out those that are not known.
#[derive(Debug, Serialize)]
pub(crate) struct LogLine<'a> {
    /// When the request began.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: SystemTime,
    pub(crate) client: IpAddr,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) method: LineText<'a>,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) scheme: LineText<'a>,
    /// The Host, as sent.
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) host: LineText<'a>,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) path: LineText<'a>,
    /// Without its `?`.
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) query: LineText<'a>,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) protocol: LineText<'a>,
    pub(crate) status: u16,
    /// Of the body.
    pub(crate) bytes: u64,
    pub(crate) duration_us: u64,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<i64>,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) rule: LineText<'a>,
    /// The one that was asked for this request.
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) origin: LineText<'a>,
    /// Until the head of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin_us: Option<u64>,
    /// For the look into the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store_us: Option<u64>,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) referer: LineText<'a>,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) user_agent: LineText<'a>,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) request_id: LineText<'a>,
    #[serde(skip_serializing_if = "LineText::is_unknown")]
    pub(crate) trace_id: LineText<'a>,
    /// Path and query, which JSON has apart.
    #[serde(skip)]
    pub(crate) target: LineText<'a>,
    /// The value of `Cache-Status`, which JSON has in parts.
    #[serde(skip)]
    pub(crate) cache_status: CacheStatus,
}

/// A text as a client sent it; empty if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LineText<'a>(pub(crate) &'a [u8]);

impl LineText<'_> {
    fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes it in double quotes, or a dash if there is none. Quotes, backslashes and all but printable ASCII are escaped, so
    /// that no client can end the field or the line.
    fn write_quoted(self, line: &mut Vec<u8>) {
        line.push(b'"');
        match self.0 {
            [] => line.push(b'-'),
            text => escape(text, line),
        }
        line.push(b'"');
    }
}

impl Serialize for LineText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_str(&String::from_utf8_lossy(self.0)),
        }
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_rfc3339_micros(*time))
}

impl LogLine<'_> {
    /// Adds the line, with its end.
    pub(crate) fn write(&self, format: LogFormat, lines: &mut Vec<u8>) {
        let start = lines.len();
        let written = match format {
            LogFormat::Combined => self.write_combined(lines),
            LogFormat::Json => serde_json::to_writer(&mut *lines, self).map_err(Into::into),
        };
        match written {
            Ok(()) => lines.push(b'\n'),
            // A buffer in memory takes everything.
            Err(_) => lines.truncate(start),
        }
    }

    fn write_combined(&self, line: &mut Vec<u8>) -> std::io::Result<()> {
        // 2026-11-27T01:02:03.000004Z
        let time = format_rfc3339_micros(self.time).to_string();
        let (year, month, day, clock) = (&time[..4], &time[5..7], &time[8..10], &time[11..19]);
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

    /// The request line, in double quotes; a dash if none was read.
    fn write_request(&self, line: &mut Vec<u8>) {
        if self.method.is_unknown() {
            return LineText::default().write_quoted(line);
        }
        line.push(b'"');
        escape(self.method.0, line);
        line.push(b' ');
        escape(self.target.0, line);
        line.push(b' ');
        escape(self.protocol.0, line);
        line.push(b'"');
    }
}

/// As Apache does.
fn escape(text: &[u8], line: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    let mut plain = text;
    while let Some(at) = plain.iter().position(|byte| !matches!(byte, b' '..=b'~') || b"\"\\".contains(byte))
    {
        let byte = plain[at];
        line.extend_from_slice(&plain[..at]);
        match byte {
            b'"' | b'\\' => line.extend([b'\\', byte]),
            _ => line.extend([b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
        plain = &plain[at + 1..];
    }
    line.extend_from_slice(plain);
}
