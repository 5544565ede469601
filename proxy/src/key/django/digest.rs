//! The list of headers that Django stores for a page that varies, and the digest of their values.

use hyper::header::{HOST, HeaderName};
use md5::{Digest as _, Md5};

use crate::request::Lines;

/// How a Django release digests the values of the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Up to 5.2.18 and 6.0.9: the values joined; an absent header adds nothing.
    Joined,
    /// From 5.2.19 and 6.0.10: the values joined; an absent header adds `-,`.
    JoinedMarked,
    /// 6.1 to 6.1.2: netstrings; an absent header counts as an empty one.
    Netstrings,
    /// From 6.1.3: netstrings; an absent header adds `-,`.
    NetstringsMarked,
}

impl Generation {
    /// The generation of a release, in the format of `django.get_version()`: the first release of a series has no third
    /// number.
    pub(crate) fn of(version: &str) -> Option<Self> {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        let (major, minor) = (parts.next()??, parts.next()??);
        let patch = parts.next().unwrap_or(Some(0))?;
        if parts.next().is_some() || major < 3 {
            return None;
        }
        Some(match (major, minor) {
            (..=4, _) | (5, ..=1) => Self::Joined,
            (5, _) if patch < 19 => Self::Joined,
            (6, 0) if patch < 10 => Self::Joined,
            (5, _) | (6, 0) => Self::JoinedMarked,
            (6, 1) if patch < 3 => Self::Netstrings,
            _ => Self::NetstringsMarked,
        })
    }

    fn has_netstrings(self) -> bool {
        matches!(self, Self::Netstrings | Self::NetstringsMarked)
    }

    /// The md5 of a request's values for a list of headers (`_generate_cache_key`).
    pub(crate) fn digest(self, list: &[String], lines: Lines<'_>) -> [u8; 16] {
        Md5::digest(self.hashed(list, lines)).into()
    }

    /// The text that is digested.
    pub(crate) fn hashed(self, list: &[String], lines: Lines<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        for name in list {
            match (meta_value(name, lines), self) {
                (Some(value), Self::Joined | Self::JoinedMarked) => text.extend(value),
                (Some(value), _) => {
                    text.extend_from_slice(value.len().to_string().as_bytes());
                    text.push(b':');
                    text.extend(value);
                    text.push(b',');
                }
                (None, Self::Joined) => {}
                (None, Self::Netstrings) => text.extend_from_slice(b"0:,"),
                (None, Self::JoinedMarked | Self::NetstringsMarked) => text.extend_from_slice(b"-,"),
            }
        }
        text
    }
}

/// The list that Django makes of a `Vary` (`learn_cache_key`). It leaves out `Accept-Language` if the key has a language.
pub(crate) fn header_list(vary: &str, generation: Generation, language_in_key: bool) -> Vec<String> {
    let mut list: Vec<_> = split(vary, generation)
        .map(|name| name.to_uppercase().replace('-', "_"))
        .filter(|name| !(language_in_key && name == "ACCEPT_LANGUAGE"))
        .map(|name| format!("HTTP_{name}"))
        .collect();
    list.sort_unstable();
    list
}

/// Before 6.1, Django splits at commas and the blanks around them, so blanks at both ends and empty items stay.
fn split(vary: &str, generation: Generation) -> impl Iterator<Item = &str> {
    let last = vary.matches(',').count();
    vary.split(',').enumerate().filter_map(move |(index, item)| {
        if generation.has_netstrings() {
            return Some(item.trim()).filter(|item| !item.is_empty());
        }
        let item = if index > 0 { item.trim_start() } else { item };
        Some(if index < last { item.trim_end() } else { item })
    })
}

/// `request.META.get(name)` in the origin: a header's values joined with commas, decoded as Latin-1, here in UTF-8. A
/// name that cannot be a header's is absent.
pub(crate) fn meta_value(name: &str, lines: Lines<'_>) -> Option<Vec<u8>> {
    let name = name.strip_prefix("HTTP_")?;
    // WSGI has these two under their own names, without `HTTP_`.
    if name == "CONTENT_TYPE" || name == "CONTENT_LENGTH" {
        return None;
    }
    let header = HeaderName::from_bytes(name.replace('_', "-").to_ascii_lowercase().as_bytes()).ok()?;
    let values: Vec<_> = lines.get_all(&header).collect();
    if values.is_empty() {
        return announced(&header, lines);
    }
    let characters = values.join(&b","[..]).into_iter().map(char::from);
    Some(characters.collect::<String>().into_bytes())
}

