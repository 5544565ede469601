//! The readable key of the article.
//!
//! ```text
//! :1:views.decorators.cache.cache_page.GET./api/properties/cached/.d41d8cd98f00b204e9800998ecf8427e
//! ```
//!
//! The path as the client sent it, then the md5 of whatever else identifies the page (see [`super::selection`]).

use std::fmt;

use bytes::Bytes;
use hyper::header::HeaderName;

use super::Selection;
use crate::policy::{Rule, VaryList};

/// KEY_PREFIX and VERSION of Django's cache, in their defaults, and the name of the decorator.
pub(super) const START: &[u8] = b":1:views.decorators.cache.cache_page.";

/// A key in the store. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Takes any bytes as a key.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into())
    }

    /// The bytes as the store gets them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of a page. Under it lies the page itself, or the marker of its variants; a variant lies under the key of
/// its own selection, whose digest covers the marker's nonce, so that the marker's end is the variant's end too.
pub(crate) fn page_key(rule: &Rule, path: &str, selection: &Selection) -> Key {
    let prefix = rule.key_prefix.as_bytes();
    let dot: &[u8] = if prefix.is_empty() { b"" } else { b"." };
    Key::new([START, prefix, dot, b"GET.", path.as_bytes(), b".", &selection.digest()].concat())
}

/// The key of a variant of the page with this key.
pub(super) fn variant_key(base: &Key, selection: &Selection) -> Key {
    let digest = selection.digest();
    let start = base.0.len().saturating_sub(digest.len());
    Key::new([&base.0[..start], &digest].concat())
}

/// What lies under the base key of a page that varies: the names of the headers, and a nonce that is new whenever
/// the page starts anew, so that deleting the marker makes all older variants unreachable at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) nonce: String,
    pub(crate) vary: VaryList,
}

impl Marker {
    const START: &'static str = "cachepage/1 vary ";

    /// A marker with a nonce that no other has.
    pub(crate) fn new(vary: VaryList) -> Self {
        Self { nonce: format!("{:032x}", rand::random::<u128>()), vary }
    }

