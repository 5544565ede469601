//! The readable format: the stored value of a page is the HTTP response itself (RFC 9112).
//!
//! ```text
//! HTTP/1.1 200 OK
//! Cachepage-Expires: 1795378206
//! Cachepage-Key: :1:views.… 0f3b… (its key, and a digest of what selects the page besides the path, if anything)
//! Cachepage-Version: 8c17f0a3d2b49e56 (only with `policy = "http"`: names what a 304 of the origin confirms)
//! Cachepage-Born: 1795378116 (when it was made; with `policy = "http"`, or if a cache behind the proxy has sent an `Age`)
//! Cachepage-Cost: 120 (milliseconds that the origin took; only if the rule has `early_refresh`)
//! Cachepage-Forms: zstd=2345 br=2301 (the coded forms that follow the body, and their lengths; only with `compress`)
//! Cachepage-Log: 9f3c21aa-51b2c3d4/1795714265426-0 (its place in the purge log; this and the next two only with purging)
//! Cachepage-Url: //localhost:8000/api/properties/cached/?page=2
//! Cachepage-Tags: housing.property housing.agent (with tabs between them)
//! Content-Type: application/json
//! Content-Length: 14022
//!
//! {"count":5000,…
//! ```
//!
//! Lines that begin with `Cachepage-` are never sent to clients. `Content-Length` is always present and right, so that
//! [`Entry::is_sendable`] recognises a truncated value.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, SERVER};

use crate::page::entry::{Entry, Version};
use crate::page::forms::Forms;
use crate::purge::{Since, Stamp, Tags};
use crate::text::push_line;

const EXPIRES: &str = "cachepage-expires";
const KEY: &str = "cachepage-key";
const VERSION: &str = "cachepage-version";
const BORN: &str = "cachepage-born";
const COST: &str = "cachepage-cost";
const FORMS: &str = "cachepage-forms";
const LOG: &str = "cachepage-log";
const URL: &str = "cachepage-url";
const TAGS: &str = "cachepage-tags";
const OWN: &str = "cachepage-";

/// The header lines that are parsed on the stack. If a head has more, its lines are counted first.
const FEW: usize = 128;

/// The body of a page of at least this many bytes may come in a buffer with room for the head of its value.
pub(crate) const LARGE: usize = 128 << 10;

/// No head has more lines: those that an origin may send, and the proxy's own.
const MAX_LINES: usize = (8 << 10) + 16;

/// Writes an entry, without any `Cachepage-` line of the origin and, under Django's policy, without `Date` and `Server`.
pub(crate) fn encode(entry: &Entry) -> Bytes {
    // The value is kept for long, so it gets no spare capacity.
    Bytes::from([&head(entry), &entry.body[..], entry.forms.bytes()].concat())
}

/// As [`encode`], but also returns the entry with its content as slices of the value, so that the content is in memory only
/// once.
pub(crate) fn encode_in_place(mut entry: Entry) -> (Bytes, Entry) {
    let (head, length) = (head(&entry), entry.body.len());
    let value = join(&head, std::mem::take(&mut entry.body), entry.forms.bytes());
    entry.body = value.slice(head.len()..head.len() + length);
    entry.forms = entry.forms.in_bytes(value.slice(head.len() + length..));
    (value, entry)
}

/// Joins the parts of a value. If the body's buffer has room for the other parts, and little more, it becomes the value.
fn join(head: &[u8], body: Bytes, forms: &[u8]) -> Bytes {
    /// A value may keep one spare byte for each so many bytes.
    const SPARE: usize = 32;
    let length = head.len() + body.len() + forms.len();
    if body.len() < LARGE || !body.is_unique() {
        return [head, &body, forms].concat().into();
    }
    let mut body = Vec::from(body);
    let fits = (length..=length + length / SPARE).contains(&body.capacity());
    if !fits {
        return [head, &body, forms].concat().into();
    }
    body.extend_from_slice(forms);
    body.splice(..0, head.iter().copied());
    body.into()
}

