//! The part of a page that a request asks for: conditions and ranges, in the order of RFC 9110 §13.2.2.
//!
//! `If-Match` and `If-Unmodified-Since` are for the origin alone (RFC 9111 §4.3.2).

use std::ops::Range;

use hyper::header::{
    ACCEPT_ENCODING, DATE, ETAG, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use hyper::http::request;
use hyper::{Method, StatusCode};

use super::date::parse as date;
use super::varies_on;
use crate::request::Lines;

/// The part of a page that answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The whole page.
    Whole,
    /// The client has it already: 304.
    NotModified,
    /// These bytes: 206.
    Bytes(Range<u64>),
    /// The range begins after the end of the page: 416.
    Unsatisfiable,
}

/// A page that can be asked for in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    /// The length of the body; unknown until a page without `Content-Length` is complete.
    pub(crate) length: Option<u64>,
    /// Whether its `Date` is stored with it, and counts in place of a `Last-Modified` that it does not have (RFC 9111 §4.3.2).
    pub(crate) has_date: bool,
}

impl Part {
    /// The status of an answer with this part of a page. `whole` is the status of the page.
    pub(crate) fn status(&self, whole: StatusCode) -> StatusCode {
        match self {
            Self::Whole => whole,
            Self::NotModified => StatusCode::NOT_MODIFIED,
            Self::Bytes(_) => StatusCode::PARTIAL_CONTENT,
            Self::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }

    /// The part of `page` that a request asks for.
    pub(crate) fn asked_for(method: &Method, lines: Lines<'_>, page: Whole<'_>) -> Self {
        // Conditions count where the answer would be a 2xx (§13.2.1), and a range where it would be a 200 (§14.2).
        if !page.status.is_success() || !lines.has_any(&[IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE]) {
            return Self::Whole;
        }
        if is_known(lines, page) {
            return Self::NotModified;
        }
        if page.status != StatusCode::OK {
            return Self::Whole;
        }
        // "A server MUST ignore a Range header field received with a request method [...] other than GET." (§14.2)
        match page.length {
            Some(length) if *method == Method::GET && allows_range(lines, page.headers) => {
                single(lines, &RANGE).map_or(Self::Whole, |range| range_of(range, length))
            }
            _ => Self::Whole,
        }
    }
}

/// Makes a GET or a QUERY ask for the whole page, so that it can be stored. A cache may ignore `If-Match` and
/// `If-Unmodified-Since` (RFC 9110 §13.1.1, §13.1.4).
pub(crate) fn ask_for_whole(mut request: request::Parts) -> request::Parts {
    if request.method != Method::HEAD {
        for name in [IF_MATCH, IF_UNMODIFIED_SINCE, IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE, IF_RANGE] {
            request.headers.remove(name);
        }
    }
    request
}

/// Whether a GET asks for a range that cannot be found before the length of the page is known. `bytes=0-` is the whole page:
/// players ask so for streams that never end.
pub(crate) fn needs_length(request: &HeaderMap, page: Whole<'_>) -> bool {
    const SOME: Option<u64> = Some(1 << 60);
    let part = Part::asked_for(&Method::GET, Lines::Map(request), Whole { length: SOME, ..page });
    matches!(part, Part::Bytes(range) if range != (0..1 << 60))
}

/// The value of a header with one line. Several lines would be a list (§5.3), which is neither a date nor a single range.
fn single<'a>(lines: Lines<'a>, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = lines.get_all(name);
    values.next().filter(|_| values.next().is_none())
}

/// Whether the client has the page. `If-Modified-Since` counts only without `If-None-Match` (§13.1.3).
fn is_known(lines: Lines<'_>, Whole { headers: page, has_date, .. }: Whole<'_>) -> bool {
    if lines.get(&IF_NONE_MATCH).is_some() {
        let etag = text(page, ETAG);
        return lines.get_all(&IF_NONE_MATCH).any(|tags| names(tags, etag));
    }
    let since = single(lines, &IF_MODIFIED_SINCE).and_then(date);
    let modified = text(page, LAST_MODIFIED).or_else(|| text(page, DATE).filter(|_| has_date)).and_then(date);
    since.zip(modified).is_some_and(|(since, modified)| modified <= since)
}

/// Whether a list of tags has this tag, by the weak comparison (§8.8.3.2): a `W/` does not count.
fn names(tags: &[u8], etag: Option<&[u8]>) -> bool {
    if tags.trim_ascii() == b"*" {
        return true;
    }
    let Some(etag) = etag.and_then(opaque) else { return false };
    // A tag has no quotes inside, so every second piece between quotes is one.
    let mut pieces = tags.split(|byte| *byte == b'"').skip(1);
    while let (Some(tag), Some(_)) = (pieces.next(), pieces.next()) {
        if tag == etag {
            return true;
        }
    }
    false
}

