//! The absolute URI of a request, which Django hashes (`HttpRequest.build_absolute_uri`).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode};

/// All characters except Python's unreserved ones.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~');

/// The characters that `escape_uri_path` escapes, among them `;`, `=` and `?`.
const PATH: &AsciiSet = &RESERVED
    .remove(b'/')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'+')
    .remove(b'$')
    .remove(b',')
    .remove(b'!')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The characters that `iri_to_uri` escapes. It leaves a `%` as it is.
const IRI: &AsciiSet =
    &PATH.remove(b'#').remove(b'%').remove(b'[').remove(b']').remove(b'=').remove(b';').remove(b'?');

/// The parts of a request's address, as Django sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address<'a> {
    pub(crate) scheme: &'a str,
    /// The Host, as the client sent it.
    pub(crate) host: &'a [u8],
    /// FORCE_SCRIPT_NAME, or the empty text.
    pub(crate) script_name: &'a str,
    /// The path, as the client sent it.
    pub(crate) path: &'a str,
    /// The query, as the client sent it.
    pub(crate) query: &'a str,
}

impl Address<'_> {
    /// The URI. The path is decoded and escaped again; the query stays as it was sent, except that characters which a
    /// URI cannot contain are escaped.
    pub(crate) fn uri(&self) -> String {
        let path = without_dots(&self.escaped_path()).into_owned();
        let host = percent_encode(self.host, IRI);
        let mut uri = format!("{}://{host}{path}", self.scheme);
        if !self.query.is_empty() {
            uri.push('?');
            uri.extend(percent_encode(self.query.as_bytes(), IRI));
        }
        uri
    }

    fn escaped_path(&self) -> String {
        let decoded: Vec<u8> = percent_decode_str(self.path).collect();
        let path = repercent_broken_unicode(&decoded);
        let path = format!("{}/{}", self.script_name.trim_end_matches('/'), path.replacen('/', "", 1));
        utf8_percent_encode(&path, PATH).to_string()
    }
}

/// Bytes that are not UTF-8 stay percent-encoded, and are escaped once more later: `%E9` becomes `%25E9`.
fn repercent_broken_unicode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(percent_encode(chunk.invalid(), IRI));
    }
    text
}

/// Django resolves a path with Python's `urljoin` if it contains `/./` or `/../`. Dots only at the end do not count.
fn without_dots(path: &str) -> Cow<'_, str> {
    if !path.contains("/./") && !path.contains("/../") {
        return Cow::Borrowed(path);
    }
    let mut resolved = Vec::new();
    let mut last = "";
    for segment in path.split('/') {
        match segment {
            ".." => drop(resolved.pop()),
            "." => {}
            _ => resolved.push(segment),
        }
        last = segment;
    }
    if last == "." || last == ".." {
        resolved.push("");
    }
    let joined = resolved.join("/");
    Cow::Owned(if joined.starts_with('/') { joined } else { format!("/{joined}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(path: &str, query: &str) -> String {
        Address { scheme: "http", host: b"h", script_name: "", path, query }.uri()
    }

    /// Recorded from Django 5.2.19: `RequestFactory().get()` with PATH_INFO and QUERY_STRING as gunicorn makes them.
    #[test]
    fn uris_are_those_of_django() {
        for (path, query, expected) in [
            ("/p/", "", "/p/"),
            ("/%7Euser/%2D%5F%2E", "", "/~user/-_."),
            ("/a%3Bb%3Dc%2Cd%40e%3Af%24g%21", "", "/a%3Bb%3Dc,d@e:f$g!"),
            ("/caf%c3%a9/", "", "/caf%C3%A9/"),
            ("/caf%E9/x", "", "/caf%25E9/x"),
            ("/%E2%82/", "", "/%25E2%2582/"),
            ("/%zz", "", "/%25zz"),
            ("/a%2Fb", "", "/a/b"),
            ("//a//b", "", "//a//b"),
            ("/a/../b", "x=/../", "/b?x=/../"),
            ("/a/%2E%2E/b", "", "/b"),
            ("/a/..", "", "/a/.."),
            ("/a/./b/..", "", "/a/"),
            ("/../../a", "", "/a"),
            ("//a/../b", "", "//b"),
            ("/./", "", "/"),
            ("/p", "a=%c3&b=[1];c", "/p?a=%c3&b=[1];c"),
            ("/p", "\"<x>\"|^`{}\\", "/p?%22%3Cx%3E%22%7C%5E%60%7B%7D%5C"),
        ] {
            assert_eq!(uri(path, query), format!("http://h{expected}"), "{path}?{query}");
        }
    }

    #[test]
    fn a_script_name_precedes_the_path() {
        for (script_name, expected) in
            [("/app", "/app/p/"), ("/app/", "/app/p/"), ("/é", "/%C3%A9/p/"), ("", "/p/")]
        {
            let address = Address { scheme: "https", host: b"H:443", script_name, path: "/p/", query: "" };
            assert_eq!(address.uri(), format!("https://H:443{expected}"));
        }
    }
}
