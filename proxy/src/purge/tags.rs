//! The tags that an origin gives to its answers.

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::request::receive::take;

/// The headers with tags. They are for caches, so they are removed from every answer.
const HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("xkey"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("x-cache-tags"),
];

/// The groups of RFC 9875, which clients see, too.
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The separator in [`Tags::text`]. No header can have it inside a tag.
const TAB: u8 = b'\t';

/// The tags of an answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tags(Bytes);

impl Tags {
    /// Takes the tags out of an answer's headers.
    pub(crate) fn take(headers: &mut HeaderMap) -> Self {
        if !Self::are_named(headers) {
            return Self::default();
        }
        Self::of(&take(headers, |name| HEADERS.contains(name)))
    }

    /// Whether a header names tags.
    pub(crate) fn are_named(headers: &HeaderMap) -> bool {
        HEADERS.iter().any(|name| headers.contains_key(name))
    }

    /// The tags that headers name: the headers of an answer, or of a request that purges them.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut text = Vec::new();
        for name in &HEADERS {
            let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
            lines.flat_map(|line| split(name, line)).for_each(|tag| push(&mut text, tag));
        }
        Self(text.into())
    }

    /// Tags as [`text`](Self::text) has written them.
    pub(crate) fn from_text(text: Bytes) -> Self {
        Self(text)
    }

    /// The tags, with tabs between them.
    pub(crate) fn text(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == TAB).filter(|tag| !tag.is_empty())
    }

    /// Headers that name these tags.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        // A tag with a blank comes from a header with commas as separators, and a tag with a comma from one with blanks.
        let join = |has_blank: bool, separator: &[u8]| {
            let tags: Vec<_> = self.iter().filter(|tag| tag.contains(&b' ') == has_blank).collect();
            HeaderValue::from_bytes(&tags.join(separator)).ok().filter(|_| !tags.is_empty())
        };
        let [surrogate_key, _, cache_tag, _] = HEADERS;
        let lines = [(surrogate_key, join(false, b" ")), (cache_tag, join(true, b","))];
        lines.into_iter().filter_map(|(name, line)| Some((name, line?)))
    }

    /// Whether a page with these tags and the groups in these headers is not stored.
    pub(crate) fn are_too_many(&self, headers: &HeaderMap) -> bool {
        /// The limits: a page is looked up by each of its tags, and Cloudflare allows 16 KiB.
        const MOST: usize = 128;
        const LONGEST: usize = 16 << 10;
        let groups: usize = headers.get_all(CACHE_GROUPS).iter().map(HeaderValue::len).sum();
        self.0.len() + groups > LONGEST || self.iter().count() + self::groups(headers).len() > MOST
    }
}

/// The tags in a line. They are separated by blanks in `Surrogate-Key`, by blanks and commas in `xkey`, and by commas
/// elsewhere.
fn split<'a>(name: &HeaderName, line: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let (at_blanks, at_commas) = match name.as_str() {
        "surrogate-key" => (true, false),
        "xkey" => (true, true),
        _ => (false, true),
    };
    let is_end =
        move |byte: &u8| *byte == TAB || (at_blanks && *byte == b' ') || (at_commas && *byte == b',');
    line.split(is_end).map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty())
}

fn push(text: &mut Vec<u8>, tag: &[u8]) {
    if !text.is_empty() {
        text.push(TAB);
    }
    text.extend_from_slice(tag);
}

/// The groups of an answer (RFC 9875 §2): a list of strings. Any other field is ignored.
pub(super) fn groups(headers: &HeaderMap) -> Vec<String> {
    strings(headers, &CACHE_GROUPS)
}

/// The groups that an answer to an unsafe request purges (RFC 9875 §3).
pub(crate) fn invalidated_groups(headers: &HeaderMap) -> Vec<String> {
    strings(headers, &CACHE_GROUP_INVALIDATION)
}

/// The members of a list of strings (RFC 9651 §3.1); none if the header is something else.
fn strings(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return Vec::new();
    }
    let string = |member: sfv::ListEntry| match member {
        sfv::ListEntry::Item(item) => match item.bare_item {
            sfv::BareItem::String(text) => Some(String::from(text)),
            _ => None,
        },
        sfv::ListEntry::InnerList(_) => None,
    };
    let list = sfv::Parser::new(&lines.join(&b", "[..])).parse::<sfv::List>().unwrap_or_default();
    list.into_iter().map(string).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn texts(tags: &Tags) -> Vec<String> {
        tags.iter().map(|tag| String::from_utf8_lossy(tag).into_owned()).collect()
    }

    #[test]
    fn each_header_has_its_separators_and_lines_add_up() {
        let mut answer = headers(&[
            ("a", "1"),
            ("surrogate-key", "one  two,2"),
            ("xkey", "three, four five"),
            ("cache-tag", " six six , seven,,"),
            ("b", "2"),
            ("x-cache-tags", "Eight"),
        ]);
        answer.append("surrogate-key", "nine".parse().unwrap());
        let tags = Tags::take(&mut answer);
        let expected = ["one", "two,2", "nine", "three", "four", "five", "six six", "seven", "Eight"];
        assert_eq!(texts(&tags), expected);
        assert_eq!(answer, headers(&[("a", "1"), ("b", "2")]));
        let mut again: HeaderMap = tags.headers().collect();
        assert_eq!(again["surrogate-key"], "one two,2 nine three four five seven Eight");
        assert_eq!(again["cache-tag"], "six six");
        let mut both = texts(&Tags::take(&mut again));
        both.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(both, expected);
        assert_eq!(Tags::take(&mut headers(&[("a", "1")])), Tags::default());
    }

    #[test]
    fn groups_are_a_list_of_strings_or_ignored() {
        for (line, expected) in [
            ("\"a\", \"b \\\"c\\\"\";x=1", &["a", "b \"c\""][..]),
            ("\"a\", b", &[]),
            ("\"a", &[]),
            ("", &[]),
            ("(\"a\" \"b\")", &[]),
        ] {
            assert_eq!(groups(&headers(&[("cache-groups", line)])), expected, "{line}");
        }
    }

    #[test]
    fn tags_are_bounded_in_number_and_size() {
        let tags = |count: usize, length: usize| {
            let line = vec!["t".repeat(length); count].join(" ");
            Tags::of(&headers(&[("surrogate-key", &line)]))
        };
        let none = HeaderMap::new();
        assert!(!tags(128, 1).are_too_many(&none));
        assert!(tags(129, 1).are_too_many(&none));
        assert!(!tags(1, 16 << 10).are_too_many(&none));
        assert!(tags(1, (16 << 10) + 1).are_too_many(&none));
        assert!(tags(128, 1).are_too_many(&headers(&[("cache-groups", "\"a\"")])));
    }
}