    /// `cachepage/1 vary NONCE accept,cookie`, and a line feed, by which a marker that was cut short is known.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let names = self.vary.names().iter().map(HeaderName::as_str).collect::<Vec<_>>().join(",");
        format!("{}{} {names}\n", Self::START, self.nonce).into_bytes()
    }

    /// `None` for anything that `encode` did not write.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        // Its start first: what a hit finds here is mostly a page, and not worth reading whole.
        let text = value.strip_prefix(Self::START.as_bytes())?.strip_suffix(b"\n")?;
        let text = std::str::from_utf8(text).ok()?;
        let (nonce, names) = text.split_once(' ')?;
        let is_nonce = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        let names: Result<Vec<_>, _> =
            names.split(',').map(|name| HeaderName::from_bytes(name.as_bytes())).collect();
        let vary = VaryList::from_names(names.ok()?).ok()?;
        is_nonce.then(|| Self { nonce: nonce.to_owned(), vary })
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::policy::Authorization;
    use crate::request::site::Site;

    const CACHED: &str = "/api/properties/cached/";
    const NOTHING: &str = "d41d8cd98f00b204e9800998ecf8427e";

    fn rule() -> Rule {
        Rule::new(CACHED, 60).unwrap()
    }

    fn selection(target: &str, headers: &[(&str, &str)]) -> Selection {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Selection::of(&parts, &rule(), &Site::localhost(8000))
    }

    fn key(target: &str, headers: &[(&str, &str)]) -> String {
        let path = target.split('?').next().unwrap();
        page_key(&rule(), path, &selection(target, headers)).to_string()
    }

    fn article(digest: &str) -> String {
        format!(":1:views.decorators.cache.cache_page.GET.{CACHED}.{digest}")
    }

    #[test]
    fn the_plain_page_has_the_articles_key() {
        assert_eq!(key(CACHED, &[("host", "localhost:8000")]), article(NOTHING));
        assert_eq!(key(CACHED, &[("host", "LOCALHOST:8000")]), article(NOTHING));
        assert_eq!(key("/api/properties/cached/?", &[]), article(NOTHING));
    }

    #[test]
    fn the_query_alone_is_digested_as_sent() {
        // printf 'page=2' | md5sum
        assert_eq!(key("/api/properties/cached/?page=2", &[]), article("46589c7afd19c01453073936936c2a84"));
        assert_ne!(key("/api/properties/cached/?a=1&b=2", &[]), key("/api/properties/cached/?b=2&a=1", &[]));
    }

    #[test]
    fn a_foreign_host_a_trusted_scheme_and_a_query_never_meet() {
        let all = [
            key(CACHED, &[("host", "localhost:8000")]),
            key(CACHED, &[("host", "evil.example")]),
            key(CACHED, &[("host", "localhost:8001")]),
            key(CACHED, &[("x-forwarded-proto", "https")]),
            key(CACHED, &[("x-forwarded-host", "evil.example")]),
            key("/api/properties/cached/?host:evil.example", &[]),
            key("/api/properties/cached/?x", &[("host", "evil.example")]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{one}");
        }
    }

    #[test]
    fn the_path_is_kept_byte_for_byte() {
        for path in ["//a//b", "/a/./b/../c", "/%2e%2e/%2F", "/x;y=z", "/account%23.css", "/A%c3%a9"] {
            let text = page_key(&rule(), path, &Selection::default()).to_string();
            assert_eq!(text, format!(":1:views.decorators.cache.cache_page.GET.{path}.{NOTHING}"));
        }
    }

    #[test]
    fn the_rules_prefix_stands_before_the_method() {
        let rule = Rule { key_prefix: "shop".to_owned(), ..rule() };
        let text = page_key(&rule, "/", &Selection::default()).to_string();
        assert_eq!(text, format!(":1:views.decorators.cache.cache_page.shop.GET./.{NOTHING}"));
    }

    #[test]
    fn authorization_selects_only_where_the_rule_says_so() {
        let (parts, ()) =
            Request::get("/").header("authorization", "Basic eA==").body(()).unwrap().into_parts();
        let vary = Rule { authorization: Authorization::Vary, ..rule() };
        let site = Site::localhost(8000);
        assert!(Selection::of(&parts, &rule(), &site).is_empty());
        assert!(!Selection::of(&parts, &vary, &site).is_empty());
    }

    fn variant(nonce: char, vary: &str, headers: &[(&'static str, &'static str)]) -> [u8; 64] {
        let vary = VaryList::of(&HeaderMap::from_iter([(
            "vary".parse().unwrap(),
            HeaderValue::from_str(vary).unwrap(),
        )]));
        let marker = Marker { nonce: nonce.to_string().repeat(32), vary: vary.unwrap() };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Selection::default().variant(&marker, &map).proof()
    }

    #[test]
    fn variants_differ_by_value_by_absence_and_by_nonce_only() {
        let both = variant('a', "x-a, x-b", &[("x-a", "1"), ("x-b", "23")]);
        assert_eq!(both, variant('a', "X-B,X-A", &[("x-b", "23"), ("x-a", "1"), ("x-c", "other")]));
        let others = [
            variant('b', "x-a, x-b", &[("x-a", "1"), ("x-b", "23")]),
            variant('a', "x-a, x-b", &[("x-a", "12"), ("x-b", "3")]),
            variant('a', "x-a, x-b", &[("x-a", "1")]),
            variant('a', "x-a, x-b", &[("x-a", "1"), ("x-b", "")]),
            variant('a', "x-a", &[("x-a", "1"), ("x-a", "2")]),
        ];
        for (index, one) in others.iter().enumerate() {
            assert!(*one != both && !others[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn a_marker_reads_back_and_nothing_else_does() {
        let names = ["accept", "cookie"].map(HeaderName::from_static).to_vec();
        let marker = Marker::new(VaryList::from_names(names).unwrap());
        let encoded = marker.encode();
        assert_eq!(Marker::decode(&encoded), Some(marker.clone()));
        assert_ne!(Marker::new(marker.vary.clone()).nonce, marker.nonce);
        for end in 0..encoded.len() {
            assert_eq!(Marker::decode(&encoded[..end]), None, "{end}");
        }
        for foreign in
            [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"\x80\x05]\x94.", b"cachepage/1 vary x accept\n", b"\xff"]
        {
            assert_eq!(Marker::decode(foreign), None);
        }
    }
}
