//! PostgreSQL's text format of COPY: a line a row, tabs between the values, backslashes before what would divide.

use std::fmt::{self, Write as _};

use bytes::{BufMut as _, BytesMut};

use crate::row::Row;

/// Appends one row to `out`.
pub fn write_row<R: Row>(row: &R, out: &mut BytesMut) {
    row.write(&mut Line { out, started: false });
    out.put_u8(b'\n');
}

/// A line under way.
#[derive(Debug)]
pub struct Line<'a> {
    out: &'a mut BytesMut,
    started: bool,
}

impl Line<'_> {
    /// Adds a text, escaped.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.divide();
        text.bytes().for_each(|byte| escape(byte, self.out));
        self
    }

    /// Adds a whole number.
    pub fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.value(format_args!("{}", number.into()))
    }

    /// Adds what is known to hold nothing to escape: digits, points, a time.
    pub fn value(&mut self, value: fmt::Arguments<'_>) -> &mut Self {
        self.divide();
        // A buffer that grows takes whatever is written.
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

/// Every byte of a longer UTF-8 sequence is above the ones that mean something here.
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
    fn values_are_divided_by_tabs() {
        assert_eq!(
            line(|line| _ = line.number(7u64).text("a").text("").value(format_args!("{}.{:02}", 12, 5))),
            "7\ta\t\t12.05"
        );
    }

    #[test]
    fn what_would_divide_is_escaped() {
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
