//! The readable key of the article.
//!
//! ```text
//! :1:views.decorators.cache.cache_page.GET./api/properties/cached/.d41d8cd98f00b204e9800998ecf8427e
//! ```
//!
//! The key holds the path as the client sent it, then the md5 of everything else that identifies the page
//! ([`Selection`]).

use std::borrow::{Borrow, Cow};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderName};
use md5::{Digest as _, Md5};
use quick_cache::unsync::Cache;
use smallvec::SmallVec;

use super::{PathMarker, Placement};
use crate::policy::{
    Authorization, CachePolicy, Rule, SearchVariance, Variance, has_authorization, selecting_value,
};
use crate::request::receive::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::request::site::Site;
use crate::request::{Lines, Question};
use crate::text::{hex, sha256_hex};
use crate::weight::{ByBytes, Weigh};

/// The defaults of Django's KEY_PREFIX and VERSION, and the name of the decorator.
pub(super) const START: &[u8] = b":1:views.decorators.cache.cache_page.";

/// A key while it is built. Most fit without an allocation.
pub(crate) type KeyText = SmallVec<[u8; 128]>;

/// A key in the store. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<[u8]>);

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Key {
    /// Makes a key of any bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into())
    }

    /// The bytes of the key, as the store gets them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A lookup in a map needs only the bytes of a key.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
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

/// The base key of a page. The page itself or the marker of its variants is stored under it. The key of a variant
/// digests its own selection, which includes the marker's nonce: when the marker is gone, its variants are unreachable.
pub(crate) fn page_key(rule: &Rule, method: &str, path: &str, selection: &Selection) -> KeyText {
    let prefix = rule.key_prefix.as_bytes();
    let dot: &[u8] = if prefix.is_empty() { b"" } else { b"." };
    let (method, path, digest) = (method.as_bytes(), path.as_bytes(), &selection.digests().md5);
    joined([START, prefix, dot, method, b".", path, b".", digest])
}

/// The key of a variant of the page with this key. If variants share the page's slot, the page's key stands in braces: they
/// are the first braces of the variant's key, and any in the path come after them.
pub(super) fn variant_key(base: &[u8], selection: &Selection, placement: Placement) -> KeyText {
    let digest = selection.digests().md5;
    let parts = match placement {
        Placement::Anywhere => [b"", &base[..base.len().saturating_sub(digest.len())], b"", &digest[..]],
        Placement::OneSlot => [&b"{"[..], base, b"}.", &digest[..]],
    };
    joined(parts)
}

/// The parts in one text.
fn joined<const N: usize>(parts: [&[u8]; N]) -> KeyText {
    let mut text = KeyText::from_elem(0, parts.iter().map(|part| part.len()).sum());
    let mut rest = &mut text[..];
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    text
}

/// The md5 of the empty text, which most pages have. The constant saves 0.1 µs of each hit.
const NOTHING: &[u8; 32] = b"d41d8cd98f00b204e9800998ecf8427e";

/// The limit of remembered texts and digests on each worker, in bytes: about three thousand of them.
const REMEMBERED: u64 = 1 << 20;

thread_local! {
    static DIGESTS: RefCell<Cache<Box<[u8]>, Digests, ByBytes>> =
        RefCell::new(Cache::with_weighter(1 << 10, REMEMBERED, ByBytes));
}

/// The digests of a selection: one is in the key, the other in the proof that is stored with an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digests {
    /// The digest in the key, as in the article.
    pub(crate) md5: [u8; 32],
    /// The digest in the proof: SHA-256 has no known collisions, unlike md5. The text itself is not stored, since it may
    /// hold cookies and passwords.
    pub(crate) sha256: [u8; 64],
}

impl Digests {
    fn of(text: &[u8]) -> Self {
        let mut md5 = [0; 32];
        hex(&Md5::digest(text), &mut md5);
        Self { md5, sha256: sha256_hex(text) }
    }
}

impl Weigh for Digests {
    fn weigh(&self) -> usize {
        // They are in the slot.
        0
    }
}

