//! Reads a page from the state of a response of Django.

use bytes::{Bytes, BytesMut};

use super::cookie;
use super::field::{find, given, headers, is_servable};
use super::heap::{Heap, Kind, Operand};
use super::object::{Object, bytes, sequence};

/// The longest body that is joined from several chunks. Chunks can be shared, so without this bound a short value could
/// make a huge body. A body of one chunk is a slice of the value.
const MAX_JOINED: usize = 16 << 20;

/// A page as Django stores it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PickledPage {
    /// Django stores only pages of status 200, but serves any stored status.
    pub status: u16,
    /// `None` stands for the standard phrase of the status.
    pub reason: Option<String>,
    /// The fields in stored order, then a `Set-Cookie` for each cookie. Names keep their case; values are Latin-1.
    pub headers: Vec<(String, String)>,
    /// A slice of the value if it was stored in one chunk.
    pub body: Bytes,
    /// The attribute `xframe_options_exempt`: Django's middleware then adds no `X-Frame-Options`.
    pub frame_exempt: bool,
    /// The attribute `_cachepage`, which only [`write_page`](super::write_page) adds.
    pub note: Option<String>,
    /// The attribute `_cachepage_forms`, which only [`write_page`](super::write_page) adds.
    pub forms: Option<Bytes>,
}

/// The attributes of a response that are needed to serve it.
#[derive(Default)]
struct Attributes {
    headers: Option<Operand>,
    container: Option<Operand>,
    cookies: Option<Operand>,
    closers: Option<Operand>,
    status: Option<Operand>,
    reason: Option<Operand>,
    frame_exempt: Option<Operand>,
    note: Option<Operand>,
    forms: Option<Operand>,
}

/// Reads a response; `None` if Django would answer 500.
pub(super) fn read(heap: &Heap<'_>, value: Operand) -> Option<PickledPage> {
    let response = Object::of(heap, value)?;
    let status = class_status(response.class)?;
    let attributes = Attributes::of(&response)?;
    let mut page = match response.called {
        true => constructed(&response)?,
        false => attributes.are_whole().then(|| PickledPage { status, ..PickledPage::default() })?,
    };
    if let Some(value) = attributes.status {
        page.status = number(value)?;
    }
    page.frame_exempt = matches!(attributes.frame_exempt, Some(Operand::Bool(true)));
    if let Some(value) = attributes.headers {
        page.headers = headers(heap, value)?;
    }
    if let Some(value) = attributes.container {
        page.body = body(heap, value)?;
    }
    if let Some(value) = attributes.reason {
        page.reason = optional(heap, value)?;
    }
    if let Some(value) = attributes.note {
        page.note = heap.text(value).map(str::to_owned);
    }
    page.forms = attributes.forms.and_then(|value| bytes(heap, value));
    // Django appends to this list.
    attributes.closers.is_none_or(|value| is_list(heap, value)).then_some(())?;
    if let Some(value) = attributes.cookies {
        page.headers.extend(cookie::fields(heap, value)?);
    }
    is_servable(page.status, page.reason.as_deref(), &page.headers).then_some(page)
}

impl Attributes {
    fn of(response: &Object<'_>) -> Option<Self> {
        let mut found = Self::default();
        response.attributes(|name, value| {
            let attribute = match name {
                b"headers" => &mut found.headers,
                b"_container" => &mut found.container,
                b"cookies" => &mut found.cookies,
                b"_resource_closers" => &mut found.closers,
                b"status_code" => &mut found.status,
                b"_reason_phrase" => &mut found.reason,
                b"xframe_options_exempt" => &mut found.frame_exempt,
                b"_cachepage" => &mut found.note,
                b"_cachepage_forms" => &mut found.forms,
                _ => return,
            };
            *attribute = Some(value);
        })?;
        Some(found)
    }

    /// Whether all attributes without a default in the class are set. Only the status has one.
    fn are_whole(&self) -> bool {
        let needed = [self.headers, self.container, self.cookies, self.closers, self.reason];
        needed.iter().all(Option::is_some)
    }
}

/// The default status of a class; `None` for classes that stream or are not responses. An unknown class is judged by
/// its attributes.
fn class_status((module, name): (&[u8], &[u8])) -> Option<u16> {
    match (module, name) {
        (b"django.http.response" | b"django.http", name) => match name {
            b"HttpResponse" | b"JsonResponse" => Some(200),
            b"HttpResponsePermanentRedirect" => Some(301),
            b"HttpResponseRedirect" => Some(302),
            b"HttpResponseNotModified" => Some(304),
            b"HttpResponseBadRequest" => Some(400),
            b"HttpResponseForbidden" => Some(403),
            b"HttpResponseNotFound" => Some(404),
            b"HttpResponseNotAllowed" => Some(405),
            b"HttpResponseGone" => Some(410),
            b"HttpResponseServerError" => Some(500),
            _ => None,
        },
        (b"builtins" | b"__builtin__", _) => None,
        _ => Some(200),
    }
}

