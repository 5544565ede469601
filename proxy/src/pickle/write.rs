//! Writes values that Django 4.2 to 6.1 serve, with both backends.

use bytes::Bytes;

use super::field::{Field, find, is_servable};
use super::opcode::*;
use super::page::PickledPage;

/// The pickle protocol, which differs between the two backends. Each backend reads both.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// The protocol of django-redis.
    Four = 4,
    /// The protocol of `django.core.cache.backends.redis`.
    #[default]
    Five = 5,
}

/// Headers that each server makes itself. Some of Django's servers refuse them in a response.
const NEVER_WRITTEN: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Writes the list of request headers that the pages of a path vary on, with Django's names.
pub fn write_list(names: &[String]) -> Bytes {
    let mut pickle = Pickle::new(Protocol::Four, names.iter().map(|name| name.len() + 5).sum::<usize>() + 8);
    pickle.codes(&[EMPTY_LIST, MARK]);
    for name in names {
        pickle.text(name);
    }
    pickle.codes(&[APPENDS]);
    pickle.finish()
}

/// Writes a page. `None` if Django could not serve it, or if it sets a cookie, which every client would get. Fields of
/// one name are joined as in RFC 9110 §5.3, because Django has one value for each name.
pub fn write_page(page: &PickledPage, protocol: Protocol) -> Option<Bytes> {
    let fields = joined(&page.headers);
    if find(&fields, "set-cookie").is_some() || !is_servable(page.status, page.reason.as_deref(), &fields) {
        return None;
    }
    // The parts that all pages have in common take about 300 bytes.
    let head: usize = fields.iter().map(|(name, value)| 2 * name.len() + value.len() + 16).sum();
    let content = page.body.len() + page.forms.as_ref().map_or(0, Bytes::len);
    let mut pickle = Pickle::new(protocol, head + content + 512);
    pickle.object("django.http.response", "HttpResponse");
    pickle.codes(&[EMPTY_DICT, MARK]);
    pickle.headers(&fields);
    pickle.item("_charset", &[NONE]);
    pickle.item("_resource_closers", &[EMPTY_LIST]);
    pickle.item("_handler_class", &[NONE]);
    pickle.text("cookies");
    pickle.object("http.cookies", "SimpleCookie");
    pickle.item("closed", &[NEWFALSE]);
    let [low, high] = page.status.to_le_bytes();
    pickle.item("status_code", &[BININT2, low, high]);
    match &page.reason {
        None => pickle.item("_reason_phrase", &[NONE]),
        Some(reason) => {
            pickle.text("_reason_phrase");
            pickle.text(reason);
        }
    }
    pickle.item("_container", &[EMPTY_LIST]);
    pickle.bytes(&page.body);
    pickle.codes(&[APPEND]);
    if page.frame_exempt {
        pickle.item("xframe_options_exempt", &[NEWTRUE]);
    }
    if let Some(note) = &page.note {
        pickle.text("_cachepage");
        pickle.text(note);
    }
    if let Some(forms) = &page.forms {
        pickle.text("_cachepage_forms");
        pickle.bytes(forms);
    }
    pickle.codes(&[SETITEMS, BUILD]);
    Some(pickle.finish())
}

fn joined(fields: &[Field]) -> Vec<Field> {
    let mut joined: Vec<Field> = Vec::with_capacity(fields.len());
    for (name, value) in fields.iter().filter(|(name, _)| is_written(name)) {
        match joined.iter_mut().find(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
            Some((_, earlier)) => {
                earlier.push_str(", ");
                earlier.push_str(value);
            }
            None => joined.push((name.clone(), value.clone())),
        }
    }
    joined
}

fn is_written(name: &str) -> bool {
    !NEVER_WRITTEN.iter().any(|never| name.eq_ignore_ascii_case(never))
}

/// A pickle that is being written.
struct Pickle(Vec<u8>);

impl Pickle {
    fn new(protocol: Protocol, capacity: usize) -> Self {
        let mut pickle = Vec::with_capacity(capacity);
        pickle.extend_from_slice(&[PROTO, protocol as u8]);
        Self(pickle)
    }

    fn finish(mut self) -> Bytes {
        self.codes(&[STOP]);
        Bytes::from(self.0)
    }

    fn codes(&mut self, codes: &[u8]) {
        self.0.extend_from_slice(codes);
    }

    fn item(&mut self, name: &str, value: &[u8]) {
        self.text(name);
        self.codes(value);
    }