/// The text that distinguishes the pages of one path: the query as sent, then one line for each further part. No part
/// can hold a line feed (HTTP forbids it in targets and header values), so the text is unambiguous. If a request has
/// only a query, the text is just the query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection(SmallVec<[u8; 128]>);

impl Selection {
    /// The selection of the base key, which depends on the request alone.
    pub(crate) fn of(question: &Question<'_>, rule: &Rule, site: &Site) -> Self {
        let mut text = Self(SmallVec::from_slice(question.query.as_bytes()));
        if let Some(host) = foreign(question.authority, site) {
            text.line(b"host", &host);
        }
        let lines = question.lines;
        // `X-Forwarded` lines are those of a trusted peer. The origin builds its links from them.
        let of_connection = || (question.scheme != "http").then_some(question.scheme.as_bytes());
        let scheme = lines.get(&X_FORWARDED_PROTO).or_else(of_connection);
        for (name, value) in [(X_FORWARDED_HOST, lines.get(&X_FORWARDED_HOST)), (X_FORWARDED_PROTO, scheme)] {
            if let Some(value) = value.filter(|value| *value != b"http") {
                text.line(name.as_str().as_bytes(), value);
            }
        }
        if rule.authorization == Authorization::Vary && has_authorization(lines) {
            text.header(&AUTHORIZATION, lines);
        }
        // "The cache key for a QUERY request MUST incorporate the request content and related metadata." (RFC 10008 §2.7)
        if let Some(content) = question.content {
            text.line(b"content", content.digest());
            let described = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];
            described.iter().for_each(|name| text.header(name, lines));
        }
        text
    }

    /// The selection of the marker for all queries of a path. Applied again, this changes nothing.
    pub(crate) fn of_path(&self) -> Self {
        const SEARCH: &[u8] = b"\nsearch:";
        let query = self.0.iter().take_while(|&&byte| byte != b'\n').count();
        let lines = &self.0[query..];
        match lines.starts_with(SEARCH) {
            true => Self(lines.into()),
            false => Self([SEARCH, lines].into_iter().flatten().copied().collect()),
        }
    }

    /// This selection, reduced to the parameters of the query that select the page.
    pub(crate) fn searched(&self, search: &SearchVariance, query: &str) -> Self {
        match search.is_default() {
            true => self.clone(),
            false => {
                Self(search.simplified(query).into_bytes().into_iter().chain(self.of_path().0).collect())
            }
        }
    }

    /// The selection of one variant: the selecting part of the query, then the marker's nonce and the values of the headers
    /// that it names.
    pub(crate) fn variant(&self, marker: &PathMarker, question: &Question<'_>, rule: &Rule) -> Self {
        let Variance { vary, search } = &marker.variance;
        let lines = question.lines;
        let mut text = self.searched(search, question.query);
        text.line(b"vary", marker.nonce.as_bytes());
        for name in vary.names() {
            match rule.policy {
                CachePolicy::Django => text.header(name, lines),
                CachePolicy::Http(_) => selecting_value(name, lines)
                    .into_iter()
                    .for_each(|value| text.line(name.as_str().as_bytes(), &value)),
            }
        }
        text
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        for part in [b"\n", name, b":", value] {
            self.0.extend_from_slice(part);
        }
    }

    /// Adds one line for each value: none for an absent header, an empty one for an empty value.
    fn header(&mut self, name: &HeaderName, lines: Lines<'_>) {
        lines.get_all(name).for_each(|value| self.line(name.as_str().as_bytes(), value));
    }

    /// Whether the path alone identifies the page.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The digests of the text. They are remembered, since the same visitors and queries return, and computing them costs
    /// more than everything else in a lookup of a near hit.
    pub(crate) fn digests(&self) -> Digests {
        if self.is_empty() {
            return Digests { md5: *NOTHING, sha256: [b'0'; 64] };
        }
        DIGESTS.with_borrow_mut(|known| {
            if let Some(digests) = known.get(&self.0[..]) {
                return *digests;
            }
            let digests = Digests::of(&self.0);
            known.insert(self.0.as_slice().into(), digests);
            digests
        })
    }
}

