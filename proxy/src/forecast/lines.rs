//! The lines of a log: a file, compressed or not, or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// Longer lines are read to their end and dropped: no request is as long.
const LONGEST: u64 = 1 << 20;

/// How much is read at once.
const BUFFER: usize = 1 << 17;

/// The lines of a log, one after the other.
pub(super) struct LogLines {
    bytes: Box<dyn BufRead>,
    line: Vec<u8>,
}

impl LogLines {
    /// Opens a file, or standard input for `-`. gzip is known by its first bytes.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let input: Box<dyn Read> =
            if name == "-" { Box::new(io::stdin()) } else { Box::new(File::open(name)?) };
        Self::of(input)
    }

    fn of(input: Box<dyn Read>) -> io::Result<Self> {
        let mut plain = BufReader::with_capacity(BUFFER, input);
        let bytes: Box<dyn BufRead> = match plain.fill_buf()?.starts_with(b"\x1f\x8b") {
            true => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(plain))),
            false => Box::new(plain),
        };
        Ok(Self { bytes, line: Vec::new() })
    }

    /// The next line, without its end; empty where a line is too long or is no text. `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<&str>> {
        self.line.clear();
        if self.bytes.by_ref().take(LONGEST).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if !self.line.ends_with(b"\n") && self.line.len() as u64 == LONGEST {
            self.bytes.skip_until(b'\n')?;
            self.line.clear();
        }
        Ok(Some(std::str::from_utf8(self.line.trim_ascii_end()).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn lines(bytes: Vec<u8>) -> Vec<String> {
        let mut source = LogLines::of(Box::new(Cursor::new(bytes))).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = source.next().unwrap() {
            lines.push(line.to_owned());
        }
        lines
    }

    #[test]
    fn lines_are_read_plain_and_from_gzip_of_several_members() {
        let gzip = |text: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(lines(b"a\r\nb\n\nc".to_vec()), ["a", "b", "", "c"]);
        assert_eq!(lines([gzip(b"a\nb"), gzip(b"c\n")].concat()), ["a", "bc"]);
        assert!(lines(Vec::new()).is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_empty_and_the_next_is_read() {
        let long = [vec![b'x'; LONGEST as usize * 2], b"\nb\n\xff\nc".to_vec()].concat();
        assert_eq!(lines(long), ["", "b", "", "c"]);
    }
}
