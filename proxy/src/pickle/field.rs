//! The header fields of a page, as far as Django and its servers accept them. They answer 500 to others.

use super::heap::{Heap, Operand};
use super::object::{MAX_FIELDS, Object, dict, pair, unique};

/// The most bytes of all names and values together; clients accept no more. Without this bound a short value could
/// repeat one text many times.
pub(super) const MAX_HEAD: usize = 256 << 10;

/// A header field: its name, in the case in which it was written, and its value.
pub(super) type Field = (String, String);

/// Reads the attribute `headers`: an object with the dict `_store`, which maps lower-case names to pairs of name and
/// value, or an object that its constructor makes. A plain dict is refused, because Django sets an `Age` that is a
/// number.
pub(super) fn headers(heap: &Heap<'_>, value: Operand) -> Option<Vec<Field>> {
    let object = Object::of(heap, value)?;
    let mut store = None;
    object.attributes(|name, value| {
        if name == b"_store" {
            store = Some(value);
        }
    })?;
    match store {
        Some(store) => stored(heap, store),
        None if object.called && object.class.1 == b"ResponseHeaders" => given(heap, object.args().next()?),
        None => None,
    }
}

fn stored(heap: &Heap<'_>, store: Operand) -> Option<Vec<Field>> {
    let mut size = 0;
    unique(heap, heap.entries(dict(heap, store)?))?
        .into_iter()
        .map(|(key, value)| {
            let (name, value) = pair(heap, value)?;
            let (name, value) = (heap.text(name)?, heap.text(value)?);
            size += name.len() + value.len();
            // Django looks a value up by its lower-case name.
            let found = size <= MAX_HEAD && is_lower_of(key, name);
            found.then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn is_lower_of(key: &str, name: &str) -> bool {
    key.len() == name.len()
        && key.bytes().zip(name.bytes()).all(|(key, letter)| key == letter.to_ascii_lowercase())
}

/// Reads the argument of the constructor of `ResponseHeaders`: a dict, whose values may be numbers. A name that differs
/// only in case replaces the earlier one in its place.
pub(super) fn given(heap: &Heap<'_>, headers: Operand) -> Option<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::new();
    if matches!(headers, Operand::None) {
        return Some(fields);
    }
    let mut size = 0;
    for (name, value) in unique(heap, heap.entries(dict(heap, headers)?))? {
        let value = match value {
            Operand::Int(number) => number.to_string(),
            _ => heap.text(value)?.to_owned(),
        };
        size += name.len() + value.len();
        if size > MAX_HEAD {
            return None;
        }
        match fields.iter_mut().find(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
            Some(field) => *field = (name.to_owned(), value),
            None => fields.push((name.to_owned(), value)),
        }
    }
    Some(fields)
}

/// The value of the first field of a name.
pub(super) fn find<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
    fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether Django and its servers can serve a page: its status must be final, and its reason, names and values must be
/// allowed in a head. Django 5 and later compute an age if there is a `max-age`, and fail without `Expires`.
pub(super) fn is_servable(status: u16, reason: Option<&str>, fields: &[Field]) -> bool {
    let aged = find(fields, "cache-control").is_some_and(has_age);
    (200..=999).contains(&status)
        && fields.len() <= MAX_FIELDS
        && reason.is_none_or(is_content)
        && fields.iter().all(|(name, value)| is_token(name) && is_content(value))
        && fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= MAX_HEAD
        && (!aged || find(fields, "expires").is_some())
}

/// Whether a name is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_letter)
}

/// Whether a text is Latin-1 without control characters other than tab.
pub(super) fn is_content(text: &str) -> bool {
    text.chars().all(|letter| matches!(letter, '\t' | ' '..='~' | '\u{80}'..='\u{ff}'))
}

/// Whether Django's `get_max_age` finds a number. The last `max-age` counts; one without a value is `int(True)`.
fn has_age(cache_control: &str) -> bool {
    let mut directives = cache_control.split(',').map(|directive| {
        let directive = directive.trim();
        directive.split_once('=').unwrap_or((directive, "1"))
    });
    directives.rfind(|(name, _)| name.eq_ignore_ascii_case("max-age")).is_some_and(|(_, value)| is_int(value))
}

/// Whether Python's `int` accepts a text: `-1`, ` 60`, `6_0`.
fn is_int(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_max_age_is_found_where_django_finds_a_number() {
        for (cache_control, expected) in [
            ("max-age=60", true),
            ("public, max-age=60", true),
            (" MAX-AGE= 6_0 ,x", true),
            ("max-age=-1", true),
            ("max-age", true),
            ("max-age=abc, max-age=60", true),
            ("max-age=60, max-age=abc", false),
            ("max-age=", false),
            ("max-age=\"60\"", false),
            ("max-age=1.5", false),
            ("max-age=6__0", false),
            ("max-age =60", false),
            ("s-maxage=60", false),
            ("", false),
        ] {
            assert_eq!(has_age(cache_control), expected, "{cache_control}");
        }
    }

    #[test]
    fn only_pages_with_a_valid_head_are_served() {
        for (rule, (status, reason, name, value), expected) in [
            ("any final status", (200, None, "A", "b"), true),
            ("the last status", (999, None, "A", "b"), true),
            ("not an interim status", (199, None, "A", "b"), false),
            ("not a status of four digits", (1000, None, "A", "b"), false),
            ("an empty reason", (200, Some(""), "A", "b"), true),
            ("a Latin-1 reason", (200, Some("caf\u{e9}"), "A", "b"), true),
            ("not a reason of two lines", (200, Some("a\r\nb"), "A", "b"), false),
            ("a name of any token", (200, None, "X!#$%&'*+-.^_`|~1", "b"), true),
            ("not an empty name", (200, None, "", "b"), false),
            ("not a name with a space", (200, None, "A b", "b"), false),
            ("not a name with a colon", (200, None, "A:", "b"), false),
            ("not a name in Latin-1", (200, None, "\u{e9}", "b"), false),
            ("an empty value", (200, None, "A", ""), true),
            ("a value in Latin-1", (200, None, "A", "\t \u{80}\u{ff}"), true),
            ("not a value beyond Latin-1", (200, None, "A", "\u{100}"), false),
            ("not a value with a line feed", (200, None, "A", "a\nb"), false),
            ("not a value with a carriage return", (200, None, "A", "a\rb"), false),
            ("not a value with a NUL", (200, None, "A", "a\0b"), false),
            ("not a value with a DEL", (200, None, "A", "a\u{7f}b"), false),
            ("not a max-age without Expires", (200, None, "cache-control", "max-age=60"), false),
            ("not a head beyond the limit", (200, None, "A", &"b".repeat(MAX_HEAD)[..]), false),
        ] {
            let fields = [(name.to_owned(), value.to_owned())];
            assert_eq!(is_servable(status, reason, &fields), expected, "{rule}");
        }
    }

    #[test]
    fn any_expires_allows_a_max_age() {
        let fields = [("Cache-Control", "max-age=60"), ("EXPIRES", "never")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert!(is_servable(200, None, &fields));
        assert!(!is_servable(200, None, &fields[..1]));
    }
}
