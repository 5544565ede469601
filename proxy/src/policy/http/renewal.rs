//! Validation: asks the origin whether a stored page is still current (RFC 9111 §4.3.1), and applies its 304 (§4.3.4).

use hyper::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, VARY,
};

use super::super::{SearchVariance, VaryList};

/// Adds conditions to a request, so that the origin sends a page only if it differs from the one with these headers. Returns
/// false if that page has no validator.
///
/// "A cache MUST send the relevant entity tags (using If-None-Match) [...] if the entity tags were provided", and "SHOULD
/// send the Last-Modified value (using If-Modified-Since)" (§4.3.1).
pub(crate) fn ask_if_current(request: &mut HeaderMap, page: &HeaderMap) -> bool {
    let conditions = [(IF_NONE_MATCH, page.get(ETAG)), (IF_MODIFIED_SINCE, page.get(LAST_MODIFIED))];
    let known = conditions.into_iter().filter_map(|(name, value)| Some((name, value?.clone())));
    known.fold(false, |_, (name, value)| {
        request.insert(name, value);
        true
    })
}

/// Whether a request asks by tag alone. An origin that answers such a request with a 304 has compared the tag: the page is
/// current, even if the 304 names another tag. A 304 to a date proves nothing about the tag.
pub(crate) fn asks_by_tag(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) && !request.contains_key(IF_MODIFIED_SINCE)
}

/// The meaning of a 304 for the page that the origin was asked about.
#[derive(Debug, PartialEq)]
pub(crate) enum Renewal {
    /// The page is current, and these are its headers now.
    Renewed(HeaderMap),
    /// The 304 is about another version. These are the headers that the page had, without its age.
    OtherVersion(HeaderMap),
    /// Other request headers select the page now.
    OtherSelection,
}

/// The meaning of a 304 for a page.
///
/// "The cache MUST add each header field in the provided response to the stored response, replacing field values that are
/// already present", but for the length, and "header fields that the cache's stored response depends upon" (§3.2).
pub(crate) fn renewed(page: &HeaderMap, answer: &HeaderMap) -> Renewal {
    let mut headers = page.clone();
    // The age of the page is counted anew, from the `Date` of the answer or, without one, from its arrival.
    headers.remove(AGE);
    headers.remove(DATE);
    if !is_about(answer, page) {
        headers.extend(answer.get(DATE).map(|date| (DATE, date.clone())));
        return Renewal::OtherVersion(headers);
    }
    // Some origins that compress their pages name the coding in the `Vary` of pages only, and not of 304s. Django is one of
    // them.
    let keeps_vary = selects_no_more(answer, page);
    let is_kept = |name| {
        [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, ETAG].contains(name)
            || (*name == VARY && keeps_vary)
    };
    for name in answer.keys().filter(|name| !is_kept(*name)) {
        headers.remove(name);
        headers.extend(answer.get_all(name).iter().map(|value| (name.clone(), value.clone())));
    }
    let selects = |headers: &HeaderMap| (VaryList::of(headers).ok(), SearchVariance::of(headers));
    match selects(page) == selects(&headers) {
        true => Renewal::Renewed(headers),
        false => Renewal::OtherSelection,
    }
}

/// Whether every header that selects the 304 also selects the page.
fn selects_no_more(answer: &HeaderMap, page: &HeaderMap) -> bool {
    let (Ok(new), Ok(old)) = (VaryList::of(answer), VaryList::of(page)) else { return false };
    new.names().iter().all(|name| old.names().contains(name))
}

/// "If the new response contains one or more strong validators [and] none of the stored responses contain at least one of the
/// same strong validators, then the cache MUST NOT use the new response to update any stored responses" (§4.3.4). A 304 without
/// a validator is about the one page that the request has named.
fn is_about(answer: &HeaderMap, page: &HeaderMap) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    match (answer.get(ETAG), page.get(ETAG)) {
        // Some origins that compress their pages weaken the tags of pages, but not those of 304s. Django is one of them.
        (Some(new), Some(old)) => opaque(new.as_bytes()) == opaque(old.as_bytes()),
        (Some(_), None) => false,
        (None, _) => answer.get(LAST_MODIFIED).is_none_or(|new| page.get(LAST_MODIFIED) == Some(new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn each_validator_of_the_page_becomes_a_condition() {
        for (page, expected, has_validator) in [
            (&[][..], &[][..], false),
            (&[("etag", "W/\"a\"")], &[("if-none-match", "W/\"a\"")], true),
            (&[("last-modified", "yesterday")], &[("if-modified-since", "yesterday")], true),
            (
                &[("etag", "\"a\""), ("last-modified", "x")],
                &[("if-none-match", "\"a\""), ("if-modified-since", "x")],
                true,
            ),
        ] {
            let mut request = HeaderMap::new();
            assert_eq!(ask_if_current(&mut request, &headers(page)), has_validator);
            assert_eq!(request, headers(expected));
        }
    }

    #[test]
    fn a_304_is_about_the_page_with_the_same_validator() {
        for (page, answer, expected) in [
            (&[("etag", "\"a\"")][..], &[("etag", "\"a\"")][..], true),
            (&[("etag", "\"a\"")], &[("etag", "\"b\"")], false),
            (&[("etag", "\"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("etag", "W/\"a\"")], &[("etag", "\"a\"")], true),
            (&[("vary", "accept, cookie")], &[("vary", "Cookie, Accept")], true),
            (&[("vary", "accept, cookie")], &[("vary", "cookie")], true),
            (&[("vary", "cookie")], &[("vary", "accept, cookie")], false),
            (&[("vary", "cookie")], &[], true),
            (&[], &[("vary", "*")], false),
            (&[("last-modified", "x")], &[("etag", "\"a\"")], false),
            (&[("last-modified", "x")], &[("last-modified", "x")], true),
            (&[("last-modified", "x")], &[("last-modified", "y")], false),
            (
                &[("etag", "\"a\""), ("last-modified", "x")],
                &[("etag", "\"a\""), ("last-modified", "y")],
                true,
            ),
            (&[("etag", "\"a\"")], &[], true),
        ] {
            let renewal = renewed(&headers(page), &headers(answer));
            assert_eq!(matches!(renewal, Renewal::Renewed(_)), expected, "{page:?} {answer:?}");
        }
    }

    #[test]
    fn a_304_replaces_all_fields_but_those_that_the_stored_body_needs() {
        let page = headers(&[
            ("age", "7"),
            ("date", "then"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "1"),
            ("content-length", "10"),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
        ]);
        let answer = headers(&[
            ("x-a", "3"),
            ("x-c", "4"),
            ("x-c", "5"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-type", "text/html"),
        ]);
        let expected = headers(&[
            ("x-a", "3"),
            ("x-b", "1"),
            ("x-c", "4"),
            ("x-c", "5"),
            ("content-length", "10"),
            ("content-encoding", "gzip"),
            ("content-type", "text/html"),
        ]);
        assert_eq!(renewed(&page, &answer), Renewal::Renewed(expected));
    }
}