/// The value of a header that the proxy itself sets for the origin (`request::receive::announce`).
fn announced(header: &HeaderName, lines: Lines<'_>) -> Option<Vec<u8>> {
    match header.as_str() {
        "x-forwarded-proto" => Some(b"http".to_vec()),
        "x-forwarded-host" => lines.get(&HOST).map(<[u8]>::to_vec),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;

    fn hex(generation: Generation, list: &[&str], headers: &[(&'static str, &'static str)]) -> String {
        let list: Vec<_> = list.iter().map(|&name| name.to_owned()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        generation.digest(&list, Lines::Map(&map)).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The digests were computed by real Django.
    #[test]
    fn each_generation_has_its_digest() {
        let accept = [("accept", "*/*")];
        for (generation, expected) in [
            (Generation::Joined, "65330eb47d0175f264fdb29633829c0b"),
            (Generation::JoinedMarked, "562db96bef27524fee86f12e0e9de343"),
            (Generation::Netstrings, "d2cab3b2716e25cddf7c9ad19b66eb7b"),
            (Generation::NetstringsMarked, "2363971b90d646b3bc0d9b9412f99158"),
        ] {
            assert_eq!(hex(generation, &["HTTP_ACCEPT", "HTTP_COOKIE"], &accept), expected, "{generation:?}");
        }
    }

    #[test]
    fn each_release_has_its_generation() {
        use Generation::*;
        for (version, generation) in [
            ("3.2.25", Some(Joined)),
            ("4.2.30", Some(Joined)),
            ("5.1.99", Some(Joined)),
            ("5.2", Some(Joined)),
            ("5.2.18", Some(Joined)),
            ("5.2.19", Some(JoinedMarked)),
            ("5.2.20", Some(JoinedMarked)),
            ("6.0.9", Some(Joined)),
            ("6.0.10", Some(JoinedMarked)),
            ("6.0", Some(Joined)),
            ("6.1.0", Some(Netstrings)),
            ("6.1.2", Some(Netstrings)),
            ("6.1.3", Some(NetstringsMarked)),
            ("6.1", Some(Netstrings)),
            ("6.2.0", Some(NetstringsMarked)),
            ("7.0", Some(NetstringsMarked)),
            ("6", None),
            ("2.2.1", None),
            ("5.2.19.1", None),
            ("5.x", None),
            ("", None),
        ] {
            assert_eq!(Generation::of(version), generation, "{version:?}");
        }
    }

    #[test]
    fn each_generation_has_its_list() {
        use Generation::{JoinedMarked, NetstringsMarked};
        for (vary, before, since) in [
            ("Cookie, Accept", &["HTTP_ACCEPT", "HTTP_COOKIE"][..], &["HTTP_ACCEPT", "HTTP_COOKIE"][..]),
            ("Accept ,  Accept", &["HTTP_ACCEPT", "HTTP_ACCEPT"], &["HTTP_ACCEPT", "HTTP_ACCEPT"]),
            (" Accept", &["HTTP_ ACCEPT"], &["HTTP_ACCEPT"]),
            ("Accept,", &["HTTP_", "HTTP_ACCEPT"], &["HTTP_ACCEPT"]),
            ("", &["HTTP_"], &[]),
            ("x-a, Accept-Language", &["HTTP_X_A"], &["HTTP_X_A"]),
        ] {
            assert_eq!(header_list(vary, JoinedMarked, true), before, "{vary:?}");
            assert_eq!(header_list(vary, NetstringsMarked, true), since, "{vary:?}");
        }
        assert_eq!(header_list("Accept-Language", JoinedMarked, false), ["HTTP_ACCEPT_LANGUAGE"]);
    }

    #[test]
    fn values_are_those_the_origin_will_see() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", &b"h:1"[..]),
            ("cookie", b"a=1"),
            ("cookie", b"b=2"),
            ("x-a", b"\xe9"),
            ("content-type", b"x"),
        ] {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        for (name, value) in [
            ("HTTP_COOKIE", Some(&b"a=1,b=2"[..])),
            ("HTTP_X_A", Some("é".as_bytes())),
            ("HTTP_X_B", None),
            ("HTTP_", None),
            ("HTTP_ ACCEPT", None),
            ("HTTP_CONTENT_TYPE", None),
            ("HTTP_HOST", Some(b"h:1")),
            ("HTTP_X_FORWARDED_HOST", Some(b"h:1")),
            ("HTTP_X_FORWARDED_PROTO", Some(b"http")),
            ("REMOTE_ADDR", None),
        ] {
            assert_eq!(meta_value(name, Lines::Map(&headers)).as_deref(), value, "{name}");
        }
    }
}
