//! How the headers that a page varies on are compared (RFC 9111 §4.1).

use hyper::header::{ACCEPT_LANGUAGE, HeaderName};

use super::directives::items;
use crate::request::Lines;

/// The compared form of a header that selects a page; `None` if the request has no such line.
///
/// "The header fields from two requests are defined to match if and only if those in the first request can be transformed to
/// those in the second request by applying any of the following": "adding or removing whitespace, where allowed", "combining
/// multiple header field lines", and "normalizing both header field values in a way that is known to have identical
/// semantics": the case and the order of languages have no meaning.
pub(crate) fn selecting_value(name: &HeaderName, lines: Lines<'_>) -> Option<Vec<u8>> {
    let mut lines = lines.get_all(name).peekable();
    lines.peek()?;
    // Lines are combined first: a quote that begins in one line may end in the next.
    let line = lines.collect::<Vec<_>>().join(&b',');
    Some(if *name == ACCEPT_LANGUAGE {
        languages(&line)
    } else {
        items(&line).collect::<Vec<_>>().join(&b',')
    })
}

/// The languages in one case and order. They have no quotes.
fn languages(line: &[u8]) -> Vec<u8> {
    let mut line = line.to_ascii_lowercase();
    line.retain(|byte| !byte.is_ascii_whitespace());
    let mut languages: Vec<_> = line.split(|&byte| byte == b',').filter(|one| !one.is_empty()).collect();
    languages.sort_unstable();
    languages.join(&b',')
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn blanks_and_lines_do_not_matter_and_of_languages_neither_case_nor_order() {
        for (name, lines, expected) in [
            ("x-a", &[][..], None),
            ("x-a", &[""], Some("")),
            ("x-a", &["1, 2"], Some("1,2")),
            ("x-a", &["1", " 2 "], Some("1,2")),
            ("x-a", &["B, a"], Some("B,a")),
            ("x-a", &["\"1, 2\" ,3"], Some("\"1, 2\",3")),
            ("x-a", &["\"1, 2\" ,3", "4\""], Some("\"1,2\",3,4\"")),
            ("x-a", &["\"1", " 2\""], Some("\"1, 2\"")),
            ("accept-language", &["en, de"], Some("de,en")),
            ("accept-language", &[" De ,  eN"], Some("de,en")),
            ("accept-language", &["de ; q=0.5", "en"], Some("de;q=0.5,en")),
            ("accept-language", &["y\"z", "\"a, b\""], Some("\"a,b\",y\"z")),
        ] {
            let name = HeaderName::from_static(name);
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(&name, HeaderValue::from_static(line));
            }
            let found = selecting_value(&name, Lines::Map(&headers));
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name} {lines:?}");
        }
    }
}
