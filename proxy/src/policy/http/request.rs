//! The caching directives of a request (RFC 9111 §5.2.1). `Pragma` does not count: it is deprecated (§5.4).

use hyper::header::CACHE_CONTROL;

use super::directives::{delta_seconds, directives, seconds_of};
use crate::request::Lines;

/// The directives of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) no_store: bool,
    pub(crate) only_if_cached: bool,
    pub(super) no_cache: bool,
    /// The greatest age of a page that it accepts.
    pub(super) max_age: Option<u64>,
    /// How long a page must stay fresh.
    pub(super) min_fresh: u64,
    /// How long after its end it accepts a page.
    pub(super) max_stale: Option<u64>,
}

impl Wishes {
    pub(crate) fn of(lines: Lines<'_>) -> Self {
        let mut wishes = Self::default();
        lines
            .get_all(&CACHE_CONTROL)
            .flat_map(directives)
            .for_each(|(name, argument)| wishes.add(name, argument));
        wishes
    }

    fn add(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            self.max_age = Some(seconds_of(argument));
        } else if is("min-fresh") {
            self.min_fresh = seconds_of(argument);
        } else if is("max-stale") {
            // "If no value is assigned to max-stale, then the client will accept a stale response of any age" (§5.2.1.2).
            self.max_stale = argument.map_or(Some(u64::MAX), delta_seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn the_directives_of_a_request_are_read_in_any_case() {
        for (line, expected) in [
            ("nothing-to-see-here", Wishes::default()),
            ("No-Cache", Wishes { no_cache: true, ..Wishes::default() }),
            (
                "no-store, only-if-cached",
                Wishes { no_store: true, only_if_cached: true, ..Wishes::default() },
            ),
            ("max-age=0, min-fresh=7", Wishes { max_age: Some(0), min_fresh: 7, ..Wishes::default() }),
            ("max-age=x", Wishes { max_age: Some(0), ..Wishes::default() }),
            ("max-stale", Wishes { max_stale: Some(u64::MAX), ..Wishes::default() }),
            ("max-stale=5", Wishes { max_stale: Some(5), ..Wishes::default() }),
            ("max-stale=x", Wishes::default()),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(line))]);
            assert_eq!(Wishes::of(Lines::Map(&headers)), expected, "{line}");
        }
    }
}
