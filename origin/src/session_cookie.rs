//! The one thing that Django's session middleware does without a session: it deletes a cookie that can be none.

use hyper::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE, VARY};

/// Shorter keys are no session keys (`SessionBase._validate_session_key`).
const MIN_KEY: usize = 8;

/// Whether the client sent a session cookie that no session can have.
pub(crate) fn is_dead(request: &HeaderMap) -> bool {
    let cookies =
        request.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut keys =
        cookies.filter_map(|cookie| cookie.split_once('=')).filter(|(name, _)| name.trim() == "sessionid");
    keys.next_back().is_some_and(|(_, key)| key.trim().trim_matches('"').len() < MIN_KEY)
}

/// What the answer says of it, before the headers of the security middleware.
pub(crate) fn vary(headers: &mut HeaderMap) {
    headers.insert(VARY, HeaderValue::from_static("Cookie"));
}

/// The deletion itself.
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
            ("xsessionid=nope", false),
            ("a=b", false),
        ] {
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))]);
            assert_eq!(is_dead(&headers), expected, "{cookie}");
        }
    }
}
