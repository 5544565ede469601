//! Content negotiation, as DRF's `DefaultContentNegotiation` does it if JSON is the only renderer.

/// The longest part of an `Accept` header that is read, in characters.
const MAX_ACCEPT: usize = 8192;
/// Longer media types are ignored.
const MAX_TOKEN: usize = 256;
/// More media types than these are ignored.
const MAX_TOKENS: usize = 64;

/// How to write a JSON answer: with an indent, or, if it is 0, without any spaces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) indent: usize,
}

/// Why the client accepts none of the answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refused {
    /// `?format=` names an unknown format.
    Format,
    /// `Accept` does not include JSON.
    Accept,
}

/// Chooses by `?format=` and the `Accept` header. A missing header accepts everything, an empty one nothing. DRF
/// ignores q-values.
pub(crate) fn negotiate(format: Option<&str>, accept: Option<&str>) -> Result<Accepted, Refused> {
    if format.is_some_and(|format| !format.is_empty() && format != "json") {
        return Err(Refused::Format);
    }
    let mut types: Vec<_> =
        tokens(accept.unwrap_or("*/*")).map(MediaType::parse).filter(MediaType::is_json).collect();
    // The most specific type wins; among equals the first.
    types.sort_by_key(|media| std::cmp::Reverse(media.precedence()));
    types.first().map(MediaType::accepted).ok_or(Refused::Accept)
}

/// The media types of an `Accept` header, within DRF's bounds: a header that is too long is cut at its last comma
/// within the bound, and a type that is too long is skipped.
fn tokens(accept: &str) -> impl Iterator<Item = &str> {
    let read = match accept.char_indices().nth(MAX_ACCEPT) {
        Some((end, _)) => accept[..end].rsplit_once(',').map_or("", |(read, _)| read),
        None => accept,
    };
    let tokens = read.split(',').map(str::trim);
    tokens.filter(|token| !token.is_empty() && token.chars().count() <= MAX_TOKEN).take(MAX_TOKENS)
}

struct MediaType {
    main: String,
    sub: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Parses a media type as Django does: with Python's `email` if there is a semicolon.
    fn parse(text: &str) -> Self {
        let mut parts = split_parameters(text).into_iter();
        let full = parts.next().unwrap_or_default();
        // `email` treats the type like a parameter, so it ends at the first `=`.
        let (full, _) = if text.contains(';') { name_and_value(full) } else { (full, "") };
        let full = full.trim().to_ascii_lowercase();
        let (main, sub) = full.split_once('/').unwrap_or((&full, ""));
        let parameters = parts.map(name_and_value).filter(|(name, _)| !name.is_empty());
        let parameters = parameters.map(|(name, value)| (name.to_ascii_lowercase(), unquote(value)));
        Self { main: main.to_owned(), sub: sub.to_owned(), parameters: parameters.collect() }
    }

    fn is_json(&self) -> bool {
        (self.sub == "*" || self.sub == "json") && (self.main == "*" || self.main == "application")
    }

    fn precedence(&self) -> u8 {
        match () {
            () if self.main == "*" => 0,
            () if self.sub == "*" => 1,
            () if self.parameters.iter().all(|(name, _)| name == "q") => 2,
            () => 3,
        }
    }

    /// `indent=` as DRF reads it: an integer of Python, limited to 0 to 8; anything else is 0.
    fn accepted(&self) -> Accepted {
        let indent = match self.precedence() {
            0 | 1 => Self::parse(&self.in_full()).indent(),
            _ => self.indent(),
        };
        Accepted { indent: usize::try_from(indent.min(8)).unwrap_or(8) }
    }

    /// The type that DRF substitutes for a wildcard: its own, with the parameters, which lose their quotes.
    fn in_full(&self) -> String {
        let parameters = self.parameters.iter().map(|(name, value)| format!(";{name}={value}"));
        parameters.fold("application/json".to_owned(), |text, parameter| text + &parameter)
    }

    fn indent(&self) -> u64 {
        let indent = self.parameters.iter().rfind(|(name, _)| name == "indent");
        indent.and_then(|(_, value)| crate::number::python_int(value)).unwrap_or(0)
    }
}

/// Splits at the semicolons outside quotes. A quote after a backslash does not count, even if the backslash itself
/// is escaped.
fn split_parameters(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut before) = (Vec::new(), 0, false, b';');
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b';' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            b'"' if before != b'\\' => quoted = !quoted,
            _ => {}
        }
        before = byte;
    }
    parts.push(&text[start..]);
    parts
}

