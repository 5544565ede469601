//! The compressors of django-redis.

use std::io::{ErrorKind, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use lzma_rust2::{XzOptions, XzReader, XzWriter};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// The compressor of a site: `OPTIONS["COMPRESSOR"]` of django-redis.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compressor {
    /// Plain pickles. Django's own backend has no compressors.
    #[default]
    None,
    /// `django_redis.compressors.zlib.ZlibCompressor`
    Zlib,
    /// `django_redis.compressors.gzip.GzipCompressor`
    Gzip,
    /// `django_redis.compressors.zstd.ZStdCompressor`
    Zstd,
    /// `django_redis.compressors.lz4.Lz4Compressor`
    Lz4,
    /// `django_redis.compressors.lzma.LzmaCompressor`: the xz format.
    Lzma,
}

/// The most memory that a value may request for its window: django-redis writes xz with 4 MiB, and zstd and xz use
/// 8 MiB at their higher levels.
const MAX_WINDOW: u64 = 8 << 20;

/// The memory that the xz decoder needs besides its window.
const XZ_STATE: u64 = 1 << 20;

/// The levels of `zlib.compress` in django-redis and of `gzip.compress` in Python, and the xz preset of django-redis.
const ZLIB_LEVEL: u32 = 6;
const GZIP_LEVEL: u32 = 9;
const XZ_PRESET: u32 = 4;

impl Compressor {
    /// Detects the compressor by the first bytes of a value. No pickle begins with any of these.
    fn of(value: &[u8]) -> Self {
        match value {
            [0x78, flags, ..] if (0x7800 | u16::from(*flags)).is_multiple_of(31) => Self::Zlib,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Lzma,
            _ => Self::None,
        }
    }

    /// Values up to this length are not compressed.
    fn min_length(self) -> usize {
        match self {
            Self::Lzma => 100,
            _ => 15,
        }
    }
}

/// Decompresses a value, whichever compressor wrote it: django-redis mixes compressed and plain values. `None` if the
/// value is broken or longer than `limit`. At most `limit` bytes are allocated for it, and `MAX_WINDOW` for its window.
pub fn decompress(value: &Bytes, limit: usize) -> Option<Bytes> {
    let input = value.as_ref();
    match Compressor::of(input) {
        Compressor::None => Some(value.clone()).filter(|value| value.len() <= limit),
        Compressor::Zlib => read_within(ZlibDecoder::new(input), limit),
        Compressor::Gzip => read_within(GzDecoder::new(input), limit),
        Compressor::Zstd => {
            read_within(StreamingDecoder::new_with_max_window_size(input, MAX_WINDOW).ok()?, limit)
        }
        Compressor::Lz4 => read_within(FrameDecoder::new(input.chain(Truncated)), limit),
        Compressor::Lzma => {
            let memory = ((MAX_WINDOW + XZ_STATE) >> 10) as u32;
            read_within(XzReader::new_mem_limit(input, false, memory), limit)
        }
    }
}

/// Fails at the end of the input, because the lz4 decoder would accept a truncated input as complete.
struct Truncated;

impl Read for Truncated {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(ErrorKind::InvalidData.into())
    }
}

/// Reads to the end; `None` if that is beyond `limit`. The buffer doubles, but never beyond the limit.
fn read_within(mut source: impl Read, limit: usize) -> Option<Bytes> {
    let mut output: Vec<u8> = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let length = source.read(&mut piece).ok()?;
        if length == 0 {
            return Some(Bytes::from(output));
        }
        let needed = output.len() + length;
        if needed > limit {
            return None;
        }
        if needed > output.capacity() {
            let capacity = needed.max(2 * output.capacity()).min(limit);
            output.reserve_exact(capacity - output.len());
        }
        output.extend_from_slice(&piece[..length]);
    }
}

/// Compresses a value as django-redis does, which leaves short values plain.
pub fn compress(compressor: Compressor, value: &Bytes) -> Bytes {
    if compressor == Compressor::None || value.len() <= compressor.min_length() {
        return value.clone();
    }
    // Writing to memory does not fail; if it did, Django reads plain values too.
    compressed(compressor, value).map_or_else(|_| value.clone(), Bytes::from)
}

