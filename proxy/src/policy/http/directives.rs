//! The directives of a `Cache-Control` line (RFC 9111 §5.2): names, some with an argument, separated by commas.

/// The largest number of seconds. A larger number counts as this one (§1.2.2).
const MOST: u64 = 1 << 31;

/// A directive: its name and, if it has one, its argument, without quotes.
pub(super) type Directive<'a> = (&'a [u8], Option<&'a [u8]>);

/// The directives of a line, in order. "Recipients ought to accept both forms": a token, or a text in quotes, in which
/// commas do not separate. Blanks around `=` belong to the name or the argument, so `max-age = 5` is no max-age.
pub(super) fn directives(line: &[u8]) -> impl Iterator<Item = Directive<'_>> {
    items(line).map(directive)
}

/// The members of a list in a line (RFC 9110 §5.6.1), without empty ones.
pub(super) fn items(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    // If a quote is never closed, nothing counts as quoted, so a `private` behind it still counts.
    let are_closed = !line.iter().fold(Quotes::default(), |quotes, &byte| quotes.after(byte)).are_open;
    let mut quotes = Quotes::default();
    let items = line.split(move |&byte| {
        if are_closed {
            quotes = quotes.after(byte);
        }
        byte == b',' && !quotes.are_open
    });
    items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Whether a byte of a line is inside quotes. There a backslash escapes the next byte.
#[derive(Clone, Copy, Default)]
struct Quotes {
    are_open: bool,
    is_escaped: bool,
}

impl Quotes {
    fn after(self, byte: u8) -> Self {
        match byte {
            _ if self.is_escaped => Self { is_escaped: false, ..self },
            b'\\' if self.are_open => Self { is_escaped: true, ..self },
            b'"' => Self { are_open: !self.are_open, ..self },
            _ => self,
        }
    }
}

fn directive(item: &[u8]) -> Directive<'_> {
    let Some(at) = item.iter().position(|&byte| byte == b'=') else { return (item, None) };
    let argument = &item[at + 1..];
    let unquoted = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    (&item[..at], Some(unquoted.unwrap_or(argument)))
}

/// A number of seconds (§1.2.2): digits alone, `None` for anything else.
pub(super) fn delta_seconds(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = || std::str::from_utf8(text).ok()?.parse::<u64>().ok();
    is_number.then(|| number().unwrap_or(MOST).min(MOST))
}

/// The seconds of a directive. "Caches are encouraged to consider responses that have invalid freshness information [...]
/// to be stale" (§4.2.1): an argument that is no number counts as 0.
pub(super) fn seconds_of(argument: Option<&[u8]>) -> u64 {
    argument.and_then(delta_seconds).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_separated_by_commas_outside_of_quotes() {
        for (line, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("no-store", &[("no-store", None)]),
            ("a, b=1 ,C", &[("a", None), ("b", Some("1")), ("C", None)]),
            ("a=\"b, c\", d", &[("a", Some("b, c")), ("d", None)]),
            ("a=\"b\\\", c\", d=\"\"", &[("a", Some("b\\\", c")), ("d", Some(""))]),
            ("a=\"b, private", &[("a", Some("\"b")), ("private", None)]),
            ("a='1, 2'", &[("a", Some("'1")), ("2'", None)]),
            ("a = 1", &[("a ", Some(" 1"))]),
            ("a=b=c", &[("a", Some("b=c"))]),
            ("=x", &[("", Some("x"))]),
        ] {
            let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
            let found: Vec<_> = directives(line.as_bytes())
                .map(|(name, argument)| (text(name), argument.map(text)))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, argument)| (name.to_string(), argument.map(str::to_owned)))
                .collect();
            assert_eq!(found, expected, "{line:?}");
        }
    }

    #[test]
    fn seconds_are_digits_and_end_at_68_years() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0060", Some(60)),
            ("2147483648", Some(MOST)),
            ("99999999999999999999999", Some(MOST)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 ", None),
            ("a", None),
        ] {
            assert_eq!(delta_seconds(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!((seconds_of(None), seconds_of(Some(b"x")), seconds_of(Some(b"7"))), (0, 0, 7));
    }
}