fn name_and_value(part: &str) -> (&str, &str) {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    (name.trim(), value.trim())
}

fn unquote(value: &str) -> String {
    let inner = |left, right| value.strip_prefix(left).and_then(|rest| rest.strip_suffix(right));
    match (inner('"', '"'), inner('<', '>')) {
        (Some(inner), _) => inner.replace("\\\\", "\\").replace("\\\"", "\""),
        (None, Some(inner)) => inner.to_owned(),
        (None, None) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_accepted_as_by_drf() {
        for (accept, expected) in [
            (None, Ok(0)),
            (Some("*/*"), Ok(0)),
            (Some("application/json"), Ok(0)),
            (Some("APPLICATION/JSON"), Ok(0)),
            (Some("application/*"), Ok(0)),
            (Some("*/json"), Ok(0)),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Ok(0)),
            (Some("application/json;q=0, text/html;q=0.5"), Ok(0)),
            (Some("application/json; charset=utf-8"), Ok(0)),
            (Some("application/json; indent=2"), Ok(2)),
            (Some("application/json;indent=\"4\""), Ok(4)),
            (Some("application/json; indent=99"), Ok(8)),
            (Some("application/json; indent=-1"), Ok(0)),
            (Some("application/json; indent=x"), Ok(0)),
            (Some("*/*; indent=4"), Ok(4)),
            (Some("application/json, application/json; indent=4"), Ok(4)),
            (Some("*/*; indent=2, application/*; indent=3"), Ok(3)),
            (Some(""), Err(Refused::Accept)),
            (Some("foo"), Err(Refused::Accept)),
            (Some("text/*"), Err(Refused::Accept)),
            (Some("application/xml"), Err(Refused::Accept)),
            (Some("application/"), Err(Refused::Accept)),
            (Some("application/json=x"), Err(Refused::Accept)),
            (Some("application/json=x; indent=2"), Ok(2)),
            (Some("application/json; indent=<4>"), Ok(4)),
            (Some("application/json; INDENT= 4 ;"), Ok(4)),
            (Some("application/json; indent=2; indent=x"), Ok(0)),
            (Some("\u{a0}application/json\u{85}"), Ok(0)),
            (Some("application/json; indent=\u{a0}2"), Ok(2)),
            // A parameter without a value makes a type more specific, one without a name does not.
            (Some("application/json, application/json; foo; indent=3"), Ok(3)),
            (Some("application/json; =4, application/json; indent=3"), Ok(3)),
            // Quotes hide a semicolon, but not in a wildcard, which is parsed twice.
            (Some("application/json; a=\";indent=3\"; indent=2"), Ok(2)),
            (Some("application/json; indent=\"4;2\""), Ok(0)),
            (Some("*/*; indent=\"4;2\""), Ok(4)),
            (Some("application/json; a=\"x\\\\\"; indent=3"), Ok(0)),
        ] {
            assert_eq!(negotiate(None, accept).map(|accepted| accepted.indent), expected, "{accept:?}");
        }
    }

    #[test]
    fn accept_is_read_within_bounds() {
        let long = |length: usize, end: &str| "x".repeat(length - end.len()) + end;
        for (rule, accept, accepted) in [
            ("64 types", "a/b,".repeat(63) + "*/*", true),
            ("65 types", "a/b,".repeat(64) + "*/*", false),
            ("64 empty types", ", ,".repeat(64) + "*/*", true),
            ("a type of 256 characters", format!("application/json;{}", "x".repeat(239)), true),
            ("a type of 257 characters", format!("application/json;{}", "x".repeat(240)), false),
            (
                "a type of 256 characters, more bytes",
                format!("application/json;{}", "\u{e9}".repeat(239)),
                true,
            ),
            ("a header of 8192 characters", long(8192, ",*/*"), true),
            ("a header of 8193 characters", long(8193, ",*/*"), false),
            ("the last comma at 8193", long(8193, ",*/*,"), false),
            ("the last comma at 8192", long(8193, ",*/*,x"), true),
        ] {
            assert_eq!(negotiate(None, Some(&accept)).is_ok(), accepted, "{rule}");
        }
    }

    #[test]
    fn the_format_of_the_query_is_json_or_none() {
        for (format, expected) in
            [("", true), ("json", true), ("api", false), ("JSON", false), ("xml", false)]
        {
            let refused = negotiate(Some(format), Some("*/*")).err();
            assert_eq!(refused, (!expected).then_some(Refused::Format), "{format}");
        }
        assert_eq!(negotiate(Some("xml"), Some("foo")), Err(Refused::Format));
    }
}
