//! The server's own reader: the head of a plain GET or HEAD.
//!
//! It accepts less than hyper does, and reads every accepted head as hyper reads it (a fuzz target compares the two). A head
//! that it does not accept is no fault: hyper gets the bytes, and decides.

use std::mem::MaybeUninit;
use std::ops::Range;

use hyper::Method;
use hyper::body::Bytes;
use memchr::memchr;
use smallvec::SmallVec;

use crate::limits::ClientLimits;

/// The end of a head. A head whose lines end with a line feed alone is left to hyper.
const END: &[u8] = b"\r\n\r\n";

/// The most lines that are read here. Browsers send some twenty.
const MAX_LINES: usize = 64;

/// The places of a head's parts in its bytes. Offsets fit, since no head is longer than the buffer it is read into.
#[derive(Clone, Debug)]
struct Layout {
    method: Method,
    target: Range<u16>,
    lines: SmallVec<[LineLayout; 24]>,
    names: NameSet,
}

/// Where a header line lies, without the blanks around its value.
#[derive(Clone, Debug)]
struct LineLayout {
    name: Range<u16>,
    value: Range<u16>,
    /// The place of its name in a [`NameSet`].
    place: u8,
}

/// The names of a head's lines, each as one bit. Decisions ask for many names that most heads do not have: a name whose bit is
/// missing is looked for in no line, and others only in the lines whose names have the same bit.
#[derive(Clone, Copy, Debug, Default)]
struct NameSet(u128);

impl NameSet {
    fn add(&mut self, place: u8) {
        self.0 |= 1 << place;
    }

    /// Whether the set may have a name with this place. If this is false, the set does not have it.
    fn may_have(self, place: u8) -> bool {
        self.0 & 1 << place != 0
    }

    /// The place of a name's bit, below 128: that of the name in any case, by its length and two of its bytes.
    fn place(name: &[u8]) -> u8 {
        // In lower case. Bytes that are no letters may become equal.
        let byte = |at: usize| name.get(at).map_or(0, |byte| usize::from(byte | 0x20));
        ((5 * name.len() + 3 * byte(name.len() / 2) + byte(0)) % 128) as u8
    }
}

/// The head of a plain request, in borrowed bytes.
#[derive(Debug)]
pub struct RequestHead<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

/// The head of a plain request with its bytes, for as long as its answer is looked for.
#[derive(Debug)]
pub(crate) struct KeptHead {
    pub(crate) bytes: Bytes,
    layout: Layout,
}

