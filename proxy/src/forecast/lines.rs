//! The lines of a log: a file, compressed or not, or standard input. A thread reads and decompresses ahead.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::bufread::MultiGzDecoder;

/// The longest line. A longer one is read to its end and dropped: no request is so long.
const LONGEST: u64 = 1 << 20;

/// The bytes of one read.
const BUFFER: usize = 1 << 17;

/// The number of pieces that are read ahead.
const AHEAD: usize = 8;

/// Bytes that a thread reads ahead.
struct ReadAhead {
    /// The last piece is empty, or a fault; after it this is `None`.
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    piece: Vec<u8>,
    /// How many bytes of the piece were used.
    taken: usize,
}

/// The lines of a log, one after the other.
pub(super) struct LogLines {
    bytes: ReadAhead,
    line: Vec<u8>,
}

impl LogLines {
    /// Opens a file, or standard input for `-`. A gzip file is recognised by its first bytes.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        if name == "-" { Self::of(io::stdin()) } else { Self::of(File::open(name)?) }
    }

    fn of(input: impl Read + Send + 'static) -> io::Result<Self> {
        let mut plain = BufReader::with_capacity(BUFFER, input);
        let bytes = match plain.fill_buf()?.starts_with(b"\x1f\x8b") {
            true => ReadAhead::start(MultiGzDecoder::new(plain)),
            false => ReadAhead::start(plain),
        };
        Ok(Self { bytes: bytes?, line: Vec::new() })
    }

    /// The next line, without its end; empty for a line that is too long or not text. `None` at the end.
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

impl ReadAhead {
    fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(AHEAD);
        thread::Builder::new().name("log".to_owned()).spawn(move || send_pieces(input, &sender))?;
        Ok(Self { pieces: Some(pieces), piece: Vec::new(), taken: 0 })
    }
}

/// Sends pieces as they are read, until the end, a fault, or until the receiver is gone.
fn send_pieces(mut input: impl Read, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(BUFFER);
        let read = input.by_ref().take(BUFFER as u64).read_to_end(&mut piece);
        let is_last = !matches!(read, Ok(length) if length > 0);
        if pieces.send(read.map(|_| piece)).is_err() || is_last {
            return;
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.piece.len()
            && let Some(pieces) = self.pieces.take()
        {
            let piece = pieces.recv().unwrap_or_else(|_| Err(io::Error::other("its reader has died")));
            (self.piece, self.taken) = (piece?, 0);
            self.pieces = (!self.piece.is_empty()).then_some(pieces);
        }
        Ok(&self.piece[self.taken..])
    }

    fn consume(&mut self, length: usize) {
        self.taken += length;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn lines(bytes: Vec<u8>) -> Vec<String> {
        let mut source = LogLines::of(Cursor::new(bytes)).unwrap();
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