/// The normal form of a `Host` that is not this site: lower case, without port 80. `None` for the site.
fn foreign<'a>(host: &'a [u8], site: &Site) -> Option<Cow<'a, [u8]>> {
    let host = host.strip_suffix(b":80").unwrap_or(host);
    if host.eq_ignore_ascii_case(site.as_str().as_bytes()) {
        return None;
    }
    let is_normal = !host.iter().any(u8::is_ascii_uppercase);
    Some(if is_normal { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) })
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use hyper::header::{HOST, HeaderMap, HeaderValue};

    use super::*;
    use crate::policy::VaryList;

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
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.headers.entry(HOST).or_insert(HeaderValue::from_static("localhost:8000"));
        let peer = server::Peer::LOCAL;
        Selection::of(&Question::of_parts(&parts, peer), &rule(), &Site::localhost(8000))
    }

    fn text(key: &KeyText) -> String {
        String::from_utf8(key.to_vec()).unwrap()
    }

    fn key(target: &str, headers: &[(&str, &str)]) -> String {
        let path = target.split('?').next().unwrap();
        text(&page_key(&rule(), "GET", path, &selection(target, headers)))
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
    fn a_foreign_host_a_trusted_scheme_and_a_query_give_different_keys() {
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
            let text = text(&page_key(&rule(), "GET", path, &Selection::default()));
            assert_eq!(text, format!(":1:views.decorators.cache.cache_page.GET.{path}.{NOTHING}"));
        }
    }

    #[test]
    fn the_rules_prefix_stands_before_the_method() {
        let rule = Rule { key_prefix: "shop".to_owned(), ..rule() };
        let text = text(&page_key(&rule, "GET", "/", &Selection::default()));
        assert_eq!(text, format!(":1:views.decorators.cache.cache_page.shop.GET./.{NOTHING}"));
    }

    #[test]
    fn authorization_is_in_the_key_only_if_the_rule_varies_on_it() {
        let headers = HeaderMap::from_iter([
            (HOST, HeaderValue::from_static("localhost:8000")),
            (AUTHORIZATION, HeaderValue::from_static("Basic eA==")),
        ]);
        let question = Question::get("/", "", &headers);
        let vary = Rule { authorization: Authorization::Vary, ..rule() };
        let site = Site::localhost(8000);
        assert!(Selection::of(&question, &rule(), &site).is_empty());
        assert!(!Selection::of(&question, &vary, &site).is_empty());
    }

    fn variant(nonce: char, vary: &str, headers: &[(&'static str, &'static str)]) -> Vec<u8> {
        let vary = VaryList::of(&HeaderMap::from_iter([(
            "vary".parse().unwrap(),
            HeaderValue::from_str(vary).unwrap(),
        )]));
        let marker = PathMarker { nonce: nonce.to_string().repeat(32), variance: vary.unwrap().into() };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Selection::default().variant(&marker, &Question::get("/", "", &map), &rule()).as_bytes().to_vec()
    }

    #[test]
    fn a_variant_lies_beside_its_page_or_in_the_same_slot() {
        let (base, digest) = (format!("a.{}", "0".repeat(32)), "d41d8cd98f00b204e9800998ecf8427e");
        for (placement, expected) in [
            (Placement::Anywhere, format!("a.{digest}")),
            (Placement::OneSlot, format!("{{{base}}}.{digest}")),
        ] {
            let key = variant_key(base.as_bytes(), &Selection::default(), placement);
            assert_eq!(String::from_utf8_lossy(&key), expected);
        }
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
    fn case_and_the_default_port_do_not_matter() {
        let site: Site = "Example.COM:80".parse().unwrap();
        for host in ["example.com", "EXAMPLE.com", "example.com:80"] {
            assert_eq!(foreign(host.as_bytes(), &site), None, "{host}");
        }
        for (host, normal) in
            [("example.com:8080", "example.com:8080"), ("EVIL:80", "evil"), ("localhost", "localhost")]
        {
            assert_eq!(foreign(host.as_bytes(), &site).unwrap(), normal.as_bytes(), "{host}");
        }
    }
}
