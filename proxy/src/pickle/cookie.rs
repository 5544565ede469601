//! Renders the cookies of a page as `Set-Cookie` lines, as Python's `http.cookies` does.

use std::fmt::Write;

use super::field::{Field, MAX_HEAD, is_token};
use super::heap::{Heap, Operand};
use super::object::{Object, dict, unique};

/// The attributes of a Morsel, as key and written name, in the order in which they are rendered: sorted by key.
const ATTRIBUTES: [(&str, &str); 10] = [
    ("comment", "Comment"),
    ("domain", "Domain"),
    ("expires", "expires"),
    ("httponly", "HttpOnly"),
    ("max-age", "Max-Age"),
    ("partitioned", "Partitioned"),
    ("path", "Path"),
    ("samesite", "SameSite"),
    ("secure", "Secure"),
    ("version", "Version"),
];

/// Renders the attribute `cookies`: a SimpleCookie, which is a dict of Morsels, or another dict of them. `None` if
/// Django fails on it.
pub(super) fn fields(heap: &Heap<'_>, cookies: Operand) -> Option<Vec<Field>> {
    if let Some(dict) = dict(heap, cookies) {
        return lines(heap, unique(heap, heap.entries(dict))?);
    }
    let cookies = Object::of(heap, cookies)?;
    let mut args = cookies.args();
    let mut fields = match (args.next(), args.next()) {
        (Some(text), None) if cookies.called && cookies.class.1 == b"SimpleCookie" => {
            parse(heap.text(text)?)?
        }
        (Some(_), _) if cookies.called => return None,
        _ => Vec::new(),
    };
    fields.extend(lines(heap, cookies.items()?)?);
    Some(fields)
}

fn lines(heap: &Heap<'_>, morsels: Vec<(&str, Operand)>) -> Option<Vec<Field>> {
    let mut length = 0;
    morsels
        .into_iter()
        .map(|(_, morsel)| {
            let line = morsel_line(&Object::of(heap, morsel)?)?;
            length += line.len();
            (length <= MAX_HEAD).then(|| ("Set-Cookie".to_owned(), line))
        })
        .collect()
}

/// `sid=abc; HttpOnly; Path=/`: the coded value, then the attributes that are set.
fn morsel_line(morsel: &Object<'_>) -> Option<String> {
    let heap = morsel.heap;
    let (mut key, mut value, mut coded) = (None, None, None);
    morsel.attributes(|name, content| match name {
        b"key" => key = Some(content),
        b"value" => value = Some(content),
        b"coded_value" => coded = Some(content),
        _ => {}
    })?;
    value?;
    let mut line = format!("{}={}", heap.text(key?)?, heap.text(coded?)?);
    let mut values = [None; ATTRIBUTES.len()];
    for (key, value) in morsel.items()? {
        // A Morsel accepts no other keys.
        values[ATTRIBUTES.iter().position(|(known, _)| *known == key)?] = Some(value);
    }
    for ((_, name), value) in ATTRIBUTES.iter().zip(values) {
        value.map_or(Some(()), |value| attribute(&mut line, heap, name, value))?;
    }
    Some(line)
}

/// Renders an attribute: a true flag as its name, anything else with its value, unless it is the empty text. Two values
/// that Django never stores are refused: an expiry relative to now, because this module has no clock, and a comment
/// that needs quotes.
fn attribute(line: &mut String, heap: &Heap<'_>, name: &str, value: Operand) -> Option<()> {
    if heap.raw(value).is_some_and(<[u8]>::is_empty) {
        return Some(());
    }
    match value {
        Operand::Node(_) => None,
        Operand::None | Operand::Bool(false) | Operand::Int(0) if is_flag(name) => Some(()),
        _ if is_flag(name) => write!(line, "; {name}").ok(),
        Operand::Int(number) if name == "Max-Age" => write!(line, "; {name}={number}").ok(),
        _ => {
            let value = heap.text(value).filter(|value| name != "Comment" || is_token(value))?;
            write!(line, "; {name}={value}").ok()
        }
    }
}

fn is_flag(name: &str) -> bool {
    matches!(name, "HttpOnly" | "Partitioned" | "Secure")
}

/// Parses a text as `SimpleCookie("sid=abc; Path=/; HttpOnly")` does. `None` for quoted and unusual values.
fn parse(text: &str) -> Option<Vec<Field>> {
    let mut cookies: Vec<Parsed<'_>> = Vec::new();
    for part in text.strip_suffix(';').unwrap_or(text).split(';').map(str::trim) {
        let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
        if !is_token(key) || key.starts_with('$') || !value.is_none_or(is_plain) {
            return None;
        }
        // Only Python 3.14 and later accept `Partitioned` here; older ones then drop all cookies.
        let is_known = |(name, _): &(&str, _)| *name != "partitioned" && key.eq_ignore_ascii_case(name);
        let Some(at) = ATTRIBUTES.iter().position(is_known) else {
            if cookies.iter().any(|cookie| cookie.key == key) {
                return None;
            }
            cookies.push(Parsed { key, value: value?, attributes: [""; ATTRIBUTES.len()] });
            continue;
        };
        let name = ATTRIBUTES[at].1;
        cookies.last_mut()?.attributes[at] = value.or(is_flag(name).then_some(name))?;
    }
    Some(cookies.iter().map(|cookie| ("Set-Cookie".to_owned(), cookie.line())).collect())
}

