//! A rule: which pages are cached, and how.

use std::fmt;
use std::time::Duration;

/// One `[[cache_page]]` of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(crate) path: PathPattern,
    /// How long a page is stored.
    pub timeout: Duration,
    /// Part of the key, so that two rules (or two sites on one Redis) don't share pages.
    pub key_prefix: String,
    /// What happens to requests with `Authorization`.
    pub authorization: Authorization,
    /// Which simultaneous misses share one fetch.
    pub coalesce: Coalesce,
    /// How long after its end a page is served while a new one is fetched.
    pub grace: Duration,
    /// How long after its end a page is served if the origin fails.
    pub stale_if_error: Duration,
    /// How early pages are fetched again before their end: 1 suits most sites, more is earlier, 0 is never.
    pub early_refresh: f64,
}

/// What a rule does with requests that have `Authorization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// They get only `public` pages from the cache; other pages are fetched and not stored.
    #[default]
    Pass,
    /// Each value of `Authorization` has its own pages.
    Vary,
}

/// Which simultaneous misses of a page share one fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coalesce {
    /// Those of one proxy.
    #[default]
    Process,
    /// Those of all proxies that share the store.
    Fleet,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PathPattern {
    Exact(String),
    Prefix(String),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            PathPattern::Exact(path) => write!(f, "{path}, {} s", self.timeout.as_secs()),
            PathPattern::Prefix(path) => write!(f, "{path}*, {} s", self.timeout.as_secs()),
        }
    }
}

impl Rule {
    /// A rule for one path or, with `*` at its end, for all paths that begin with it. Paths are compared byte for byte.
    pub fn new(path: &str, seconds: u64) -> Result<Self, &'static str> {
        let (text, path) = match path.strip_suffix('*') {
            Some(prefix) => (prefix, PathPattern::Prefix(prefix.to_owned())),
            None => (path, PathPattern::Exact(path.to_owned())),
        };
        if !text.starts_with('/') {
            return Err("a path must begin with /");
        }
        if text.contains('*') {
            return Err("* may only stand at the end");
        }
        if text.contains(['?', '#']) {
            return Err("a rule names a path, without a query: each query has its own pages");
        }
        Ok(Self {
            path,
            timeout: Duration::from_secs(seconds),
            key_prefix: String::new(),
            authorization: Authorization::Pass,
            coalesce: Coalesce::Process,
            grace: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            early_refresh: 0.0,
        })
    }

    /// Whether pages for requests with `Authorization` are stored.
    pub(crate) fn tells_credentials_apart(&self) -> bool {
        self.authorization == Authorization::Vary
    }

    #[cfg(test)]
    pub(crate) fn matches(&self, path: &str) -> bool {
        match &self.path {
            PathPattern::Exact(exact) => path == exact,
            PathPattern::Prefix(prefix) => path.starts_with(prefix),
        }
    }
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
        ] {
            assert_eq!(Rule::new(pattern, 60).unwrap().matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_that_is_not_a_pattern_is_refused() {
        for pattern in ["", "p/", "*", "/a*b", "/a**", "/p/?page=2", "/p#x"] {
            assert!(Rule::new(pattern, 60).is_err(), "{pattern}");
        }
    }
}
