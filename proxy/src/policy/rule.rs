//! A rule: which pages are cached, and how.

use std::fmt;
use std::time::Duration;

/// One `[[cache_page]]` of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(crate) path: PathPattern,
    /// How long a page is stored.
    pub timeout: Duration,
    /// Goes into the key, so that two rules (or two sites on one Redis) keep their pages apart.
    pub key_prefix: String,
    /// What happens to requests with `Authorization`.
    pub authorization: Authorization,
    /// Whose simultaneous misses are one request to the origin.
    pub coalesce: Coalesce,
    /// How long past its time a page is served while a new one is fetched.
    pub grace: Duration,
    /// How long past its time a page is served if the origin fails.
    pub stale_if_error: Duration,
    /// How eagerly pages are fetched anew before their time: 1 is the best for most, more is earlier, 0 is never.
    pub early_refresh: f64,
}

/// What a rule does with requests that have `Authorization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// They pass, and their pages are not stored, unless a page is `public`.
    #[default]
    Pass,
    /// Each value has pages of its own.
    Vary,
}

/// Whose simultaneous misses of a page are one request to the origin.
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
    /// A rule for a path, or for all that begin with it if it ends with `*`. Paths are compared byte for byte.
    pub fn new(path: &str, seconds: u64) -> Result<Self, &'static str> {
        let (text, path) = match path.strip_suffix('*') {
            Some(prefix) => (prefix, PathPattern::Prefix(prefix.to_owned())),
            None => (path, PathPattern::Exact(path.to_owned())),
        };
        if !text.starts_with('/') {
            return Err("a path begins with /");
        }
        if text.contains('*') {
            return Err("* stands at the end only");
        }
        if text.contains(['?', '#']) {
            return Err("a rule names a path; each query has pages of its own");
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

    /// Whether pages of requests with `Authorization` are kept at all.
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
    fn what_is_no_pattern_is_refused() {
        for pattern in ["", "p/", "*", "/a*b", "/a**", "/p/?page=2", "/p#x"] {
            assert!(Rule::new(pattern, 60).is_err(), "{pattern}");
        }
    }
}
