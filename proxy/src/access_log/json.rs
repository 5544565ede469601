//! A line as an object of JSON.

use std::io;

use serde::Serialize;

use super::clock::Clock;
use super::line::{LineText, LogLine};

/// Most lines are shorter.
const LENGTH: usize = 512;

/// An object that is being written. serde_json looks at each byte of a text. Here a text that is known to be printable is
/// copied as it is.
struct JsonObject<'a>(&'a mut Vec<u8>);

/// Adds a line without its end. It has its fields in this order, and leaves out those that are not known.
pub(super) fn write(line: &LogLine<'_>, clock: &mut Clock, lines: &mut Vec<u8>) -> io::Result<()> {
    lines.reserve(LENGTH);
    lines.extend_from_slice(br#"{"time":""#);
    push_time(clock.read(line.time), lines);
    lines.push(b'"');
    let mut object = JsonObject(lines);
    object.value("client", Some(line.client))?;
    object.text("method", line.method)?;
    object.text("scheme", line.scheme)?;
    object.text("host", line.host)?;
    object.text("path", line.path)?;
    object.text("query", line.query)?;
    object.text("protocol", line.protocol)?;
    object.value("status", Some(line.status))?;
    object.value("bytes", Some(line.bytes))?;
    object.value("duration_us", Some(line.duration_us))?;
    object.text("outcome", line.outcome)?;
    object.text("detail", line.detail)?;
    object.value("ttl", line.ttl)?;
    object.text("rule", line.rule)?;
    object.text("origin", line.origin)?;
    object.value("origin_us", line.origin_us)?;
    object.value("store_us", line.store_us)?;
    object.text("referer", line.referer)?;
    object.text("user_agent", line.user_agent)?;
    object.text("request_id", line.request_id)?;
    object.text("trace_id", line.trace_id)?;
    lines.push(b'}');
    Ok(())
}

/// As `2026-11-27T01:02:03.000004Z`.
fn push_time((seconds, micros): (&str, u32), line: &mut Vec<u8>) {
    line.extend_from_slice(seconds.as_bytes());
    line.push(b'.');
    line.extend([100_000, 10_000, 1000, 100, 10, 1].map(|unit| b'0' + (micros / unit % 10) as u8));
    line.push(b'Z');
}

impl JsonObject<'_> {
    #[inline]
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    #[inline]
    fn value(&mut self, name: &str, value: Option<impl Serialize>) -> io::Result<()> {
        let Some(value) = value else { return Ok(()) };
        self.name(name);
        Ok(serde_json::to_writer(&mut *self.0, &value)?)
    }

    // Inlining lets the compiler copy a name in one step: a line takes 250 ns instead of 440.
    #[inline]
    fn text(&mut self, name: &str, text: LineText<'_>) -> io::Result<()> {
        if text.bytes.is_empty() {
            return Ok(());
        }
        if !text.is_printable {
            return self.value(name, Some(String::from_utf8_lossy(text.bytes)));
        }
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(text.bytes);
        self.0.push(b'"');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn whatever_a_text_is_the_object_can_be_read() {
        for (text, said) in [
            (&b"plain"[..], Some("plain")),
            (b"", None),
            (b" ", Some(" ")),
            (b"a\"b\\c", Some("a\"b\\c")),
            (b"a\nb\tc\0", Some("a\nb\tc\0")),
            ("\u{e9}\u{2028}\u{1f600}".as_bytes(), Some("\u{e9}\u{2028}\u{1f600}")),
            (b"a\xffb", Some("a\u{fffd}b")),
            (b"\x7f", Some("\x7f")),
        ] {
            let mut line = b"{\"a\":1".to_vec();
            JsonObject(&mut line).text("text", LineText::new(text)).unwrap();
            line.push(b'}');
            let read: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(read["text"].as_str(), said, "{text:?}");
        }
    }
}
