//! A page, read from the state of a response of Django.

use bytes::{Bytes, BytesMut};

use super::cookie;
use super::field::{Field, find, given, headers, is_servable};
use super::heap::{Heap, Kind, Value};
use super::object::{Object, bytes, sequence};

/// The longest body that is put together from several chunks. A chunk can be shared, so it bounds what a short value can grow
/// to; a body of one chunk is a slice of the value.
const MAX_JOINED: usize = 16 << 20;

/// A page as Django stores it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// Django stores pages of status 200 only, but serves whatever is stored.
    pub status: u16,
    /// `None` is the standard phrase of the status.
    pub reason: Option<String>,
    /// Names in the case they were written in, values of Latin-1 characters, in stored order; then a `Set-Cookie` for each
    /// cookie.
    pub headers: Vec<(String, String)>,
    /// A slice of the value, if it was stored in one chunk.
    pub body: Bytes,
    /// The attribute `xframe_options_exempt`: Django's middleware adds no `X-Frame-Options` to it.
    pub frame_exempt: bool,
    /// The attribute `_cachepage`, which only [`write_page`](super::write_page) adds.
    pub note: Option<String>,
}

/// The attributes of a response that serving it needs.
#[derive(Default)]
struct Attributes {
    headers: Option<Value>,
    container: Option<Value>,
    cookies: Option<Value>,
    closers: Option<Value>,
    status: Option<Value>,
    reason: Option<Value>,
    frame_exempt: Option<Value>,
    note: Option<Value>,
}

/// Reads a response; `None` for all that Django answers with 500.
pub(super) fn read(heap: &Heap<'_>, value: Value) -> Option<Page> {
    let response = Object::of(heap, value)?;
    let status = class_status(response.class)?;
    let attributes = Attributes::of(&response)?;
    let mut page = match response.called {
        true => constructed(&response)?,
        false => attributes.are_whole().then(|| Page { status, ..Page::default() })?,
    };
    if let Some(value) = attributes.status {
        page.status = number(value)?;
    }
    page.frame_exempt = matches!(attributes.frame_exempt, Some(Value::Bool(true)));
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
    // Django appends to it.
    attributes.closers.is_none_or(|value| is_list(heap, value)).then_some(())?;
    if let Some(value) = attributes.cookies {
        page.headers.extend(cookie::fields(heap, value)?);
    }
    is_servable(&page).then_some(page)
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
                _ => return,
            };
            *attribute = Some(value);
        })?;
        Some(found)
    }

    /// The status alone has a default in the class.
    fn are_whole(&self) -> bool {
        let needed = [self.headers, self.container, self.cookies, self.closers, self.reason];
        needed.iter().all(Option::is_some)
    }
}

/// The status that a class has of its own; `None` for classes that are no responses or stream. Of the classes of others
/// nothing is known, and they are judged by their attributes.
fn class_status((module, name): (&str, &str)) -> Option<u16> {
    match (module, name) {
        ("django.http.response" | "django.http", name) => match name {
            "HttpResponse" | "JsonResponse" => Some(200),
            "HttpResponsePermanentRedirect" => Some(301),
            "HttpResponseRedirect" => Some(302),
            "HttpResponseNotModified" => Some(304),
            "HttpResponseBadRequest" => Some(400),
            "HttpResponseForbidden" => Some(403),
            "HttpResponseNotFound" => Some(404),
            "HttpResponseNotAllowed" => Some(405),
            "HttpResponseGone" => Some(410),
            "HttpResponseServerError" => Some(500),
            _ => None,
        },
        ("builtins" | "__builtin__", _) => None,
        _ => Some(200),
    }
}

/// What `HttpResponse(content, content_type, status, reason, charset, headers)` makes, as long as the content is bytes.
fn constructed(response: &Object<'_>) -> Option<Page> {
    if response.class.1 != "HttpResponse" || class_status(response.class).is_none() {
        return None;
    }
    let heap = response.heap;
    let mut args = response.args().fuse();
    let mut next = || args.next().unwrap_or(Value::None);
    let (body, content_type) = (bytes(heap, next())?, optional(heap, next())?);
    let status = match next() {
        Value::None => 200,
        value => number(value).filter(|status| (100..600).contains(status))?,
    };
    let (reason, charset) = (optional(heap, next())?, optional(heap, next())?);
    let mut headers: Vec<Field> = given(heap, next())?;
    match (find(&headers, "content-type"), content_type) {
        (None, None) => {
            let charset = charset.as_deref().unwrap_or("utf-8");
            headers.push(("Content-Type".to_owned(), format!("text/html; charset={charset}")));
        }
        (None, Some(content_type)) => headers.push(("Content-Type".to_owned(), content_type)),
        (Some(_), None) => {}
        (Some(_), Some(_)) => return None,
    }
    args.next().is_none().then_some(Page { status, reason, headers, body, ..Page::default() })
}

fn number(value: Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(number).ok(),
        _ => None,
    }
}

/// A text or None.
fn optional(heap: &Heap<'_>, value: Value) -> Option<Option<String>> {
    match value {
        Value::None => Some(None),
        _ => heap.text(value).map(|text| Some(text.to_owned())),
    }
}

fn is_list(heap: &Heap<'_>, value: Value) -> bool {
    matches!(value, Value::Node(id) if heap.kind(id) == Kind::List)
}

/// The attribute `_container`: chunks of bytes.
fn body(heap: &Heap<'_>, container: Value) -> Option<Bytes> {
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
