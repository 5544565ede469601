//! Which answer a client accepts (DRF's `DefaultContentNegotiation` with the JSON renderer alone).

/// How a JSON answer is to be written: with an indent, or without any blanks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) indent: usize,
}

/// Why no answer can be accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refused {
    /// `?format=` names a format that is not there.
    Format,
    /// `Accept` has nothing that is JSON.
    Accept,
}

/// Chooses by `?format=` and the `Accept` header. A missing header accepts all, an empty one nothing; q-values are
/// not looked at.
pub(crate) fn negotiate(format: Option<&str>, accept: Option<&str>) -> Result<Accepted, Refused> {
    if format.is_some_and(|format| !format.is_empty() && format != "json") {
        return Err(Refused::Format);
    }
    let mut types: Vec<_> =
        accept.unwrap_or("*/*").split(',').map(MediaType::parse).filter(MediaType::is_json).collect();
    // The most specific is asked first; among equals the first.
    types.sort_by_key(|media| std::cmp::Reverse(media.precedence()));
    types.first().map(MediaType::accepted).ok_or(Refused::Accept)
}

struct MediaType {
    main: String,
    sub: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    fn parse(text: &str) -> Self {
        let mut parts = split_parameters(text).into_iter();
        let full = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let (main, sub) = full.split_once('/').unwrap_or((&full, ""));
        let parameters = parts.filter_map(|part| {
            let (name, value) = part.split_once('=')?;
            Some((name.trim().to_ascii_lowercase(), unquote(value.trim())))
        });
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

    /// `indent=` as DRF reads it: Python's int, between 0 and 8; anything else is none.
    fn accepted(&self) -> Accepted {
        let indent =
            self.parameters.iter().rfind(|(name, _)| name == "indent").map(|(_, value)| value.as_str());
        let indent = indent.and_then(crate::number::python_int).unwrap_or(0);
        Accepted { indent: usize::try_from(indent.min(8)).unwrap_or(8) }
    }
}

/// Splits at the semicolons that are not inside quotes.
fn split_parameters(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b';' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            b'"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn unquote(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\\", "\\").replace("\\\"", "\""),
        None => value.to_owned(),
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
        ] {
            assert_eq!(negotiate(None, accept).map(|accepted| accepted.indent), expected, "{accept:?}");
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