/// Whether Python takes a value as it is, without unquoting or cutting it. Only a date may contain spaces.
fn is_plain(value: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    value.bytes().all(is_letter) || httpdate::parse_http_date(value).is_ok()
}

/// A cookie parsed from a text. An empty attribute is not set.
struct Parsed<'a> {
    key: &'a str,
    value: &'a str,
    attributes: [&'a str; ATTRIBUTES.len()],
}

impl Parsed<'_> {
    fn line(&self) -> String {
        let mut line = format!("{}={}", self.key, self.value);
        for ((_, name), value) in
            ATTRIBUTES.iter().zip(self.attributes).filter(|(_, value)| !value.is_empty())
        {
            line.push_str("; ");
            line.push_str(name);
            if !is_flag(name) {
                line.push('=');
                line.push_str(value);
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::pickle::machine;

    #[test]
    fn morsels_are_rendered_as_in_python() {
        for (attributes, expected) in [
            (&b""[..], Some("k=v")),
            (b"\x8c\x04path\x8c\x01/\x8c\x06domain\x8c\x01d", Some("k=v; Domain=d; Path=/")),
            (b"\x8c\x04path\x8c\x00", Some("k=v")),
            (b"\x8c\x04path\x8c\x01a\x8c\x04path\x8c\x01b", Some("k=v; Path=b")),
            (b"\x8c\x06secure\x88\x8c\x08httponly\x88", Some("k=v; HttpOnly; Secure")),
            (b"\x8c\x06secure\x8c\x01x\x8c\x08httponlyK\x01", Some("k=v; HttpOnly; Secure")),
            (b"\x8c\x06secure\x89\x8c\x08httponlyK\x00", Some("k=v")),
            (b"\x8c\x0bpartitioned\x88", Some("k=v; Partitioned")),
            (b"\x8c\x07max-ageK\x00", Some("k=v; Max-Age=0")),
            (b"\x8c\x07max-ageJ\xff\xff\xff\xff", Some("k=v; Max-Age=-1")),
            (b"\x8c\x07max-age\x8c\x015", Some("k=v; Max-Age=5")),
            (b"\x8c\x07expires\x8c\x05never", Some("k=v; expires=never")),
            (b"\x8c\x07comment\x8c\x01c\x8c\x07version\x8c\x011", Some("k=v; Comment=c; Version=1")),
            (b"\x8c\x07expiresK\x05", None),
            (b"\x8c\x07comment\x8c\x03a b", None),
            (b"\x8c\x04pathN", None),
            (b"\x8c\x04path]", None),
            (b"\x8c\x05other\x8c\x01x", None),
        ] {
            let head = &b"}\x8c\x01kchttp.cookies\nMorsel\n)\x81("[..];
            let end = b"u}(\x8c\x03key\x8c\x01k\x8c\x05valueN\x8c\x0bcoded_value\x8c\x01vubs.";
            let value = Bytes::from([head, attributes, end].concat());
            let (heap, cookies) = machine::load(&value).unwrap();
            let line = fields(&heap, cookies).map(|mut fields| fields.remove(0).1);
            assert_eq!(line.as_deref(), expected, "{}", attributes.escape_ascii());
        }
    }

    #[test]
    fn texts_are_parsed_as_in_python_or_refused() {
        for (text, expected) in [
            ("sid=abc", Some(&["sid=abc"][..])),
            ("sid=", Some(&["sid="])),
            ("a=b=c", Some(&["a=b=c"])),
            ("a=b; c=d; Path=/", Some(&["a=b", "c=d; Path=/"])),
            (
                "a=b; SECURE; path=/x; HttpOnly; Max-Age=5;",
                Some(&["a=b; HttpOnly; Max-Age=5; Path=/x; Secure"]),
            ),
            ("a=b; secure=; httponly=1; domain=", Some(&["a=b; HttpOnly"])),
            (
                "a=b; expires=Thu, 01 Jan 1970 00:00:00 GMT; path=/",
                Some(&["a=b; expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/"]),
            ),
            ("", None),
            ("a", None),
            ("Path=/; a=b", None),
            ("a=b; Path", None),
            ("a=b; c", None),
            ("a=b c", None),
            ("a =b", None),
            ("a=\"b\"", None),
            ("a=b\\", None),
            ("a=b; $Path=/", None),
            ("a=b; a=c", None),
            ("a=b;;c=d", None),
            ("a=b; Partitioned", None),
            ("\u{e9}=b", None),
            ("a=\u{e9}", None),
            ("a=b\r\nX: y", None),
        ] {
            let lines =
                parse(text).map(|fields| fields.into_iter().map(|(_, line)| line).collect::<Vec<_>>());
            assert_eq!(
                lines.as_deref(),
                expected.map(|lines| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()).as_deref(),
                "{text}"
            );
        }
    }
}
