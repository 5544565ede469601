//! Chooses a language as `LocaleMiddleware` does (`get_language_from_request`), for sites without `i18n_patterns`.

use std::borrow::Cow;

use super::digest::meta_value;
use crate::request::Lines;
use crate::text::thousandths;

/// Longer codes and headers are cut at the last separator before this length, as in Django.
const MAX_LENGTH: usize = 500;

/// The settings of the choice.
#[derive(Clone, Debug)]
pub struct Locale {
    /// `LANGUAGES` in their order, in lower case. Each is assumed to have its translations.
    pub languages: Vec<String>,
    /// `LANGUAGE_CODE`.
    pub default: String,
    /// `LANGUAGE_COOKIE_NAME`.
    pub cookie: String,
}

impl Locale {
    /// Chooses by the cookie, then by `Accept-Language`, then the default.
    pub(super) fn negotiate(&self, lines: Lines<'_>) -> Cow<'_, str> {
        let text = |name| meta_value(name, lines).and_then(|value| String::from_utf8(value).ok());
        let cookies = text("HTTP_COOKIE").unwrap_or_default();
        let accept = text("HTTP_ACCEPT_LANGUAGE").unwrap_or_default();
        let wanted = cookie(&cookies, &self.cookie).and_then(|code| self.variant(&code));
        let wanted = wanted.or_else(|| {
            let ranges = ranges(&accept.to_lowercase());
            let known = ranges.iter().map_while(|range| (range != "*").then_some(range.as_str()));
            known.filter_map(|range| self.variant(range)).next()
        });
        let chosen = wanted.or_else(|| self.variant(&self.default));
        chosen.map_or(Cow::Borrowed(self.default.as_str()), |code| Cow::Owned(code.to_lowercase()))
    }

    /// The supported language for a code: the code itself, its special fallback, a more general form, or else a
    /// sibling of the most general form.
    fn variant(&self, code: &str) -> Option<String> {
        let code = match code.len() > MAX_LENGTH {
            true => code.get(..MAX_LENGTH)?.rsplit_once('-')?.0,
            false => code,
        };
        let general = std::iter::successors(Some(code), |code| code.rsplit_once('-').map(|(front, _)| front));
        let mut possible: Vec<_> = general.collect();
        possible.splice(1..1, fallback(code));
        let supported = |code: &&&str| self.languages.contains(&code.to_lowercase());
        if let Some(found) = possible.iter().find(supported) {
            return Some((*found).to_owned());
        }
        let siblings = format!("{}-", possible.last()?);
        self.languages.iter().find(|language| language.starts_with(&siblings)).cloned()
    }
}

/// The special fallbacks in Django's LANG_INFO.
fn fallback(code: &str) -> Option<&'static str> {
    match code {
        "zh-cn" | "zh-my" | "zh-sg" => Some("zh-hans"),
        "zh-hk" | "zh-mo" | "zh-tw" => Some("zh-hant"),
        _ => None,
    }
}

/// The value of a cookie. The last one of a name counts.
fn cookie<'a>(cookies: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let mut pairs = cookies.split(';').filter_map(|pair| pair.split_once('='));
    let value = pairs.rfind(|(name, _)| name.trim() == wanted)?.1.trim();
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let value = quoted.map_or(Cow::Borrowed(value), unquote);
    (!value.is_empty()).then_some(value)
}

/// Undoes the escapes of Python's cookies: `\"` is a quote, `\145` an `e`.
fn unquote(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split('\\');
    plain.push_str(parts.next().unwrap_or_default());
    while let Some(part) = parts.next() {
        match octal(part) {
            Some((letter, rest)) => {
                plain.push(letter);
                plain.push_str(rest);
            }
            // An escaped backslash: the text after it is literal.
            None if part.is_empty() => {
                plain.push('\\');
                plain.push_str(parts.next().unwrap_or_default());
            }
            None => plain.push_str(part),
        }
    }
    Cow::Owned(plain)
}

/// The character of three octal digits at the start, and the rest of the text.
fn octal(text: &str) -> Option<(char, &str)> {
    let (digits, rest) = text.split_at_checked(3)?;
    let is_octal =
        digits.starts_with(['0', '1', '2', '3']) && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let letter = u8::from_str_radix(digits, 8).ok().filter(|_| is_octal)?;
    Some((char::from(letter), rest))
}