/// The lines before the body.
fn head(entry: &Entry) -> Vec<u8> {
    let mut value = Vec::with_capacity(64 * (entry.headers.len() + 4));
    push_start(&mut value, entry);
    if let Some(born) = entry.born {
        push_line(&mut value, BORN, born.to_string().as_bytes());
    }
    if !entry.cost.is_zero() {
        push_line(&mut value, COST, entry.cost.as_millis().max(1).to_string().as_bytes());
    }
    if !entry.forms.is_empty() {
        push_line(&mut value, FORMS, entry.forms.text().as_bytes());
    }
    if let Some(Stamp { since: Since::Position(position), url, tags }) = entry.stamp.as_deref() {
        push_line(&mut value, LOG, position.to_string().as_bytes());
        push_line(&mut value, URL, url.as_bytes());
        push_line(&mut value, TAGS, tags.text());
    }
    let length = HeaderValue::from(entry.body.len());
    for (name, content) in entry.headers.iter().filter(|(name, _)| is_stored(name, entry)) {
        let content = if *name == CONTENT_LENGTH { &length } else { content };
        push_line(&mut value, name.as_str(), content.as_bytes());
    }
    if !entry.headers.contains_key(CONTENT_LENGTH) && entry.status != StatusCode::NO_CONTENT {
        push_line(&mut value, CONTENT_LENGTH.as_str(), length.as_bytes());
    }
    value.extend_from_slice(b"\r\n");
    value
}

/// The beginning of a value. It differs for each version of a page.
pub(crate) fn start(entry: &Entry) -> Bytes {
    let mut start = Vec::new();
    push_start(&mut start, entry);
    start.into()
}

fn push_start(value: &mut Vec<u8>, entry: &Entry) {
    let reason = entry.reason.as_ref().map_or(usual_reason(entry.status), ReasonPhrase::as_bytes);
    for part in [b"HTTP/1.1 ", entry.status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
        value.extend_from_slice(part);
    }
    push_line(value, EXPIRES, entry.expires.unwrap_or_default().to_string().as_bytes());
    push_line(value, KEY, entry.proof.as_deref().unwrap_or_default());
    if let Some(Version::Number(version)) = entry.version {
        push_line(value, VERSION, format!("{version:016x}").as_bytes());
    }
}

fn usual_reason(status: StatusCode) -> &'static [u8] {
    status.canonical_reason().unwrap_or_default().as_bytes()
}

/// Whether a header is stored. HTTP's policy stores every header that it may store (RFC 9111 §3.1).
fn is_stored(name: &HeaderName, entry: &Entry) -> bool {
    let is_made_anew = entry.version.is_none() && (*name == DATE || *name == SERVER);
    let has_body = entry.status != StatusCode::NO_CONTENT || *name != CONTENT_LENGTH;
    !is_made_anew && has_body && !name.as_str().starts_with(OWN)
}

/// Reads a value; `None` for a value that `encode` did not write. The body is a slice of the value. The headers
/// are slices of one copy of the head, so that a head that is kept does not keep the body alive.
pub(crate) fn decode(value: &Bytes) -> Option<Entry> {
    let mut few = [httparse::EMPTY_HEADER; FEW];
    let mut many;
    let mut head = httparse::Response::new(&mut few);
    let parsed = match head.parse(value) {
        Err(httparse::Error::TooManyHeaders) => {
            many = vec![httparse::EMPTY_HEADER; lines_of(value).min(MAX_LINES)];
            head = httparse::Response::new(&mut many);
            head.parse(value)
        }
        parsed => parsed,
    };
    let httparse::Status::Complete(length) = parsed.ok()? else { return None };
    let status = StatusCode::from_u16(head.code?).ok()?;
    let (body, text) = (value.slice(length..), Bytes::copy_from_slice(&value[..length]));
    let mut entry = Entry {
        status,
        headers: HeaderMap::with_capacity(head.headers.len()),
        reason: None,
        body,
        forms: Forms::default(),
        expires: None,
        born: None,
        version: None,
        cost: Duration::ZERO,
        // An entry without the line has an empty proof, which matches no request.
        proof: Some(Bytes::new()),
        stamp: None,
    };
    entry.reason = head
        .reason
        .filter(|reason| reason.as_bytes() != usual_reason(status))
        .and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    for header in head.headers.iter() {
        let at = header.value.as_ptr().addr() - value.as_ptr().addr();
        take(&mut entry, header.name, text.slice(at..at + header.value.len()))?;
    }
    entry.forms = entry.forms.take_from(&mut entry.body)?;
    let is_page = match entry.version {
        Some(_) => entry.born.is_some(),
        // Django's policy stores only 200.
        None => status == StatusCode::OK,
    };
    (is_page && entry.expires.is_some_and(|expires| expires > 0)).then_some(entry)
}

