//! Header fields of a page: what Django and its servers let pass. What they do not, they answer with 500.

use super::heap::{Heap, Value};
use super::object::{MAX_FIELDS, Object, dict, pair, unique};

/// The most bytes of all names and values; clients take no more. It bounds what shared texts can grow to.
pub(super) const MAX_HEAD: usize = 256 << 10;

/// A header field: its name in its written case, and its value.
pub(super) type Field = (String, String);

/// The attribute `headers`: an object with the dict `_store`, lower-case names to pairs, or one that its constructor makes.
/// A plain dict is not enough, as Django sets an `Age` that is a number.
pub(super) fn headers(heap: &Heap<'_>, value: Value) -> Option<Vec<Field>> {
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

fn stored(heap: &Heap<'_>, store: Value) -> Option<Vec<Field>> {
    let mut size = 0;
    unique(heap, heap.entries(dict(heap, store)?))?
        .into_iter()
        .map(|(key, value)| {
            let (name, value) = pair(heap, value)?;
            let (name, value) = (heap.text(name)?, heap.text(value)?);
            size += name.len() + value.len();
            // Django finds the value by the name in lower case.
            let found = size <= MAX_HEAD && is_lower_of(key, name);
            found.then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn is_lower_of(key: &str, name: &str) -> bool {
    key.len() == name.len()
        && key.bytes().zip(name.bytes()).all(|(key, letter)| key == letter.to_ascii_lowercase())
}

/// What the constructor of `ResponseHeaders` takes: a dict, with numbers as well. A name in another case replaces the
/// earlier one where it stands.
pub(super) fn given(heap: &Heap<'_>, headers: Value) -> Option<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::new();
    if matches!(headers, Value::None) {
        return Some(fields);
    }
    let mut size = 0;
    for (name, value) in unique(heap, heap.entries(dict(heap, headers)?))? {
        let value = match value {
            Value::Int(number) => number.to_string(),
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

/// Whether Django and its servers serve a page: a final status, and reason, names and values that can stand in a head.
/// Django 5 and later computes the age of what has a `max-age`, and fails if there is no `Expires`.
pub(super) fn is_servable(status: u16, reason: Option<&str>, fields: &[Field]) -> bool {
    let aged = find(fields, "cache-control").is_some_and(has_age);
    (200..=999).contains(&status)
        && fields.len() <= MAX_FIELDS
        && reason.is_none_or(is_content)
        && fields.iter().all(|(name, value)| is_token(name) && is_content(value))
        && fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= MAX_HEAD
        && (!aged || find(fields, "expires").is_some())
}

/// What a name may be made of (RFC 9110 §5.6.2).
pub(super) fn is_token(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_letter)
}

/// Latin-1 without control characters.
pub(super) fn is_content(text: &str) -> bool {
    text.chars().all(|letter| matches!(letter, '\t' | ' '..='~' | '\u{80}'..='\u{ff}'))
}

/// Whether Django's `get_max_age` finds a number: the last `max-age` counts, and one without a value is `int(True)`.
fn has_age(cache_control: &str) -> bool {
    let mut directives = cache_control.split(',').map(|directive| {
        let directive = directive.trim();
        directive.split_once('=').unwrap_or((directive, "1"))
    });
    directives.rfind(|(name, _)| name.eq_ignore_ascii_case("max-age")).is_some_and(|(_, value)| is_int(value))
}

/// What Python's `int` takes: `-1`, ` 60`, `6_0`.
fn is_int(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_computed_where_django_finds_a_number() {
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
    fn what_can_stand_in_a_head_is_served() {
        for (rule, (status, reason, name, value), expected) in [
            ("any final status", (200, None, "A", "b"), true),
            ("the last status", (999, None, "A", "b"), true),
            ("not one that goes on", (199, None, "A", "b"), false),
            ("not one beyond", (1000, None, "A", "b"), false),
            ("an empty reason", (200, Some(""), "A", "b"), true),
            ("a Latin-1 reason", (200, Some("caf\u{e9}"), "A", "b"), true),
            ("not a reason of two lines", (200, Some("a\r\nb"), "A", "b"), false),
            ("a name of any token", (200, None, "X!#$%&'*+-.^_`|~1", "b"), true),
            ("not an empty name", (200, None, "", "b"), false),
            ("not a name with a blank", (200, None, "A b", "b"), false),
            ("not a name with a colon", (200, None, "A:", "b"), false),
            ("not a name in Latin-1", (200, None, "\u{e9}", "b"), false),
            ("an empty value", (200, None, "A", ""), true),
            ("a value in Latin-1", (200, None, "A", "\t \u{80}\u{ff}"), true),
            ("not a value beyond Latin-1", (200, None, "A", "\u{100}"), false),
            ("not a value with a line feed", (200, None, "A", "a\nb"), false),
            ("not a value with a return", (200, None, "A", "a\rb"), false),
            ("not a value with a zero", (200, None, "A", "a\0b"), false),
            ("not a value with a delete", (200, None, "A", "a\u{7f}b"), false),
            ("not a max-age without Expires", (200, None, "cache-control", "max-age=60"), false),
            ("not a head beyond all bounds", (200, None, "A", &"b".repeat(MAX_HEAD)[..]), false),
        ] {
            let fields = [(name.to_owned(), value.to_owned())];
            assert_eq!(is_servable(status, reason, &fields), expected, "{rule}");
        }
    }

    #[test]
    fn any_expires_will_do() {
        let fields = [("Cache-Control", "max-age=60"), ("EXPIRES", "never")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert!(is_servable(200, None, &fields));
        assert!(!is_servable(200, None, &fields[..1]));
    }
}
