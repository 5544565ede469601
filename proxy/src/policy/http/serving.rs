//! Whether a stored page may answer a request (RFC 9111 §4), fresh or stale (§4.2.4, RFC 5861).

use std::time::Duration;

use hyper::header::HeaderMap;

use super::control::Control;
use super::request::Wishes;
use crate::policy::{Freshness, OnFailure, Rule};

/// The origin's directives about serving a page past its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// "A cache MUST NOT generate a stale response if it is prohibited by an explicit in-protocol directive" (§4.2.4).
    is_forbidden: bool,
    while_revalidating: Option<u64>,
    if_error: Option<u64>,
}

/// A wish of the client that a fresh page does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    NoCache,
    MaxAge,
    MinFresh,
}

impl Wish {
    /// The name of the directive.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoCache => "no-cache",
            Self::MaxAge => "max-age",
            Self::MinFresh => "min-fresh",
        }
    }
}

impl Staleness {
    /// Reads the headers of a page.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self::new(&Control::of(headers))
    }

    pub(super) fn new(control: &Control) -> Self {
        Self {
            is_forbidden: control.forbids_stale(),
            while_revalidating: control.stale_while_revalidate,
            if_error: control.stale_if_error,
        }
    }

    /// How long past its end a page is served while a new one is fetched (RFC 5861 §3). If the origin does not say so, the
    /// rule counts.
    pub(super) fn grace(self, rule: &Rule) -> Duration {
        self.allowed(self.while_revalidating, rule.grace)
    }

    /// How long past its end a page is served if the origin fails (RFC 5861 §4).
    pub(super) fn if_error(self, rule: &Rule) -> Duration {
        self.allowed(self.if_error, rule.stale_if_error)
    }

    fn allowed(self, origin: Option<u64>, rule: Duration) -> Duration {
        if self.is_forbidden { Duration::ZERO } else { origin.map_or(rule, Duration::from_secs) }
    }
}

/// The age of a page, and the time that it stays fresh, in seconds. The time is negative if the page has ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Times {
    pub(in crate::policy) age: i64,
    pub(in crate::policy) left: i64,
}

/// Judges a page, with the wishes of a client.
///
/// "When presented with a request, a cache MUST NOT reuse a stored response unless [...] the stored response is one of the
/// following: fresh; allowed to be served stale; successfully validated" (§4).
pub(in crate::policy) fn judge(rule: &Rule, stale: Staleness, times: Times, wishes: Wishes) -> Freshness {
    let is_fresh = times.left > 0;
    match refused_by(wishes, times) {
        Some(wish) if is_fresh => {
            return Freshness::Fetch { wish: Some(wish), on_failure: OnFailure::Fail };
        }
        None if is_fresh => return Freshness::Fresh,
        // "the client is willing to accept a response that has exceeded its freshness lifetime" (§5.2.1.2)
        None if !stale.is_forbidden && wishes.max_stale.is_some_and(|most| past(times) <= most) => {
            return Freshness::MaxStale;
        }
        None if Duration::from_secs(past(times)) < stale.grace(rule) => return Freshness::Grace,
        _ => {}
    }
    let on_failure = match () {
        // "the cache MUST generate an error response rather than reuse the stale response" (§5.2.2.2)
        () if stale.is_forbidden => OnFailure::Forbid,
        () if Duration::from_secs(past(times)) < stale.if_error(rule) => OnFailure::Serve,
        () => OnFailure::Fail,
    };
    Freshness::Fetch { wish: None, on_failure }
}

/// The first wish that a page does not meet (§5.2.1). Ages are whole seconds, so even a page of this very second does not meet
/// the `max-age=0` of a reload.
fn refused_by(wishes: Wishes, times: Times) -> Option<Wish> {
    let age = u64::try_from(times.age).unwrap_or(0);
    let left = u64::try_from(times.left).unwrap_or(0);
    if wishes.no_cache {
        return Some(Wish::NoCache);
    }
    if wishes.max_age.is_some_and(|most| most == 0 || age > most) {
        return Some(Wish::MaxAge);
    }
    (wishes.min_fresh > left).then_some(Wish::MinFresh)
}