/// How many lines the head of a value has.
fn lines_of(value: &[u8]) -> usize {
    value.split(|&byte| byte == b'\n').take_while(|line| !matches!(line, [] | [b'\r'])).count()
}

fn take(entry: &mut Entry, name: &str, content: Bytes) -> Option<()> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    match name.as_str() {
        EXPIRES => entry.expires = Some(number(&content)?),
        VERSION => {
            let number = u64::from_str_radix(std::str::from_utf8(&content).ok()?, 16).ok()?;
            entry.version = Some(Version::Number(number));
        }
        BORN => entry.born = Some(number(&content)?),
        COST => entry.cost = Duration::from_millis(number(&content)?),
        KEY => entry.proof = Some(content),
        FORMS => entry.forms = Forms::of_text(&content)?,
        LOG => {
            let since = Since::Position(std::str::from_utf8(&content).ok()?.parse().ok()?);
            let stamp = Stamp { since, url: Box::default(), tags: Tags::default() };
            entry.stamp = Some(Box::new(stamp));
        }
        URL => entry.stamp.as_mut()?.url = std::str::from_utf8(&content).ok()?.into(),
        TAGS => entry.stamp.as_mut()?.tags = Tags::from_text(content),
        _ => drop(entry.headers.append(name, HeaderValue::from_maybe_shared(content).ok()?)),
    }
    Some(())
}

