//! A rule: which pages are cached, and how.

use std::fmt;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, SET_COOKIE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::http::{HttpRules, Wishes};
use crate::pattern::Pattern;
use crate::request::{Coding, Lines, Normaliser};

/// The characters that browsers encode in the path of a URL, besides those that are not ASCII. Clients send all others raw.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ');

/// One `[[cache_page]]` of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(crate) path: Pattern,
    /// Whether pages of the path are left to the origin. Then no other setting of the rule counts.
    pub is_off: bool,
    /// How long a page is fresh; under HTTP's policy, the most.
    pub timeout: Duration,
    /// The rules by which pages are stored and served.
    pub policy: CachePolicy,
    /// A part of the key, so that two rules (or two sites on one Redis) don't share pages.
    pub key_prefix: String,
    /// Whether QUERY has pages, too: one for each content.
    pub(crate) caches_query: bool,
    /// The parts of requests that are left out or sorted.
    pub(crate) normaliser: Normaliser,
    /// The codings in which pages are stored besides the form in which they came. The best comes first.
    pub(crate) compress: Vec<Coding>,
    /// How requests with `Authorization` are treated.
    pub authorization: Authorization,
    /// How pages with `Set-Cookie` are treated.
    pub(crate) set_cookie: SetCookie,
    /// Which simultaneous misses share one fetch.
    pub coalesce: Coalesce,
    /// How long after its end a page is served while a new one is fetched.
    pub grace: Duration,
    /// How long after its end a page is served if the origin fails.
    pub stale_if_error: Duration,
    /// Whether an unsafe method that succeeds purges the page (RFC 9111 §4.4).
    pub invalidate: bool,
    /// Whether purged pages that clients ask for are fetched anew at once.
    pub refresh_on_purge: bool,
    /// How early pages are fetched again before their end: 1 suits most sites, more is earlier, 0 is never.
    pub early_refresh: f64,
    /// Whether clients may change to another protocol, such as WebSocket, with the origin.
    pub upgrade: bool,
}

/// The rules by which pages are stored and served.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum CachePolicy {
    /// The rules of Django's `cache_page`.
    #[default]
    Django,
    /// The rules of HTTP (RFC 9111).
    Http(HttpRules),
}

/// How a rule treats requests with `Authorization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// They get only `public` pages from the cache; other pages are fetched and not stored.
    #[default]
    Pass,
    /// Each value of `Authorization` has its own pages.
    Vary,
}

/// How a rule treats pages with `Set-Cookie`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SetCookie {
    /// They are not stored.
    #[default]
    Pass,
    /// They are stored without the cookie. Only the client that asked gets it.
    Strip,
}

impl SetCookie {
    /// The headers that stored pages do not have. The followers of a flight get the stored page, so they don't get the cookie
    /// either.
    pub(super) fn left_out(self) -> Vec<HeaderName> {
        match self {
            Self::Pass => Vec::new(),
            Self::Strip => vec![SET_COOKIE],
        }
    }
}

/// Which simultaneous misses of a page share one fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coalesce {
    /// Misses of one proxy.
    #[default]
    Process,
    /// Misses of all proxies that share the store.
    Fleet,
}

/// The paths that clients send for a pattern: as written, and percent-encoded as browsers do (WHATWG URL, path state).
pub(crate) fn spellings(path: &Pattern) -> impl Iterator<Item = String> {
    let encoded = utf8_percent_encode(path.text(), ENCODED).to_string();
    let is_other = encoded != path.text();
    [Some(path.text().to_owned()), is_other.then_some(encoded)].into_iter().flatten()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.timeout.as_secs();
        match self.policy {
            _ if self.is_off => write!(f, "{}, off", self.path),
            CachePolicy::Django => write!(f, "{}, {seconds} s", self.path),
            CachePolicy::Http(_) => write!(f, "{}, HTTP, at most {seconds} s", self.path),
        }
    }
}

