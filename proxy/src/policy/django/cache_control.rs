//! `Cache-Control` as Django reads and writes it (`django.utils.cache`).
//!
//! Django splits at commas, lower-cases the name before the first `=`, and keeps the value as it is. Of several equal
//! names the last value counts, at the position of the first. Blanks around `=` are part of name and value, so
//! `max-age = 5` is not a max-age. The header that is written back is the one that Django itself would send.

use std::fmt::Write as _;

use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderValue};

/// The directives of a response, in order of first appearance.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct CacheControl {
    directives: Vec<(String, Option<String>)>,
}

impl CacheControl {
    /// Reads all `Cache-Control` lines as one list (RFC 9110 §5.3).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut parsed = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            let text: String = line.as_bytes().iter().copied().map(char::from).collect();
            text.split(',')
                .map(str::trim)
                .filter(|field| !field.is_empty())
                .for_each(|field| parsed.add(field));
        }
        parsed
    }

    fn add(&mut self, field: &str) {
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name.to_ascii_lowercase(), Some(value.to_owned())),
            None => (field.to_ascii_lowercase(), None),
        };
        self.set(name, value);
    }

    fn set(&mut self, name: String, value: Option<String>) {
        match self.directives.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.directives.push((name, value)),
        }
    }

    /// `max-age` in seconds, read as Python's `int()` does; what `int()` refuses counts as absent.
    pub(crate) fn max_age(&self) -> Option<i64> {
        match self.directives.iter().find(|(name, _)| name == "max-age")? {
            // A bare `max-age` is True in Django, and int(True) is 1.
            (_, None) => Some(1),
            (_, Some(value)) => python_int(value),
        }
    }

    /// Sets `max-age` to the lower of `seconds` and the present one ("use the minimum of the two ages").
    pub(crate) fn lower_max_age(&mut self, seconds: i64) {
        let lowest = self.max_age().map_or(seconds, |present| present.min(seconds));
        self.set("max-age".to_owned(), Some(lowest.to_string()));
    }

    /// Whether the directives include `public`.
    pub(crate) fn is_public(&self) -> bool {
        self.has("public")
    }

    /// Whether a directive is among them, with or without a value. Its name is in lower case.
    pub(crate) fn has(&self, directive: &str) -> bool {
        self.directives.iter().any(|(name, _)| name == directive)
    }

    /// The one header line that Django would write; `None` if it could not be a header.
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        let mut line = String::new();
        for (name, value) in &self.directives {
            let separator = if line.is_empty() { "" } else { ", " };
            let _ = match value {
                Some(value) => write!(line, "{separator}{name}={value}"),
                None => write!(line, "{separator}{name}"),
            };
        }
        // Each character becomes one byte again, as it was before `of`.
        let bytes: Option<Vec<u8>> = line.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        HeaderValue::from_maybe_shared(bytes::Bytes::from(bytes?)).ok()
    }
}

/// The first of three substrings that forbids storing. Django looks for them anywhere in the lower-cased header, so
/// `x-privateer=1` and `no-cache="f"` forbid too.
pub(crate) fn forbidden(headers: &HeaderMap) -> Option<Forbidden> {
    let lines = || headers.get_all(CACHE_CONTROL).iter().map(|line| line.as_bytes().to_ascii_lowercase());
    let contains = |word: &[u8]| lines().any(|line| line.windows(word.len()).any(|part| part == word));
    [
        (&b"private"[..], Forbidden::Private),
        (b"no-cache", Forbidden::NoCache),
        (b"no-store", Forbidden::NoStore),
    ]
    .into_iter()
    .find_map(|(word, forbidden)| contains(word).then_some(forbidden))
}

/// A directive that keeps a response out of a shared cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Forbidden {
    Private,
    NoCache,
    NoStore,
}

