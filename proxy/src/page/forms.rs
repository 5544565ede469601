//! The forms of a page: as the origin sent it (identity), and compressed for clients that accept a coding.

use std::io::{Result, Write as _};
use std::ops::Range;

use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue,
};

use crate::policy::vary_on_coding;
use crate::request::{Coding, receive};

/// The form in which a page is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Identity,
    Coded(Coding),
}

/// The coded forms of a page, with their bytes one behind the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Forms {
    lengths: Vec<(Coding, usize)>,
    bytes: Bytes,
}

impl Forms {
    /// Compresses a page. Leaves out a form that is no smaller than the page, and a form that would make page and forms longer
    /// than `limit`.
    pub(crate) fn of(body: &[u8], codings: &[Coding], limit: u64) -> Self {
        let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
        for &coding in codings {
            let Ok(form) = compress(coding, body) else { continue };
            if form.len() < body.len() && (body.len() + bytes.len() + form.len()) as u64 <= limit {
                lengths.push((coding, form.len()));
                bytes.extend_from_slice(&form);
            }
        }
        Self { lengths, bytes: bytes.into() }
    }

    /// Forms of these lengths, without their bytes.
    pub(crate) fn of_lengths(lengths: impl Iterator<Item = (Coding, usize)>) -> Self {
        Self { lengths: lengths.collect(), bytes: Bytes::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The bytes of all forms.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same forms in other bytes.
    pub(crate) fn in_bytes(self, bytes: Bytes) -> Self {
        Self { bytes, ..self }
    }

    /// Each coding, and where its form lies in the bytes.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Coding, Range<usize>)> {
        self.lengths.iter().scan(0, |start, &(coding, length)| {
            let range = *start..*start + length;
            *start = range.end;
            Some((coding, range))
        })
    }

    /// The codings and lengths: `zstd=2345 br=2301`.
    pub(crate) fn text(&self) -> String {
        let words = self.lengths.iter().map(|(coding, length)| format!("{}={length}", coding.name()));
        words.collect::<Vec<_>>().join(" ")
    }

    /// The forms that a text describes, without their bytes.
    pub(crate) fn of_text(text: &[u8]) -> Option<Self> {
        let form = |word: &str| {
            let (coding, length) = word.split_once('=')?;
            Some((Coding::named(coding)?, length.parse().ok()?))
        };
        let lengths: Vec<_> = std::str::from_utf8(text).ok()?.split(' ').map(form).collect::<Option<_>>()?;
        Some(Self::of_lengths(lengths.into_iter()))
    }

    /// Takes the bytes of the forms from the end of a page's content. The content is then identity alone.
    pub(crate) fn take_from(self, content: &mut Bytes) -> Option<Self> {
        let mut lengths = self.lengths.iter();
        let length = lengths.try_fold(0_usize, |sum, (_, length)| sum.checked_add(*length))?;
        let identity = content.len().checked_sub(length)?;
        Some(self.in_bytes(content.split_off(identity)))
    }

    /// Text, line end and bytes in one value. `None` if there are no forms.
    pub(crate) fn packed(&self) -> Option<Bytes> {
        (!self.is_empty()).then(|| [self.text().as_bytes(), b"\n", &self.bytes].concat().into())
    }

    /// Reads what [`packed`](Self::packed) has written.
    pub(crate) fn unpacked(mut packed: Bytes) -> Option<Self> {
        let end = packed.iter().position(|&byte| byte == b'\n')?;
        let mut bytes = packed.split_off(end + 1);
        let forms = Self::of_text(&packed[..end])?.take_from(&mut bytes)?;
        bytes.is_empty().then_some(forms)
    }
}

/// The levels. Above them compression takes several times as long, and gains little.
const ZSTD_LEVEL: i32 = 9;
const GZIP_LEVEL: u32 = 6;
const BROTLI_QUALITY: i32 = 5;

/// The window of a Brotli decoder: 4 MiB, larger than almost every page.
const BROTLI_WINDOW: i32 = 22;

fn compress(coding: Coding, body: &[u8]) -> Result<Vec<u8>> {
    match coding {
        Coding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
        Coding::Br => {
            let (quality, lgwin, size_hint) = (BROTLI_QUALITY, BROTLI_WINDOW, body.len());
            let settings = BrotliEncoderParams { quality, lgwin, size_hint, ..Default::default() };
            let mut form = Vec::new();
            brotli::BrotliCompress(&mut &*body, &mut form, &settings)?;
            Ok(form)
        }
        Coding::Gzip => {
            let mut writer = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
            writer.write_all(body)?;
            writer.finish()
        }
    }
}

/// Changes the headers of a page to those of one of its forms, which has this length.
pub(crate) fn describe(headers: &mut HeaderMap, form: Form, length: usize) {
    /// These headers are about the exact bytes of identity. Ranges are ranges of identity, too.
    const OF_IDENTITY: [HeaderName; 5] = [
        ACCEPT_RANGES,
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("repr-digest"),
    ];
    vary_on_coding(headers);
    let Form::Coded(coding) = form else { return };
    receive::retain(headers, |name| !OF_IDENTITY.contains(name));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.insert(CONTENT_LENGTH, length.into());
    weaken_etag(headers);
}

/// A strong tag names the bytes of one form, and a weak one the page (RFC 9110 §8.8.1).
fn weaken_etag(headers: &mut HeaderMap) {
    if let Some(strong) = headers.get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", strong.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use sha2::{Digest as _, Sha256};

    use super::*;

    /// The bytes that a client decodes.
    fn decoded(coding: Coding, form: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        match coding {
            Coding::Zstd => {
                ruzstd::decoding::StreamingDecoder::new(form).unwrap().read_to_end(&mut body).unwrap()
            }
            Coding::Br => brotli::Decompressor::new(form, 4096).read_to_end(&mut body).unwrap(),
            Coding::Gzip => flate2::read::GzDecoder::new(form).read_to_end(&mut body).unwrap(),
        };
        body
    }

    fn text() -> String {
        (0..400).map(|line| format!("<p>line {line}</p>\n")).collect()
    }

    #[test]
    fn each_form_is_the_page_compressed() {
        let text = text();
        let forms = Forms::of(text.as_bytes(), &Coding::ALL, 1 << 20);
        assert_eq!(forms.ranges().map(|(coding, _)| coding).collect::<Vec<_>>(), Coding::ALL);
        for (coding, range) in forms.ranges() {
            assert!(range.len() < text.len() / 2, "{coding:?}: {} of {} bytes", range.len(), text.len());
            assert_eq!(decoded(coding, &forms.bytes()[range]), text.as_bytes(), "{coding:?}");
        }
    }

    #[test]
    fn a_form_is_smaller_than_the_page_and_fits_with_it_into_the_limit() {
        // Digests look random, so they do not compress.
        let noise: Vec<u8> = (0..100_u8).flat_map(|number| Sha256::digest([number])).collect();
        assert!(Forms::of(&noise, &[Coding::Gzip], 1 << 20).is_empty());
        let text = text();
        let one = Forms::of(text.as_bytes(), &[Coding::Gzip], 1 << 20).bytes().len();
        let limit = (text.len() + one) as u64;
        let fitting = |limit| {
            let forms = Forms::of(text.as_bytes(), &[Coding::Gzip, Coding::Gzip], limit);
            forms.ranges().count()
        };
        assert_eq!([limit - 1, limit, limit + one as u64].map(fitting), [0, 1, 2]);
    }

    #[test]
    fn forms_read_back_and_broken_ones_are_refused() {
        let forms = Forms::of(text().as_bytes(), &[Coding::Br, Coding::Gzip], 1 << 20);
        let packed = forms.packed().unwrap();
        assert_eq!(Forms::unpacked(packed.clone()), Some(forms));
        assert_eq!(Forms::default().packed(), None);
        for end in 0..packed.len() {
            assert_eq!(Forms::unpacked(packed.slice(..end)), None, "{end}");
        }
        assert_eq!(Forms::unpacked([&packed[..], b"x"].concat().into()), None);
        for text in ["", "br", "br=", "br=-1", "deflate=1", "br=1 ", "br=18446744073709551615 gzip=2"] {
            let broken = Bytes::from(format!("{text}\nabc"));
            assert_eq!(Forms::unpacked(broken), None, "{text}");
        }
    }

    #[test]
    fn the_headers_of_a_form_are_about_the_form() {
        let page = [
            ("content-length", "2000"),
            ("etag", "\"a\""),
            ("accept-ranges", "bytes"),
            ("repr-digest", "sha-256=:x:"),
            ("vary", "Accept"),
            ("x-last", "1"),
        ];
        let sent = |form, length| {
            let line =
                |&(name, value): &(&'static str, &str)| (name.parse().unwrap(), value.parse().unwrap());
            let mut headers: HeaderMap = page.iter().map(line).collect();
            describe(&mut headers, form, length);
            let lines = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
            lines.collect::<Vec<_>>()
        };
        let mut expected: Vec<_> = page.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        expected.insert(5, "vary: Accept-Encoding".to_owned());
        assert_eq!(sent(Form::Identity, 2000), expected);
        let expected = [
            "content-length: 300",
            "etag: W/\"a\"",
            "vary: Accept",
            "vary: Accept-Encoding",
            "x-last: 1",
            "content-encoding: br",
        ];
        assert_eq!(sent(Form::Coded(Coding::Br), 300), expected);
    }
}