impl<'a> RequestHead<'a> {
    /// Reads bytes that are exactly one whole head: GET or HEAD in HTTP/1.1 with one Host, without a body, an `Expect`, an
    /// `Upgrade` or a `Connection` other than keep-alive. `None` for anything else.
    pub fn read(bytes: &'a [u8], limits: &ClientLimits) -> Option<Self> {
        let is_measured = bytes.len() <= limits.head.min(u16::MAX.into())
            && memchr(b'\n', bytes).is_some_and(|end| end < limits.request_line);
        // hyper skips empty lines before a request.
        let is_begun = bytes.first().is_some_and(u8::is_ascii_uppercase);
        if !is_measured || !is_begun || !bytes.ends_with(END) {
            return None;
        }
        let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut lines) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            _ => return None,
        }
        let method = match parsed.method {
            Some("GET") => Method::GET,
            Some("HEAD") => Method::HEAD,
            _ => return None,
        };
        let target = parsed.path.filter(|target| is_plain_target(target.as_bytes()))?;
        if parsed.version != Some(1) || parsed.headers.len() > limits.headers || !are_plain(parsed.headers) {
            return None;
        }
        let at = |part: &[u8]| {
            // Both are parts of `bytes`, whose length fits.
            let start = part.as_ptr().addr() - bytes.as_ptr().addr();
            start as u16..(start + part.len()) as u16
        };
        let mut names = NameSet::default();
        let lines = parsed.headers.iter().map(|line| {
            let place = NameSet::place(line.name.as_bytes());
            names.add(place);
            LineLayout { name: at(line.name.as_bytes()), value: at(line.value), place }
        });
        let lines = lines.collect();
        Some(Self { bytes, layout: Layout { method, target: at(target.as_bytes()), lines, names } })
    }

    /// GET or HEAD.
    pub fn method(&self) -> &Method {
        &self.layout.method
    }

    /// Path and query, as they were sent.
    pub fn target(&self) -> &'a str {
        // The reader has accepted ASCII only.
        std::str::from_utf8(self.part(&self.layout.target)).unwrap_or("/")
    }

    /// The header lines in their order: names as they were sent, values without the blanks around them.
    pub fn lines(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.layout.lines.iter().map(|line| (self.part(&line.name), self.part(&line.value)))
    }

    /// The values of all lines of this name, which is in lower case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let place = NameSet::place(name.as_bytes());
        let lines = if self.layout.names.may_have(place) { &self.layout.lines[..] } else { &[] };
        let named = move |line: &&LineLayout| {
            line.place == place && self.part(&line.name).eq_ignore_ascii_case(name.as_bytes())
        };
        lines.iter().filter(named).map(|line| self.part(&line.value))
    }

    fn part(&self, range: &Range<u16>) -> &'a [u8] {
        &self.bytes[usize::from(range.start)..usize::from(range.end)]
    }

    pub(crate) fn keep(self) -> KeptHead {
        KeptHead { bytes: Bytes::copy_from_slice(self.bytes), layout: self.layout }
    }
}

impl KeptHead {
    pub(crate) fn borrow(&self) -> RequestHead<'_> {
        RequestHead { bytes: &self.bytes, layout: self.layout.clone() }
    }
}

/// Whether a target is a path with or without a query, in characters that every reader takes literally.
fn is_plain_target(target: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = b'!';
        while byte <= b'~' {
            // RFC 3986 does not allow these in a path or a query. `http::Uri` drops everything after a `#`.
            plain[byte as usize] = !matches!(
                byte,
                b'"' | b'#' | b'<' | b'>' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}'
            );
            byte += 1;
        }
        plain
    };
    target.first() == Some(&b'/') && target.iter().all(|&byte| PLAIN[usize::from(byte)])
}