    /// Writes a bare object of a class.
    fn object(&mut self, module: &str, class: &str) {
        self.text(module);
        self.text(class);
        self.codes(&[STACK_GLOBAL, EMPTY_TUPLE, NEWOBJ]);
    }

    /// Writes the attribute `headers`. Django looks a value up by its lower-case name.
    fn headers(&mut self, fields: &[Field]) {
        self.text("headers");
        self.object("django.http.response", "ResponseHeaders");
        self.codes(&[EMPTY_DICT]);
        self.text("_store");
        self.codes(&[EMPTY_DICT, MARK]);
        for (name, value) in fields {
            self.text(&name.to_ascii_lowercase());
            self.text(name);
            self.text(value);
            self.codes(&[TUPLE2]);
        }
        self.codes(&[SETITEMS, SETITEM, BUILD]);
    }

    fn text(&mut self, text: &str) {
        self.counted([SHORT_BINUNICODE, BINUNICODE, BINUNICODE8], text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.counted([SHORT_BINBYTES, BINBYTES, BINBYTES8], bytes);
    }

    /// Writes one of three opcodes, for lengths of one, four or eight bytes.
    fn counted(&mut self, [short, long, longest]: [u8; 3], content: &[u8]) {
        if let Ok(length) = u8::try_from(content.len()) {
            self.codes(&[short, length]);
        } else if let Ok(length) = u32::try_from(content.len()) {
            self.codes(&[long]);
            self.codes(&length.to_le_bytes());
        } else {
            self.codes(&[longest]);
            self.codes(&content.len().to_le_bytes());
        }
        self.codes(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pickle::{read_list, read_page};

    fn page(fields: &[(&str, &str)]) -> PickledPage {
        let headers = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PickledPage { status: 200, headers, body: Bytes::from_static(b"<p>"), ..PickledPage::default() }
    }

    #[test]
    fn lists_are_written_in_few_bytes() {
        assert_eq!(write_list(&[]), &b"\x80\x04](e."[..]);
        assert_eq!(write_list(&["HTTP_ACCEPT".to_owned()]), &b"\x80\x04](\x8c\x0bHTTP_ACCEPTe."[..]);
        let names = vec!["\u{6771}".repeat(200), String::new()];
        assert_eq!(read_list(&write_list(&names)), Some(names));
    }

    #[test]
    fn each_backend_has_its_protocol() {
        assert_eq!(write_page(&page(&[]), Protocol::Four).unwrap()[..2], *b"\x80\x04");
        assert_eq!(write_page(&page(&[]), Protocol::Five).unwrap()[..2], *b"\x80\x05");
    }

    #[test]
    fn texts_of_every_length_class_read_back() {
        for length in [0, 255, 256, 65_535, 65_536] {
            let page =
                PickledPage { body: vec![b'x'; length].into(), note: Some("n".repeat(length)), ..page(&[]) };
            assert_eq!(read_page(&write_page(&page, Protocol::Five).unwrap()), Some(page), "{length}");
        }
    }

    #[test]
    fn pages_that_django_could_not_serve_are_refused() {
        for (rule, page) in [
            ("a cookie", page(&[("set-cookie", "a=b")])),
            ("a max-age without Expires", page(&[("Cache-Control", "max-age=60")])),
            ("a line feed", page(&[("A", "b\nc")])),
            ("a letter beyond Latin-1", page(&[("A", "\u{100}")])),
            ("a name that is not a token", page(&[("A b", "c")])),
            ("an interim status", PickledPage { status: 100, ..page(&[]) }),
            ("a reason of two lines", PickledPage { reason: Some("a\nb".to_owned()), ..page(&[]) }),
        ] {
            assert_eq!(write_page(&page, Protocol::Five), None, "{rule}");
        }
    }

    #[test]
    fn headers_that_each_server_makes_are_left_out() {
        let written = write_page(
            &page(&[("Date", "x"), ("CONTENT-LENGTH", "9"), ("A", "b"), ("te", "x")]),
            Protocol::Five,
        );
        assert_eq!(read_page(&written.unwrap()), Some(page(&[("A", "b")])));
    }

    #[test]
    fn fields_of_one_name_are_joined() {
        let written = write_page(&page(&[("Vary", "A"), ("X", "1"), ("vary", "B")]), Protocol::Five);
        assert_eq!(read_page(&written.unwrap()), Some(page(&[("Vary", "A, B"), ("X", "1")])));
    }
}