/// The seconds since the end of a page.
fn past(times: Times) -> u64 {
    times.left.min(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use hyper::header::{CACHE_CONTROL, HeaderValue};

    use super::*;
    use crate::request::Lines;

    fn headers(control: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(control))])
    }

    /// Judges a page with this `Cache-Control`, of this age and with so many seconds left.
    fn judged(page: &'static str, request: &'static str, age: i64, left: i64) -> Freshness {
        let wishes = Wishes::of(Lines::Map(&headers(request)));
        let rule = Rule::new("/", 60).unwrap();
        judge(&rule, Staleness::of(&headers(page)), Times { age, left }, wishes)
    }

    fn fetch(wish: Option<Wish>, on_failure: OnFailure) -> Freshness {
        Freshness::Fetch { wish, on_failure }
    }

    #[test]
    fn a_fresh_page_is_served_unless_the_client_wishes_otherwise() {
        let refused = |wish| fetch(Some(wish), OnFailure::Fail);
        for (request, expected) in [
            ("", Freshness::Fresh),
            ("no-cache", refused(Wish::NoCache)),
            ("max-age=0", refused(Wish::MaxAge)),
            ("max-age=9", refused(Wish::MaxAge)),
            ("max-age=10", Freshness::Fresh),
            ("min-fresh=50", Freshness::Fresh),
            ("min-fresh=51", refused(Wish::MinFresh)),
            ("max-stale", Freshness::Fresh),
        ] {
            assert_eq!(judged("must-revalidate", request, 10, 50), expected, "{request}");
        }
        assert_eq!(judged("", "max-age=0", 0, 60), refused(Wish::MaxAge));
    }

    #[test]
    fn a_stale_page_is_served_only_as_the_origin_and_the_client_allow() {
        use OnFailure::{Fail, Forbid, Serve};
        for (page, request, past, expected) in [
            ("", "", 1, fetch(None, Fail)),
            ("", "max-stale", 1000, Freshness::MaxStale),
            ("", "max-stale=5", 5, Freshness::MaxStale),
            ("", "max-stale=5", 6, fetch(None, Fail)),
            ("", "max-stale, max-age=0", 5, fetch(None, Fail)),
            ("must-revalidate", "max-stale", 1, fetch(None, Forbid)),
            ("proxy-revalidate", "max-stale", 1, fetch(None, Forbid)),
            ("s-maxage=9", "max-stale", 1, fetch(None, Forbid)),
            ("no-cache", "max-stale", 1, fetch(None, Forbid)),
            ("no-cache=\"x-a\"", "max-stale", 1, Freshness::MaxStale),
            ("stale-while-revalidate=5", "", 4, Freshness::Grace),
            ("stale-while-revalidate=5", "", 5, fetch(None, Fail)),
            ("stale-while-revalidate=5", "no-cache", 4, fetch(None, Fail)),
            ("stale-while-revalidate=5, must-revalidate", "", 1, fetch(None, Forbid)),
            ("stale-if-error=5", "", 4, fetch(None, Serve)),
            ("stale-if-error=5", "", 5, fetch(None, Fail)),
            ("stale-if-error=5, s-maxage=1", "", 1, fetch(None, Forbid)),
        ] {
            assert_eq!(judged(page, request, 60 + past, -past), expected, "{page} {request} {past}");
        }
    }

    #[test]
    fn the_rule_counts_where_the_origin_says_nothing() {
        let seconds = Duration::from_secs;
        let rule = Rule { grace: seconds(30), stale_if_error: seconds(300), ..Rule::new("/", 60).unwrap() };
        for (page, grace, if_error) in [
            ("", 30, 300),
            ("stale-while-revalidate=0", 0, 300),
            ("stale-if-error=7", 30, 7),
            ("must-revalidate", 0, 0),
        ] {
            let stale = Staleness::of(&headers(page));
            assert_eq!(
                (stale.grace(&rule), stale.if_error(&rule)),
                (seconds(grace), seconds(if_error)),
                "{page}"
            );
        }
    }
}