/// Does the same as `HttpResponse(content, content_type, status, reason, charset, headers)`, if the content is bytes.
fn constructed(response: &Object<'_>) -> Option<PickledPage> {
    if !matches!(response.class, (b"django.http.response" | b"django.http", b"HttpResponse")) {
        return None;
    }
    let heap = response.heap;
    let mut args = response.args();
    let body = args.next().map_or(Some(Bytes::new()), |content| bytes(heap, content))?;
    let mut next = || args.next().unwrap_or(Operand::None);
    let content_type = optional(heap, next())?.filter(|content_type| !content_type.is_empty());
    let status = match next() {
        Operand::None => 200,
        value => number(value).filter(|status| (100..600).contains(status))?,
    };
    let (reason, charset) = (optional(heap, next())?, optional(heap, next())?);
    let mut headers = given(heap, next())?;
    if find(&headers, "content-type").is_none() {
        let charset = charset.as_deref().unwrap_or("utf-8");
        let content_type = content_type.unwrap_or_else(|| format!("text/html; charset={charset}"));
        headers.push(("Content-Type".to_owned(), content_type));
    } else if content_type.is_some() {
        return None;
    }
    args.next().is_none().then_some(PickledPage { status, reason, headers, body, ..PickledPage::default() })
}

fn number(value: Operand) -> Option<u16> {
    match value {
        Operand::Int(number) => u16::try_from(number).ok(),
        _ => None,
    }
}

/// A text or None.
fn optional(heap: &Heap<'_>, value: Operand) -> Option<Option<String>> {
    match value {
        Operand::None => Some(None),
        _ => heap.text(value).map(|text| Some(text.to_owned())),
    }
}

fn is_list(heap: &Heap<'_>, value: Operand) -> bool {
    matches!(value, Operand::Node(id) if heap.kind(id) == Kind::List)
}