/// A tag without its quotes and its `W/`.
fn opaque(tag: &[u8]) -> Option<&[u8]> {
    let tag = tag.trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag).strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Whether `If-Range`, if there is one, names this very page: a strong tag (§8.8.3.2), or its date (§13.1.5).
fn allows_range(lines: Lines<'_>, page: &HeaderMap) -> bool {
    if !lines.has_any(&[IF_RANGE]) {
        return true;
    }
    let condition = single(lines, &IF_RANGE).unwrap_or_default().trim_ascii();
    match condition {
        [b'"', ..] => text(page, ETAG) == Some(condition),
        [b'W', b'/', ..] => false,
        // A date does not distinguish the codings of a page.
        _ if varies_on(page, &ACCEPT_ENCODING) => false,
        _ => date(condition).is_some_and(|asked| {
            let made = text(page, DATE).and_then(date);
            // A page that was sent in the second of its last change may have changed again within that second (§8.8.2.2).
            let is_strong = made.is_none_or(|made| asked < made);
            is_strong && text(page, LAST_MODIFIED).and_then(date) == Some(asked)
        }),
    }
}

/// The bytes of one range. A value that cannot be read, or that has several ranges, is ignored (§14.2).
fn range_of(range: &[u8], length: u64) -> Part {
    match parse_range(range) {
        None => Part::Whole,
        Some((Some(first), last)) if first < length => {
            Part::Bytes(first..last.map_or(length, |last| length.min(last.saturating_add(1))))
        }
        // More bytes than the page has are the whole page, so no range is needed.
        Some((None, Some(suffix))) if suffix > length => Part::Whole,
        Some((None, Some(suffix @ 1..))) => Part::Bytes(length - suffix..length),
        Some(_) => Part::Unsatisfiable,
    }
}

