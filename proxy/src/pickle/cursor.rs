//! Reads the input of the machine from front to back. No length in it is trusted: the announced bytes must exist.

/// A range of the input, or of another buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The range from `start` to `end` of a buffer no longer than `MAX_VALUE`.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(super) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

pub(super) struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.input.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Reads a little-endian number of `N` bytes.
    pub(super) fn number<const N: usize>(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.bytes(N)?);
        Some(u64::from_le_bytes(bytes))
    }

    /// Reads a length of `N` bytes, then as many bytes as it says.
    pub(super) fn counted<const N: usize>(&mut self) -> Option<Span> {
        let length = usize::try_from(self.number::<N>()?).ok()?;
        let start = self.at;
        self.bytes(length)?;
        Some(Span::new(start, self.at))
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.input.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// Reads up to the next line feed, and skips the line feed.
    pub(super) fn line(&mut self) -> Option<Span> {
        let start = self.at;
        let length = self.input[start..].iter().position(|byte| *byte == b'\n')?;
        self.at = start + length + 1;
        Some(Span::new(start, start + length))
    }

    pub(super) fn len(&self) -> usize {
        self.input.len()
    }

    pub(super) fn remaining(&self) -> usize {
        self.input.len() - self.at
    }

    pub(super) fn get(&self, span: Span) -> &'a [u8] {
        &self.input[span.range()]
    }
}