/// Python's `int(text)` for ASCII digits, which accepts blanks around the number, a sign, and single underscores between
/// digits. Numbers beyond 64 bits saturate; compared with a timeout, the result is the same.
fn python_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || digits.split('_').any(|part| part.is_empty() || !is_digits(part)) {
        return None;
    }
    let size = digits
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(if negative { -size } else { size })
}

fn is_digits(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let values = lines.iter().map(|line| (CACHE_CONTROL, HeaderValue::from_str(line).unwrap()));
        HeaderMap::from_iter(values)
    }

    /// Measured on Django 5.2.19 (`tests/django/semantics.json`, cases `cc-*`). A value for which Django answers 500 counts as absent here.
    #[test]
    fn max_age_60_is_added_as_django_does() {
        for (before, after) in [
            ("", "max-age=60"),
            ("public", "public, max-age=60"),
            ("max-age=10", "max-age=10"),
            ("max-age=0", "max-age=0"),
            ("max-age=-1", "max-age=-1"),
            ("max-age=3600", "max-age=60"),
            ("max-age=99999999999999999999999", "max-age=60"),
            ("s-maxage=5", "s-maxage=5, max-age=60"),
            ("foo=bar, baz", "foo=bar, baz, max-age=60"),
            ("public, max-age=31536000, immutable", "public, max-age=60, immutable"),
            ("max-age=5, max-age=90", "max-age=60"),
            ("max-age = 5 ,public", "max-age = 5, public, max-age=60"),
            ("max-age=10, stale-while-revalidate=30", "max-age=10, stale-while-revalidate=30"),
            ("Max-Age=5", "max-age=5"),
            ("max-age", "max-age=1"),
            ("max-age=abc", "max-age=60"),
            ("max-age=\"10\"", "max-age=60"),
            ("max-age=1_0", "max-age=10"),
            ("max-age=+7", "max-age=7"),
            ("max-age=", "max-age=60"),
            ("a=b=c", "a=b=c, max-age=60"),
        ] {
            let mut control = CacheControl::of(&headers(&[before]));
            control.lower_max_age(60);
            assert_eq!(control.to_header().unwrap(), after, "{before:?}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let control = CacheControl::of(&headers(&["public", "max-age=5"]));
        assert_eq!(control.to_header().unwrap(), "public, max-age=5");
        assert!(control.is_public());
    }

    #[test]
    fn bytes_beyond_ascii_are_kept() {
        let value = HeaderValue::from_bytes(b"x=\xe9").unwrap();
        let control = CacheControl::of(&HeaderMap::from_iter([(CACHE_CONTROL, value.clone())]));
        assert_eq!(control.to_header().unwrap(), value);
    }

    #[test]
    fn three_substrings_forbid_storing_in_any_case() {
        for (line, expected) in [
            ("private", Some(Forbidden::Private)),
            ("Private", Some(Forbidden::Private)),
            ("private=\"Set-Cookie\"", Some(Forbidden::Private)),
            ("x-privateer=1", Some(Forbidden::Private)),
            ("max-age=60, No-Store", Some(Forbidden::NoStore)),
            ("no-cache=\"f\"", Some(Forbidden::NoCache)),
            ("NO-CACHE", Some(Forbidden::NoCache)),
            ("public, max-age=60", None),
            ("", None),
        ] {
            assert_eq!(forbidden(&headers(&["immutable", line])), expected, "{line:?}");
        }
    }

    #[test]
    fn ages_are_read_as_python_ints() {
        for (text, expected) in [
            ("60", Some(60)),
            (" 60 ", Some(60)),
            ("-60", Some(-60)),
            ("0_1", Some(1)),
            ("_1", None),
            ("1__0", None),
            ("1_", None),
            ("+-1", None),
            ("-", None),
            ("", None),
            ("1.5", None),
            ("9223372036854775808", Some(i64::MAX)),
            ("-99999999999999999999", Some(-i64::MAX)),
        ] {
            assert_eq!(python_int(text), expected, "{text:?}");
        }
    }
}