/// Whether no line is about a body or the connection, and one line is the Host.
fn are_plain(lines: &[httparse::Header<'_>]) -> bool {
    let mut hosts = 0;
    for line in lines {
        // The length tells most names apart from the special ones.
        let is_plain = match line.name.len() {
            4 => {
                hosts += usize::from(line.name.eq_ignore_ascii_case("host"));
                true
            }
            6 => !line.name.eq_ignore_ascii_case("expect"),
            7 => !line.name.eq_ignore_ascii_case("upgrade"),
            10 => {
                !line.name.eq_ignore_ascii_case("connection")
                    || line.value.eq_ignore_ascii_case(b"keep-alive")
            }
            14 => !line.name.eq_ignore_ascii_case("content-length"),
            17 => !line.name.eq_ignore_ascii_case("transfer-encoding"),
            _ => true,
        };
        if !is_plain {
            return false;
        }
    }
    hosts == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method, target and lines, escaped.
    type Parts = (String, String, Vec<(String, String)>);

    fn read(text: &[u8]) -> Option<Parts> {
        let head = RequestHead::read(text, &ClientLimits::default())?;
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let lines = head.lines().map(|(name, value)| (text(name), text(value)));
        Some((head.method().to_string(), head.target().to_owned(), lines.collect()))
    }

    #[test]
    fn a_name_is_found_in_any_case() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nauthorization: b\r\nCOOKIE: c\r\nX-Forwarded-For: d\r\nx_Y-1: e\r\nA: f\r\n\r\n";
        let head = RequestHead::read(text, &ClientLimits::default()).unwrap();
        for name in ["host", "authorization", "cookie", "x-forwarded-for", "x_y-1", "a"] {
            assert_eq!(head.values(name).count(), 1, "{name}");
        }
        assert_eq!(["range", "if-none-match", "b"].map(|name| head.values(name).count()), [0; 3]);
    }

    #[test]
    fn a_plain_head_is_read_into_its_parts() {
        let head =
            b"GET /a/%2e?b=c HTTP/1.1\r\nHOST: a\r\nX-Two:  1 \r\nx-two:2\r\nConnection: Keep-Alive\r\n\r\n";
        let (method, target, lines) = read(head).unwrap();
        assert_eq!((method.as_str(), target.as_str()), ("GET", "/a/%2e?b=c"));
        let expected = [("HOST", "a"), ("X-Two", "1"), ("x-two", "2"), ("Connection", "Keep-Alive")];
        assert_eq!(lines, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let head = RequestHead::read(head, &ClientLimits::default()).unwrap();
        assert_eq!(head.values("x-two").collect::<Vec<_>>(), [b"1", b"2"]);
        let kept = head.keep();
        assert_eq!(kept.borrow().target(), "/a/%2e?b=c");
    }

    #[test]
    fn what_is_no_plain_head_is_left_to_hyper() {
        for text in [
            "",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nG",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\"a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn limits_hold() {
        let limits = ClientLimits { request_line: 40, head: 100, headers: 2, ..ClientLimits::default() };
        let is_read = |text: &str| RequestHead::read(text.as_bytes(), &limits).is_some();
        let line = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 16));
        assert!(is_read(&line(40)) && !is_read(&line(41)));
        let head =
            |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(length - 32));
        assert!(is_read(&head(100)) && !is_read(&head(101)));
        assert!(!is_read("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n\r\n"));
    }

    #[test]
    fn a_plain_target_is_of_the_characters_of_rfc_3986() {
        for byte in 0..=u8::MAX {
            let text = [b"GET /", &[byte][..], b"a HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            let is_plain = byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&byte);
            assert_eq!(read(&text).is_some(), is_plain, "{}", byte.escape_ascii());
        }
    }

    #[test]
    fn a_value_is_any_text_without_the_blanks_around_it() {
        for (line, value) in [
            ("A:", ""),
            ("A: \t ", ""),
            ("A:b", "b"),
            ("A:  b c\t", "b c"),
            ("A: :", ":"),
            ("A: \u{e4}", "\\xc3\\xa4"),
        ] {
            let (_, _, lines) =
                read(format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(lines[1], ("A".to_owned(), value.to_owned()), "{line:?}");
        }
        for line in ["A", ": b", "A\0: b", "A: \0", "A: b\rc", "A: \u{7f}", "(A): b"] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
            assert_eq!(read(text.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn a_name_is_found_in_any_case_and_as_a_whole() {
        let text = b"HEAD / HTTP/1.1\r\nhOST: a\r\nVary: 1\r\nX-Vary: 2\r\nVar: 3\r\nVARY: 4\r\n\r\n";
        let head = RequestHead::read(text, &ClientLimits::default()).unwrap();
        assert_eq!(head.method(), Method::HEAD);
        assert_eq!(head.values("vary").collect::<Vec<_>>(), [b"1", b"4"]);
        assert_eq!(head.values("host").collect::<Vec<_>>(), [b"a"]);
        assert_eq!(head.values("none").count(), 0);
        let kept = head.keep();
        assert_eq!((kept.borrow().lines().count(), &kept.bytes[..]), (5, &text[..]));
    }

    #[test]
    fn a_head_of_more_lines_than_browsers_send_is_left_to_hyper() {
        let head =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
        assert!(read(head(MAX_LINES).as_bytes()).is_some());
        assert!(read(head(MAX_LINES + 1).as_bytes()).is_none());
    }
}
