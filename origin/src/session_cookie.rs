//! The one thing that Django's session middleware does without a session: it deletes an invalid session cookie.

use hyper::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE, VARY};

use crate::headers;

/// Shorter keys are not session keys (`SessionBase._validate_session_key`).
const MIN_KEY: usize = 8;

/// Whether the client sent a session cookie whose key is too short to be valid.
pub(crate) fn is_dead(request: &HeaderMap) -> bool {
    let Some(cookies) = headers::joined(request, &COOKIE) else { return false };
    let cookies = String::from_utf8_lossy(&cookies);
    let mut pairs = cookies.split(';').filter_map(|cookie| cookie.split_once('='));
    let key = pairs.rfind(|(name, _)| name.trim() == "sessionid");
    key.is_some_and(|(_, key)| length(key.trim()) < MIN_KEY)
}

/// The number of characters of a value as Python's `http.cookies` reads it, which undoes quotes and escapes.
fn length(value: &str) -> usize {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(mut rest) = quoted else { return value.chars().count() };
    let mut length = 0;
    while !rest.is_empty() {
        rest = after_first(rest);
        length += 1;
    }
    length
}

/// The text after the first character, which may be escaped as `\"` or, in octal, as `\042`.
fn after_first(text: &str) -> &str {
    if let [b'\\', b'0'..=b'3', b'0'..=b'7', b'0'..=b'7', ..] = text.as_bytes() {
        return &text[4..];
    }
    let mut rest = text.chars();
    if rest.next() == Some('\\') {
        rest.next();
    }
    rest.as_str()
}

/// Adds the `Vary` of such an answer. It precedes the headers of the security middleware.
pub(crate) fn vary(headers: &mut HeaderMap) {
    headers.insert(VARY, HeaderValue::from_static("Cookie"));
}

/// Adds the `Set-Cookie` that deletes the cookie.
pub(crate) fn delete(headers: &mut HeaderMap) {
    const DELETED: &str =
        "sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax";
    headers.insert(SET_COOKIE, HeaderValue::from_static(DELETED));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_are_too_short_are_dead() {
        for (cookie, expected) in [
            ("sessionid=nope; a=b", true),
            ("a=b; sessionid=", true),
            ("sessionid=\"nope\"", true),
            ("sessionid=12345678", false),
            ("sessionid=no; sessionid=12345678", false),
            ("sessionid=12345678; sessionid=no", true),
            ("sessionid = no ", true),
            ("sessionid", false),
            ("a=b, sessionid=no", false),
            // A single quote mark is an ordinary character.
            ("sessionid=\"1234567", false),
            ("sessionid=\"1234567\"", true),
            ("sessionid=\"\\\"\\\"\\\"4567\"", true),
            ("sessionid=\"12\\063\\064567\"", true),
            ("sessionid=\"\\1234567\"", true),
            ("sessionid=\"1234567\\\"", false),
            ("xsessionid=nope", false),
            ("a=b", false),
        ] {
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))]);
            assert_eq!(is_dead(&headers), expected, "{cookie}");
        }
    }

    #[test]
    fn the_length_is_counted_in_characters_not_bytes() {
        for (cookie, expected) in [
            ("sessionid=\u{e9}\u{e9}\u{e9}\u{e9}", true),
            ("sessionid=\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", false),
            ("x=\u{e9}; sessionid=no", true),
            ("sessionid=\u{a0}1234567", true),
        ] {
            let headers =
                HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap())]);
            assert_eq!(is_dead(&headers), expected, "{cookie}");
        }
    }

    #[test]
    fn several_headers_are_one_list() {
        let lines = |lines: [&'static str; 2]| {
            is_dead(&lines.map(|line| (COOKIE, HeaderValue::from_static(line))).into_iter().collect())
        };
        assert!(lines(["a=b;", "c; sessionid=no"]));
        assert!(!lines(["a=b", "sessionid=no"]));
    }
}