fn number<N: FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::format::Format;

    fn decode(value: &Bytes) -> Option<Entry> {
        Format::Http.decode(value)
    }

    fn entry() -> Entry {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", &b"text/html; charset=utf-8"[..]),
            ("x-two", b"1"),
            ("x-name", b"caf\xe9"),
            ("x-two", b"2"),
            ("x-empty", b""),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        Entry {
            status: StatusCode::OK,
            headers,
            reason: None,
            body: Bytes::from_static(b"<p>hi</p>\r\n\r\n"),
            forms: Forms::default(),
            expires: Some(1_795_378_206),
            born: None,
            version: None,
            cost: Duration::ZERO,
            proof: Some(Bytes::from_static(b":1:page")),
            stamp: None,
        }
    }

    #[test]
    fn the_value_is_readable_text() {
        let mut page = entry();
        page.headers.remove("x-name");
        let text = "HTTP/1.1 200 OK\r\nCachepage-Expires: 1795378206\r\nCachepage-Key: :1:page\r\n\
                    Content-Type: text/html; charset=utf-8\r\nX-Two: 1\r\nX-Two: 2\r\nX-Empty: \r\nContent-Length: 13\r\n\r\n<p>hi</p>\r\n\r\n";
        assert_eq!(encode(&page), text);
    }

    #[test]
    fn an_entry_reads_back_unchanged_and_its_body_is_not_copied() {
        let page = Entry {
            reason: Some(ReasonPhrase::from_static(b"Fine")),
            born: Some(1_795_378_116),
            cost: Duration::from_millis(120),
            proof: Some(Bytes::from_static(b":1:page 0123abcd")),
            stamp: Some(Box::new(Stamp {
                since: Since::Position("9f3c21aa-51b2c3d4/1795714265426-0".parse().unwrap()),
                url: "//localhost:8000/p/?page=2".into(),
                tags: Tags::from_text(Bytes::from_static(b"one\ttwo")),
            })),
            ..entry()
        };
        let value = encode(&page);
        let back = decode(&value).unwrap();
        let mut expected = page.headers.clone();
        expected.insert(CONTENT_LENGTH, HeaderValue::from(13));
        assert_eq!(back.headers, expected);
        assert_eq!(
            (back.reason, &back.body, back.expires, back.born, back.cost, &back.proof),
            (page.reason, &page.body, page.expires, page.born, page.cost, &page.proof)
        );
        let range = value.as_ptr_range();
        assert!(range.contains(&back.body.as_ptr()));
    }

    #[test]
    fn a_body_that_nobody_else_holds_becomes_the_value_if_it_has_room_for_the_head() {
        let encode_body = |room: usize, is_held: bool| {
            let mut body = Vec::with_capacity(LARGE + room);
            body.resize(LARGE, b'x');
            let body = Bytes::from(body);
            let memory = body.as_ptr();
            let held = is_held.then(|| body.clone());
            let page = Entry { body, ..entry() };
            let expected = encode(&page);
            let (value, page) = encode_in_place(page);
            assert_eq!(value, expected);
            assert_eq!(page.body.as_ptr(), value[value.len() - LARGE..].as_ptr());
            drop(held);
            value.as_ptr() == memory
        };
        assert!(encode_body(1_000, false));
        assert!(!encode_body(1_000, true) && !encode_body(0, false) && !encode_body(10_000, false));
    }

    #[test]
    fn an_entry_of_many_lines_reads_back() {
        let mut page = entry();
        for number in 0..5_000 {
            page.headers
                .insert(HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from(number));
        }
        let back = decode(&encode(&page)).unwrap();
        page.headers.insert(CONTENT_LENGTH, HeaderValue::from(page.body.len()));
        assert_eq!(back.headers, page.headers);
    }

    #[test]
    fn date_server_and_cachepage_lines_of_the_origin_are_not_stored() {
        let mut page = entry();
        for name in ["date", "server", "cachepage-expires", "cachepage-key", "cachepage-x"] {
            page.headers.insert(HeaderName::from_static(name), HeaderValue::from_static("7"));
        }
        assert_eq!(encode(&page), encode(&entry()));
    }

    #[test]
    fn content_length_is_corrected_in_place() {
        let mut page = entry();
        page.headers.insert("content-type", HeaderValue::from_static("a/b"));
        page.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("999"));
        page.headers.append("x-last", HeaderValue::from_static("1"));
        let value = String::from_utf8_lossy(&encode(&page)).into_owned();
        assert!(value.contains("\r\nContent-Length: 13\r\nX-Last: 1\r\n"), "{value}");
    }

    #[test]
    fn any_prefix_is_refused() {
        let value = encode(&entry());
        for end in 0..value.len() {
            assert!(decode(&value.slice(..end)).is_none(), "{end}");
        }
    }

    #[test]
    fn any_changed_byte_gives_an_entry_or_nothing() {
        let value = encode(&entry());
        for at in 0..value.len() {
            for byte in [0, b'\r', b'\n', b':', b' ', b'0', 0x7f, 0xff] {
                let mut changed = value.to_vec();
                changed[at] = byte;
                let _ = decode(&Bytes::from(changed));
            }
        }
    }

    #[test]
    fn foreign_values_are_refused() {
        for value in [
            &b""[..],
            b"\x80\x05\x95\x14\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94.",
            b"{\"count\":1}",
            b"42",
            b"HTTP/1.1 404 Not Found\r\nCachepage-Expires: 1\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nCachepage-Expires: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nCachepage-Expires: -1\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nCachepage-Expires: 1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"cachepage/1 vary 00000000000000000000000000000000 accept",
        ] {
            assert!(decode(&Bytes::copy_from_slice(value)).is_none(), "{}", value.escape_ascii());
        }
        let many = format!(
            "HTTP/1.1 200 OK\r\nCachepage-Expires: 1\r\n{}Content-Length: 0\r\n\r\n",
            "A: b\r\n".repeat(MAX_LINES)
        );
        assert!(decode(&Bytes::from(many)).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_entry_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&Bytes::from(bytes));
        }

        #[test]
        fn any_entry_reads_back(
            values in proptest::collection::vec("[ -~]{0,20}", 0..20),
            body in proptest::collection::vec(any::<u8>(), 0..300),
            expires in 1_u64..,
        ) {
            let mut page = Entry { headers: HeaderMap::new(), body: Bytes::from(body), expires: Some(expires), ..entry() };
            for (index, value) in values.iter().enumerate() {
                // Header values from the wire have no blanks at their ends.
                page.headers.append(format!("x-{}", index % 7).parse::<HeaderName>().unwrap(), value.trim().parse().unwrap());
            }
            let back = decode(&encode(&page)).unwrap();
            page.headers.insert(CONTENT_LENGTH, HeaderValue::from(page.body.len()));
            prop_assert_eq!(back.headers, page.headers);
            prop_assert_eq!(back.body, page.body);
            prop_assert_eq!(back.expires, page.expires);
        }
    }
}