impl Rule {
    /// A rule for one path or, with `*` at its end, for all paths that begin with it. Paths are compared byte for byte.
    pub fn new(path: &str, seconds: u64) -> Result<Self, &'static str> {
        let path = Pattern::of(path);
        check(&path)?;
        Ok(Self::of(path, seconds))
    }

    /// Whether requests of a method have pages.
    pub(super) fn caches(&self, method: &Method) -> bool {
        matches!(*method, Method::GET | Method::HEAD) || (*method == Method::QUERY && self.caches_query)
    }

    /// A rule for all paths.
    pub(crate) fn everything(seconds: u64) -> Self {
        Self::of(Pattern::Prefix("/".to_owned()), seconds)
    }

    fn of(path: Pattern, seconds: u64) -> Self {
        Self {
            path,
            is_off: false,
            timeout: Duration::from_secs(seconds),
            policy: CachePolicy::Django,
            key_prefix: String::new(),
            caches_query: false,
            normaliser: Normaliser::default(),
            compress: Vec::new(),
            authorization: Authorization::Pass,
            set_cookie: SetCookie::Pass,
            coalesce: Coalesce::Process,
            grace: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            invalidate: false,
            refresh_on_purge: false,
            early_refresh: 0.0,
            upgrade: false,
        }
    }

    /// A rule for paths that are not cached.
    pub fn off(path: &str) -> Result<Self, &'static str> {
        Ok(Self { is_off: true, ..Self::new(path, 0)? })
    }

    /// Whether an unsafe method that succeeds purges the page; always under HTTP (RFC 9111 §4.4).
    pub fn invalidates(&self) -> bool {
        self.invalidate || self.policy != CachePolicy::Django
    }

    /// Whether this rule, which comes first, matches every path of the other rule.
    pub(crate) fn hides(&self, other: &Self) -> bool {
        self.path.covers(&other.path)
    }

    /// The client's caching directives, as far as the rule respects them.
    pub(super) fn wishes(&self, lines: Lines<'_>) -> Wishes {
        match &self.policy {
            CachePolicy::Http(http) if http.respect_client => Wishes::of(lines),
            _ => Wishes::default(),
        }
    }

    /// Whether pages for requests with `Authorization` are stored.
    pub(crate) fn tells_credentials_apart(&self) -> bool {
        self.authorization == Authorization::Vary
    }

    #[cfg(test)]
    pub(crate) fn matches(&self, path: &str) -> bool {
        spellings(&self.path).any(|text| match self.path {
            Pattern::Exact(_) => path == text,
            Pattern::Prefix(_) => path.starts_with(&text),
        })
    }
}

/// Refuses a path that no client sends.
pub(crate) fn check(pattern: &Pattern) -> Result<(), &'static str> {
    let path = pattern.text();
    if !path.starts_with('/') {
        return Err("a path must begin with /");
    }
    if path.contains('*') {
        return Err("* may only stand at the end");
    }
    if path.contains(['?', '#']) {
        return Err("a path is written without a query: each query has its own pages");
    }
    if path.contains(char::is_control) {
        return Err("a path has no control characters");
    }
    // The last segment of a prefix may continue.
    let open = usize::from(matches!(pattern, Pattern::Prefix(_)));
    if path.rsplit('/').skip(open).any(|segment| segment == "." || segment == "..") {
        return Err("clients resolve . and .. before they ask: write the path that remains");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_paths_and_prefixes_match_byte_for_byte() {
        for (pattern, path, expected) in [
            ("/p/", "/p/", true),
            ("/p/", "/p", false),
            ("/p/", "/p/q", false),
            ("/p/", "/P/", false),
            ("/p/", "/%70/", false),
            ("/p/*", "/p/", true),
            ("/p/*", "/p/q/r", true),
            ("/p/*", "/p", false),
            ("/*", "//x", true),
            ("/\u{fc}/*", "/%C3%BC/a", true),
            ("/\u{fc}/*", "/\u{fc}/a", true),
            ("/\u{fc}/*", "/%FC/a", false),
            ("/a b", "/a%20b", true),
            ("/.*", "/.env", true),
            ("/%C3%BC", "/%C3%BC", true),
            ("/%C3%BC", "/%25C3%25BC", false),
        ] {
            assert_eq!(Rule::new(pattern, 60).unwrap().matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_that_is_not_a_pattern_is_refused() {
        for pattern in [
            "",
            "p/",
            "*",
            "/a*b",
            "/a**",
            "/p/?page=2",
            "/p#x",
            "http://a/",
            "/a\nb",
            "/\u{85}",
            "/a/../b",
            "/./*",
            "/..",
        ] {
            assert!(Rule::new(pattern, 60).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_rule_hides_a_later_one_if_it_matches_all_its_paths() {
        for (first, later, expected) in [
            ("/a/", "/a/", true),
            ("/a/*", "/a/", true),
            ("/a/*", "/a/b/*", true),
            ("/*", "/\u{fc}", true),
            ("/a/", "/a/*", false),
            ("/a/b/*", "/a/*", false),
            ("/a/*", "/a", false),
        ] {
            let [first, later] = [first, later].map(|path| Rule::new(path, 60).unwrap());
            assert_eq!(first.hides(&later), expected, "{first} {later}");
        }
    }
}
