//! Decides which pages are stored compressed, too: pages of a rule with `compress` that gain by it.

use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap};

use super::{CacheControl, Rule};
use crate::request::Coding;

/// Below this length the head is most of an answer, and both fit into one packet.
const SMALLEST: u64 = 1024;

/// The types that compress as well as text, besides `text/*`, `*+json` and `*+xml`.
const COMPRESSIBLE: [&[u8]; 9] = [
    b"application/javascript",
    b"application/json",
    b"application/wasm",
    b"application/x-javascript",
    b"application/x-ndjson",
    b"application/xml",
    b"font/otf",
    b"font/ttf",
    b"image/x-icon",
];

impl Rule {
    /// The codings in which a page with this head is stored, besides the form in which it came.
    pub(crate) fn codings_of(&self, status: StatusCode, headers: &HeaderMap) -> &[Coding] {
        match !self.compress.is_empty() && status == StatusCode::OK && is_compressible(headers) {
            true => &self.compress,
            false => &[],
        }
    }
}

fn is_compressible(headers: &HeaderMap) -> bool {
    let is_as_made = [CONTENT_ENCODING, CONTENT_RANGE].iter().all(|name| !headers.contains_key(name));
    is_as_made && is_of_use(headers) && is_of_type(headers) && !forbids(headers)
}

/// Whether the page is large enough, or its length is not known yet.
fn is_of_use(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.is_none_or(|length: u64| length >= SMALLEST)
}

fn is_of_type(headers: &HeaderMap) -> bool {
    let Some(line) = headers.get(CONTENT_TYPE) else { return false };
    let name = line.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
    let name = name.trim_ascii().to_ascii_lowercase();
    // A client reads events as they come, so they are not compressed.
    let is_text = name.starts_with(b"text/") && name != b"text/event-stream";
    is_text || name.ends_with(b"+json") || name.ends_with(b"+xml") || COMPRESSIBLE.contains(&&*name)
}

/// "The no-transform response directive indicates that an intermediary [...] MUST NOT transform the content" (RFC 9111
/// §5.2.2.6).
fn forbids(headers: &HeaderMap) -> bool {
    CacheControl::of(headers).has("no-transform")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_compressed_by_their_heads() {
        const TEXT: (&str, &str) = ("content-type", "text/html; charset=utf-8");
        let of_type = |name| [("content-type", name)];
        for (lines, expected) in [
            (&[TEXT][..], true),
            (&[TEXT, ("content-length", "1024")], true),
            (&[TEXT, ("content-length", "1023")], false),
            (&[TEXT, ("content-encoding", "gzip")], false),
            (&[TEXT, ("content-encoding", "identity")], false),
            (&[TEXT, ("content-range", "bytes 0-9/10")], false),
            (&[TEXT, ("cache-control", "public, No-Transform")], false),
            (&[TEXT, ("cache-control", "x=no-transform")], true),
            (&of_type("application/json"), true),
            (&of_type("Application/Problem+JSON ;q"), true),
            (&of_type("image/svg+xml"), true),
            (&of_type("image/png"), false),
            (&of_type("application/octet-stream"), false),
            (&of_type("text/event-stream"), false),
            (&[], false),
        ] {
            let headers: HeaderMap =
                lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            let rule = Rule { compress: vec![Coding::Br], ..Rule::new("/", 60).unwrap() };
            assert_eq!(!rule.codings_of(StatusCode::OK, &headers).is_empty(), expected, "{lines:?}");
            assert!(rule.codings_of(StatusCode::NOT_FOUND, &headers).is_empty());
            assert!(Rule::new("/", 60).unwrap().codings_of(StatusCode::OK, &headers).is_empty());
        }
    }
}