fn compressed(compressor: Compressor, value: &Bytes) -> std::io::Result<Vec<u8>> {
    match compressor {
        Compressor::None => Ok(value.to_vec()),
        Compressor::Zlib => {
            let mut writer = ZlibEncoder::new(Vec::new(), Compression::new(ZLIB_LEVEL));
            writer.write_all(value)?;
            writer.finish()
        }
        Compressor::Gzip => {
            let mut writer = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
            writer.write_all(value)?;
            writer.finish()
        }
        Compressor::Zstd => Ok(compress_to_vec(value.as_ref(), CompressionLevel::Fastest)),
        Compressor::Lz4 => {
            let mut writer = FrameEncoder::new(Vec::new());
            writer.write_all(value)?;
            Ok(writer.finish()?)
        }
        Compressor::Lzma => {
            let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(XZ_PRESET))?;
            writer.write_all(value)?;
            writer.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compressor; 6] = [
        Compressor::None,
        Compressor::Zlib,
        Compressor::Gzip,
        Compressor::Zstd,
        Compressor::Lz4,
        Compressor::Lzma,
    ];

    /// A compressible text longer than lz4's window, noise that does not compress, and zeros.
    fn values() -> [Bytes; 3] {
        let text: String = (0..20_000).map(|line| format!("<p>line {line}</p>\n")).collect();
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        [Bytes::from(text), noise.take(300_000).collect(), Bytes::from_static(&[0; 101])]
    }

    #[test]
    fn every_value_is_restored_and_its_compressor_detected() {
        for (compressor, value) in
            ALL.into_iter().flat_map(|compressor| values().map(|value| (compressor, value)))
        {
            let compressed = compress(compressor, &value);
            assert_eq!(Compressor::of(&compressed), compressor);
            assert_eq!(decompress(&compressed, value.len()).as_ref(), Some(&value), "{compressor:?}");
            assert_eq!(decompress(&compressed, value.len() - 1), None, "{compressor:?}");
        }
    }

    #[test]
    fn short_values_stay_plain() {
        for compressor in ALL {
            let limit = if compressor == Compressor::Lzma { 100 } else { 15 };
            let value = Bytes::from(vec![0x80; limit + 1]);
            assert_eq!(compress(compressor, &value.slice(1..)), value.slice(1..), "{compressor:?}");
            assert_eq!(
                compress(compressor, &value) == value,
                compressor == Compressor::None,
                "{compressor:?}"
            );
        }
    }

    #[test]
    fn no_pickle_is_taken_for_compressed() {
        for value in [&b"\x80\x04]."[..], b"(lp0\n.", b"]q\x00.", b"cmodule\nname\n.", b"x", b"", b"x\x9d"] {
            let value = Bytes::from_static(value);
            assert_eq!(decompress(&value, 100), Some(value));
        }
    }

    #[test]
    fn a_window_beyond_the_bound_is_refused() {
        // A frame of one empty block, whose header sets the window size.
        let zstd = |exponent: u8| Bytes::from(vec![0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0]);
        assert_eq!(decompress(&zstd(23 - 10), 100), Some(Bytes::new()));
        assert_eq!(decompress(&zstd(24 - 10), 100), None);
        for (preset, expected) in [(6, true), (7, false)] {
            let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(preset)).unwrap();
            writer.write_all(&[0; 200]).unwrap();
            let value = Bytes::from(writer.finish().unwrap());
            assert_eq!(decompress(&value, 1000).is_some(), expected, "{preset}");
        }
    }

    #[test]
    fn broken_values_are_refused() {
        let value = &values()[0];
        for compressor in ALL.into_iter().skip(1) {
            let whole = compress(compressor, value);
            for end in [1, 7, whole.len() / 2, whole.len() - 1] {
                let part = whole.slice(..end);
                let is_plain = Compressor::of(&part) == Compressor::None;
                assert_eq!(decompress(&part, LIMIT).is_some(), is_plain, "{compressor:?} {end}");
            }
            let mut changed = whole.to_vec();
            changed[whole.len() / 2] ^= 0x55;
            assert_ne!(decompress(&Bytes::from(changed), LIMIT).as_ref(), Some(value), "{compressor:?}");
        }
    }

    const LIMIT: usize = 1 << 20;
}
