//! PostgreSQL's text format of COPY: a line for each row, tabs between the values, separators escaped by backslashes.

use std::fmt::{self, Write as _};

use bytes::{BufMut as _, BytesMut};

use crate::row::Row;

/// Appends one row to `out`.
pub fn write_row<R: Row>(row: &R, out: &mut BytesMut) {
    row.write(&mut Line { out, started: false });
    out.put_u8(b'\n');
}

/// A line that is being written.
#[derive(Debug)]
pub struct Line<'a> {
    out: &'a mut BytesMut,
    started: bool,
}

impl Line<'_> {
    /// Adds a text and escapes it.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.divide();
        text.bytes().for_each(|byte| escape(byte, self.out));
        self
    }

    /// Adds a whole number.
    pub fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.value(format_args!("{}", number.into()))
    }

    /// Adds a value that needs no escaping: digits, points, a time.
    pub fn value(&mut self, value: fmt::Arguments<'_>) -> &mut Self {
        self.divide();
        // Writing to a growing buffer does not fail.
        let _ = self.out.write_fmt(value);
        self
    }

    fn divide(&mut self) {
        if self.started {
            self.out.put_u8(b'\t');
        }
        self.started = true;
    }
}

/// Working byte by byte is safe: the bytes of a multi-byte UTF-8 sequence are never ASCII.
fn escape(byte: u8, out: &mut BytesMut) {
    match byte {
        b'\\' => out.put_slice(b"\\\\"),
        b'\n' => out.put_slice(b"\\n"),
        b'\r' => out.put_slice(b"\\r"),
        b'\t' => out.put_slice(b"\\t"),
        _ => out.put_u8(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fill: impl FnOnce(&mut Line<'_>)) -> String {
        let mut out = BytesMut::new();
        fill(&mut Line { out: &mut out, started: false });
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn values_are_separated_by_tabs() {
        assert_eq!(
            line(|line| _ = line.number(7u64).text("a").text("").value(format_args!("{}.{:02}", 12, 5))),
            "7\ta\t\t12.05"
        );
    }

    #[test]
    fn separators_are_escaped() {
        for (text, escaped) in [
            ("a\tb", r"a\tb"),
            ("a\nb", r"a\nb"),
            ("a\r\nb", r"a\r\nb"),
            (r"a\b", r"a\\b"),
            (r"\.", r"\\."),
            (r"\N", r"\\N"),
            ("Zürich, 東京", "Zürich, 東京"),
        ] {
            assert_eq!(line(|line| _ = line.text(text)), escaped);
        }
    }
}