/// The ranges of an `Accept-Language`, the most preferred first; none if any of it is malformed.
fn ranges(header: &str) -> Vec<String> {
    let header = match header.len() > MAX_LENGTH {
        true => {
            header.get(..MAX_LENGTH).and_then(|text| text.rsplit_once(',')).map_or("", |(front, _)| front)
        }
        false => header,
    };
    // One comma at the end is allowed.
    let items = header.strip_suffix(',').unwrap_or(header);
    let mut ranges = Vec::new();
    for (index, item) in items.split(',').enumerate() {
        // White space is allowed around commas, but not before the first range.
        let item = if index > 0 { item.trim_start() } else { item };
        match range(item.trim_end()) {
            Some(range) => ranges.push(range),
            None => return Vec::new(),
        }
    }
    ranges.sort_by_key(|(_, quality)| std::cmp::Reverse(*quality));
    ranges.into_iter().map(|(range, _)| range.to_owned()).collect()
}

/// Parses a range and its quality in thousandths.
fn range(item: &str) -> Option<(&str, u16)> {
    let (range, quality) = match item.split_once(';') {
        Some((range, quality)) => (range.trim_end(), thousandths(quality.trim_start().strip_prefix("q=")?)?),
        None => (item, 1000),
    };
    let mut subtags = range.split('-');
    let first = subtags.next()?;
    let is_size = |tag: &str| (1..=8).contains(&tag.len());
    let is_range = is_size(first)
        && first.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags.all(|tag| is_size(tag) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    (range == "*" || is_range).then_some((range, quality))
}

#[cfg(test)]
mod tests {
    use hyper::header::{ACCEPT_LANGUAGE, COOKIE, HeaderMap, HeaderValue};

    use super::*;

    fn negotiate(accept: &str, cookie: &str) -> String {
        let languages = ["de", "en", "en-gb", "fr", "pt", "pt-br", "sr-latn", "zh-hans", "zh-hant"];
        let locale = Locale {
            languages: languages.map(str::to_owned).to_vec(),
            default: "en-us".to_owned(),
            cookie: "django_language".to_owned(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [(ACCEPT_LANGUAGE, accept), (COOKIE, cookie)] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        locale.negotiate(Lines::Map(&headers)).into_owned()
    }

    #[test]
    fn accept_language_is_read_as_in_django() {
        for (accept, language) in [
            ("", "en"),
            ("fr-CA", "fr"),
            ("zh-TW", "zh-hant"),
            ("zh-Hant-HK", "zh-hant"),
            ("pt-BR,pt;q=0.9", "pt-br"),
            ("pt-pt", "pt"),
            ("sr", "sr-latn"),
            ("de;q=0, fr;q=0.3, zh-cn;q=0.5", "zh-hans"),
            ("de;q=0", "de"),
            ("xx, fr;q=0.1", "fr"),
            ("xx", "en"),
            ("*, fr", "en"),
            ("fr;q=0.5, *;q=0.1, de;q=0.05", "fr"),
            ("fr ; q=0.5 , de", "de"),
            ("fr,", "fr"),
            ("fr,,", "en"),
            ("fr, ,de", "en"),
            ("fr;q=1.5", "en"),
            ("fr;q=0.1234", "en"),
            ("fr; x=1", "en"),
            ("fr_FR", "en"),
            ("abcdefghi", "en"),
        ] {
            assert_eq!(negotiate(accept, ""), language, "{accept:?}");
        }
    }

    #[test]
    fn the_cookie_takes_precedence_over_the_header() {
        for (cookie, language) in [
            ("django_language=de", "de"),
            ("a=b; django_language=\"de\"; c=d", "de"),
            ("django_language=fr; django_language=de", "de"),
            ("django_language=de-AT", "de"),
            ("django_language=DE", "de"),
            ("django_language=\"d\\145\"", "de"),
            ("django_language=\"\\d\\e\"", "de"),
            ("django_language=\"d\\\\145\"", "fr"),
            ("django_language=\"d\\445\"", "fr"),
            ("django_language=d\\145", "fr"),
            ("django_language=xx", "fr"),
            ("django_language=", "fr"),
            ("language=de", "fr"),
        ] {
            assert_eq!(negotiate("fr", cookie), language, "{cookie:?}");
        }
    }

    #[test]
    fn long_headers_are_cut_at_a_comma() {
        let long = format!("{}, de", "xx, ".repeat(200).trim_end_matches(", "));
        assert_eq!(negotiate(&long, ""), "en");
        assert_eq!(negotiate(&format!("fr, {long}"), ""), "fr");
    }
}