/// Reads the attribute `_container`: chunks of bytes.
fn body(heap: &Heap<'_>, container: Operand) -> Option<Bytes> {
    let chunks = sequence(heap, container)?;
    if heap.len(chunks) == 1 {
        return bytes(heap, heap.items(chunks).next()?);
    }
    let mut body = BytesMut::new();
    for chunk in heap.items(chunks) {
        let chunk = bytes(heap, chunk)?;
        if body.len() + chunk.len() > MAX_JOINED {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pickle::{Protocol, read_page, write_page};

    fn page() -> PickledPage {
        PickledPage {
            status: 404,
            body: Bytes::from_static(b"<p>"),
            note: Some("n".to_owned()),
            ..PickledPage::default()
        }
    }

    fn replaced(value: &[u8], from: &[u8], to: &[u8]) -> Bytes {
        let at = value.windows(from.len()).position(|window| window == from).unwrap();
        Bytes::from([&value[..at], to, &value[at + from.len()..]].concat())
    }

    #[test]
    fn attributes_may_be_missing_where_django_has_a_default() {
        let value = write_page(&page(), Protocol::Five).unwrap();
        for (name, expected) in [
            ("headers", None),
            ("_store", None),
            ("_container", None),
            ("cookies", None),
            ("_resource_closers", None),
            ("_reason_phrase", None),
            ("_charset", Some(page())),
            ("_handler_class", Some(page())),
            ("closed", Some(page())),
            ("status_code", Some(PickledPage { status: 200, ..page() })),
            ("_cachepage", Some(PickledPage { note: None, ..page() })),
        ] {
            let renamed = name.to_ascii_uppercase();
            assert_eq!(read_page(&replaced(&value, name.as_bytes(), renamed.as_bytes())), expected, "{name}");
        }
    }

    #[test]
    fn attributes_must_have_their_types() {
        let value =
            write_page(&PickledPage { reason: Some("r".to_owned()), ..page() }, Protocol::Five).unwrap();
        for (rule, from, to, expected) in [
            ("a chunk of text", &b"C\x03<p>"[..], &b"\x8c\x03<p>"[..], false),
            ("a chunk of a bytearray", b"C\x03<p>", b"\x96\x03\0\0\0\0\0\0\0<p>", true),
            ("no chunk", b"C\x03<p>a", b"", true),
            ("two chunks", b"C\x03<p>a", b"C\x01<aC\x02p>a", true),
            ("a tuple of chunks", b"]C\x03<p>a", b"C\x03<p>\x85", true),
            ("bytes without a list", b"]C\x03<p>a", b"C\x03<p>", false),
            ("a status of text", b"M\x94\x01", b"\x8c\x03404", false),
            ("a status below zero", b"M\x94\x01", b"J\xff\xff\xff\xff", false),
            ("a reason of bytes", b"\x8c\x01r", b"C\x01r", false),
            ("no reason", b"\x8c\x01r", b"N", true),
            ("cookies of a dict", b"\x8c\x0chttp.cookies\x8c\x0cSimpleCookie\x93)\x81", b"}", true),
            ("cookies of a list", b"\x8c\x0chttp.cookies\x8c\x0cSimpleCookie\x93)\x81", b"]", false),
            ("closers of a tuple", b"closers]", b"closers)", false),
            (
                "headers of a dict",
                b"\x8c\x14django.http.response\x8c\x0fResponseHeaders\x93)\x81}\x8c\x06_store}(usb",
                b"}",
                false,
            ),
            ("a base class", b"\x8c\x0cHttpResponse", b"\x8c\x10HttpResponseBase", false),
            ("a class that streams", b"\x8c\x0cHttpResponse", b"\x8c\x15StreamingHttpResponse", false),
            (
                "a class of the site's own",
                b"\x8c\x14django.http.response\x8c\x0cHttp",
                b"\x8c\x06a.site\x8c\x0cHttp",
                true,
            ),
        ] {
            assert_eq!(read_page(&replaced(&value, from, to)).is_some(), expected, "{rule}");
        }
    }

    #[test]
    fn constructors_make_pages() {
        const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");
        for (args, expected) in [
            (&b""[..], Some((200, None, &[HTML][..]))),
            (b"C\x01x", Some((200, None, &[HTML]))),
            (b"C\x01xX\x03\0\0\0a/b", Some((200, None, &[("Content-Type", "a/b")]))),
            (b"C\x01xNM\x94\x01X\x01\0\0\0r", Some((404, Some("r"), &[HTML]))),
            (b"C\x01xNNNX\x01\0\0\0c", Some((200, None, &[("Content-Type", "text/html; charset=c")]))),
            (b"C\x01xNNNN}X\x01\0\0\0AK\x05s", Some((200, None, &[("A", "5"), HTML]))),
            (b"C\x01xNNNN}X\x0c\0\0\0content-typeX\x01\0\0\0ts", Some((200, None, &[("content-type", "t")]))),
            (b"C\x01xNNNN(X\x01\0\0\0AK\x05X\x01\0\0\0aK\x06d", Some((200, None, &[("a", "6"), HTML]))),
            (b"C\x01xX\x01\0\0\0tNNN}X\x0c\0\0\0content-typeX\x01\0\0\0ts", None),
            (b"C\x01xNM\x58\x02", None),
            (b"C\x01xNNNNNN", None),
            (b"K\x01", None),
        ] {
            let value = [b"cdjango.http.response\nHttpResponse\n(", args, b"tR."].concat();
            let page = read_page(&Bytes::from(value));
            let found = page.as_ref().map(|page| {
                let fields = page.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                (page.status, page.reason.as_deref(), fields.collect::<Vec<_>>())
            });
            let expected = expected.map(|(status, reason, fields)| (status, reason, fields.to_vec()));
            assert_eq!(found, expected, "{}", args.escape_ascii());
        }
    }

    #[test]
    fn shared_values_cannot_grow_without_bound() {
        let value = write_page(&page(), Protocol::Five).unwrap();
        let chunk = [&b"B\0\0\x10\0"[..], &vec![b'x'; 1 << 20], b"\x94"].concat();
        for (copies, expected) in [(15, true), (16, false), (60_000, false)] {
            let container = [b"](", &chunk[..], &b"h\0".repeat(copies), b"e"].concat();
            let bomb = replaced(&value, b"]C\x03<p>a", &container);
            assert_eq!(read_page(&bomb).is_some(), expected, "{copies}");
        }
        // Many states that share one long dict.
        let dict = [&b"}("[..], &b"\x8c\x01aN".repeat(100_000), b"u\x94"].concat();
        let states = [&value[..value.len() - 1], &dict, b"b", &b"h\0b".repeat(100_000), b"."].concat();
        assert_eq!(read_page(&Bytes::from(states)), None);
        // Many cookies that share one long text.
        let text = [&b"X\0\0\x02\0"[..], &vec![b'x'; 2 << 16], b"\x940"].concat();
        let morsel =
            b"chttp.cookies\nMorsel\n)\x81}(\x8c\x03keyh\0\x8c\x05valueN\x8c\x0bcoded_value\x8c\x01vub\x94";
        for (copies, expected) in [(0, true), (200, false)] {
            let copies: Vec<u8> = (0..copies).flat_map(|copy| [0x8c, 1, copy % 128, b'h', 1]).collect();
            let cookies = [&b"}(\x8c\x01a"[..], morsel, &copies, b"u"].concat();
            let bomb = replaced(&value, b"\x8c\x0chttp.cookies\x8c\x0cSimpleCookie\x93)\x81", &cookies);
            let bomb = [&value[..2], &text, &bomb[2..]].concat();
            assert_eq!(read_page(&Bytes::from(bomb)).is_some(), expected);
        }
    }
}