/// The first and the last byte of a range. Without a first byte, the second number is how many bytes at the end are wanted.
fn parse_range(range: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let range = std::str::from_utf8(range).ok()?.trim();
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let position = |text: &str| match text {
        "" => Some(None),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Some(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    };
    match (position(first)?, position(last)?) {
        (None, None) => None,
        (Some(first), Some(last)) if first > last => None,
        ends => Some(ends),
    }
}

fn text(page: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    Some(page.get(name)?.as_bytes().trim_ascii())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    const MODIFIED: &str = "Sun, 22 Nov 2026 20:09:06 GMT";
    const BEFORE: &str = "Sun, 22 Nov 2026 20:09:05 GMT";
    const AFTER: &str = "Sun, 22 Nov 2026 20:09:07 GMT";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    /// The part of a page of 10 bytes.
    fn part(method: &str, request: &[(&str, &str)], page: &[(&str, &str)]) -> Part {
        let (request, page) = (headers(request), headers(page));
        let page = Whole { status: StatusCode::OK, headers: &page, length: Some(10), has_date: false };
        Part::asked_for(&method.parse().unwrap(), Lines::Map(&request), page)
    }

    #[test]
    fn conditions_are_compared_in_the_order_of_the_rfc() {
        use Part::{NotModified, Whole};
        let strong = &[("etag", "\"a\""), ("last-modified", MODIFIED)][..];
        let weak = &[("etag", "W/\"a\"")][..];
        let dated = &[("last-modified", MODIFIED)][..];
        for (request, page, expected) in [
            (&[("if-none-match", "\"a\"")][..], strong, NotModified),
            (&[("if-none-match", "W/\"a\"")], strong, NotModified),
            (&[("if-none-match", "\"a\"")], weak, NotModified),
            (&[("if-none-match", "\"b\", W/\"a\"")], strong, NotModified),
            (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], strong, NotModified),
            (&[("if-none-match", "\"x,\"\"a\"")], strong, NotModified),
            (&[("if-none-match", " * ")], dated, NotModified),
            (&[("if-none-match", "\"b\"")], strong, Whole),
            (&[("if-none-match", "a")], strong, Whole),
            (&[("if-none-match", "\"a")], strong, Whole),
            (&[("if-none-match", "\"a\"")], dated, Whole),
            // Beside a tag, the date is ignored.
            (&[("if-none-match", "\"b\""), ("if-modified-since", AFTER)], strong, Whole),
            (&[("if-none-match", "\"a\""), ("if-modified-since", BEFORE)], strong, NotModified),
            (&[("if-modified-since", MODIFIED)], dated, NotModified),
            (&[("if-modified-since", AFTER)], dated, NotModified),
            (&[("if-modified-since", BEFORE)], dated, Whole),
            (&[("if-modified-since", "yesterday")], dated, Whole),
            (&[("if-modified-since", AFTER)], weak, Whole),
            (&[("if-modified-since", AFTER), ("if-modified-since", AFTER)], dated, Whole),
            (&[("if-match", "\"b\"")], strong, Whole),
            (&[("if-none-match", "\"a\""), ("range", "bytes=0-1")], strong, NotModified),
        ] {
            for method in ["GET", "HEAD"] {
                assert_eq!(part(method, request, page), expected, "{method} {request:?} {page:?}");
            }
        }
    }

    #[test]
    fn a_date_counts_in_place_of_a_last_modified_if_it_is_stored_with_the_page() {
        let asked = headers(&[("if-modified-since", MODIFIED)]);
        for (page, has_date, expected) in [
            (&[("date", MODIFIED)][..], true, Part::NotModified),
            (&[("date", MODIFIED)], false, Part::Whole),
            (&[("date", AFTER)], true, Part::Whole),
            (&[("date", BEFORE), ("last-modified", AFTER)], true, Part::Whole),
        ] {
            let page = headers(page);
            let page = Whole { status: StatusCode::OK, headers: &page, length: Some(10), has_date };
            assert_eq!(Part::asked_for(&Method::GET, Lines::Map(&asked), page), expected, "{page:?}");
        }
    }

    #[test]
    fn one_range_that_can_be_read_is_a_part() {
        use Part::{Bytes, Unsatisfiable, Whole};
        for (range, expected) in [
            ("bytes=0-3", Bytes(0..4)),
            ("bytes=4-", Bytes(4..10)),
            ("bytes=9-9", Bytes(9..10)),
            ("bytes=5-99", Bytes(5..10)),
            ("bytes=-3", Bytes(7..10)),
            ("bytes=-10", Bytes(0..10)),
            ("bytes=-99", Whole),
            ("BYTES= 0-0", Bytes(0..1)),
            ("bytes=0-99999999999999999999999", Bytes(0..10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-1,4-5", Whole),
            ("bytes=3-2", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes 0-1", Whole),
            ("items=0-1", Whole),
        ] {
            assert_eq!(part("GET", &[("range", range)], &[]), expected, "{range}");
            assert_eq!(part("HEAD", &[("range", range)], &[]), Whole, "{range}");
        }
        let two = [("range", "bytes=0-1"), ("range", "bytes=4-5")];
        assert_eq!(part("GET", &two, &[]), Whole);
    }

    #[test]
    fn a_range_counts_only_for_the_page_that_if_range_names() {
        let page = [("etag", "\"a\""), ("last-modified", MODIFIED)];
        let weak = [("etag", "W/\"a\"")];
        let coded = [page[0], page[1], ("vary", "Accept-Encoding")];
        for (condition, page, is_range) in [
            ("\"a\"", &page[..], true),
            (MODIFIED, &page, true),
            ("\"b\"", &page, false),
            ("W/\"a\"", &page, false),
            (AFTER, &page, false),
            (BEFORE, &page, false),
            ("a", &page, false),
            ("W/\"a\"", &weak, false),
            ("\"a\"", &weak, false),
            ("\"a\"", &coded, true),
            (MODIFIED, &coded, false),
            (MODIFIED, &[page[1], ("date", AFTER)], true),
            // The page may have changed again in the second in which it was sent.
            (MODIFIED, &[page[1], ("date", MODIFIED)], false),
        ] {
            let found = part("GET", &[("range", "bytes=0-0"), ("if-range", condition)], page);
            assert_eq!(found == Part::Bytes(0..1), is_range, "{condition} {page:?}");
        }
    }

    #[test]
    fn other_statuses_and_unknown_lengths_have_no_ranges() {
        let (request, page) = (headers(&[("range", "bytes=0-0")]), HeaderMap::new());
        for (status, length) in [(StatusCode::NOT_FOUND, Some(10)), (StatusCode::OK, None)] {
            let page = Whole { status, headers: &page, length, has_date: false };
            assert_eq!(Part::asked_for(&Method::GET, Lines::Map(&request), page), Part::Whole);
        }
    }

    #[test]
    fn conditions_count_for_every_2xx() {
        let (request, page) = (headers(&[("if-none-match", "\"a\"")]), headers(&[("etag", "\"a\"")]));
        for (status, expected) in [(203, Part::NotModified), (404, Part::Whole)] {
            let status = StatusCode::from_u16(status).unwrap();
            let page = Whole { status, headers: &page, length: Some(10), has_date: false };
            assert_eq!(Part::asked_for(&Method::GET, Lines::Map(&request), page), expected);
        }
    }

    proptest! {
        #[test]
        fn a_range_is_within_the_page(first in any::<u8>(), last in any::<u8>(), length in 0_u64..300) {
            let (first, last) = (u64::from(first), u64::from(last));
            let expected = match () {
                () if first > last => Part::Whole,
                () if first >= length => Part::Unsatisfiable,
                () => Part::Bytes(first..(last + 1).min(length)),
            };
            prop_assert_eq!(range_of(format!("bytes={first}-{last}").as_bytes(), length), expected);
        }
    }
}
