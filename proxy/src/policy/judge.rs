//! Judges a stored page: which requests it may answer, whether it is still fresh, and whether to fetch a new one.
//!
//! Under Django's policy a page is fresh as long as it is in the store. Rules with `grace`, `stale_if_error` or
//! `early_refresh` also compare its end with the clock. For HTTP's policy see [`http`](super::http).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::date::seconds;
use super::http::{self, Staleness, Times, Wish, Wishes};
use super::{Authorization, CacheControl, CachePolicy, Rule};
use crate::request::Lines;

/// Whether the found page is served, and whether a new one is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Serve it.
    Fresh,
    /// It ends soon: serve it, and fetch a new one meanwhile.
    Early,
    /// It has ended, within the grace: serve it, and fetch a new one meanwhile.
    Grace,
    /// It has ended, and the client accepts that: serve it.
    MaxStale,
    /// It has ended, or does not meet a wish of the client: fetch a new one, or validate this one.
    Fetch { wish: Option<Wish>, on_failure: OnFailure },
    /// It was stored under another policy: fetch a new one.
    Foreign,
}

/// What happens to a page that was not served at once if the fetch fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Serve it.
    Serve,
    /// Answer that the page must not be served.
    Forbid,
    /// The failure is the answer.
    Fail,
}

/// The facts of a stored page that it is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    /// When it ends, in seconds since 1970; unknown for pages that Django wrote.
    pub(crate) expires: Option<u64>,
    /// How long the origin took to make it.
    pub(crate) cost: Duration,
    /// For a page of HTTP's policy: when it was made, in seconds since 1970, and its directives about serving it stale.
    pub(crate) of_http: Option<(i64, Staleness)>,
    /// When a soft purge has ended it, in seconds since 1970.
    pub(crate) ended: Option<u64>,
}

impl Rule {
    /// Whether `Authorization` allows a page to answer a request: a `public` page answers every request, any other page
    /// only requests without credentials (RFC 9111 §3.5), unless the rule varies on them and this page does so (`is_apart`).
    pub(crate) fn serves(&self, request: Lines<'_>, page: &HeaderMap, is_apart: bool) -> bool {
        !has_authorization(request)
            || self.is_for_all(page)
            || (self.authorization == Authorization::Vary && is_apart)
    }

    /// Whether the origin says that a page is for every client, with credentials and without.
    fn is_for_all(&self, page: &HeaderMap) -> bool {
        match self.policy {
            CachePolicy::Django => CacheControl::of(page).is_public(),
            CachePolicy::Http(_) => http::allows_credentials(page),
        }
    }

    /// How long pages of Django's policy are kept in the store: their ttl, and the time that they may be served stale.
    pub(crate) fn keep(&self) -> Duration {
        self.timeout + self.grace.max(self.stale_if_error)
    }

    /// Judges a page at `now`, for a client with these wishes. `chance` returns a random number between 0 and 1.
    pub(crate) fn judge(
        &self,
        page: Stored,
        wishes: Wishes,
        now: SystemTime,
        chance: impl FnOnce() -> f64,
    ) -> Freshness {
        match (&self.policy, page.of_http) {
            (CachePolicy::Django, None) => match page.ended {
                Some(ended) => self.freshness_since(ended, now),
                None => self.freshness(page.expires, page.cost, now, chance),
            },
            (CachePolicy::Http(_), Some((born, stale))) => {
                let now = seconds(now);
                let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
                let end = signed(page.expires.unwrap_or_default());
                // The soft purge has happened, whatever the clock here says.
                let end = page.ended.map_or(end, |ended| end.min(signed(ended)).min(now));
                let left = end.saturating_sub(now);
                let times = Times { age: now.saturating_sub(born), left };
                match http::judge(self, stale, times, wishes) {
                    Freshness::Fresh
                        if self.is_early(page.cost, Duration::from_secs(left.unsigned_abs()), chance) =>
                    {
                        Freshness::Early
                    }
                    other => other,
                }
            }
            _ => Freshness::Foreign,
        }
    }

    /// `now`, adjusted to a page of Django's policy that ends at `expires`, in seconds since 1970: no earlier than the page
    /// was stored, and no later than it is kept. The clocks of proxies differ, and the page is still in the store.
    pub(crate) fn time_of_page(&self, expires: Option<u64>, now: SystemTime) -> SystemTime {
        let Some(expires) = expires.filter(|_| self.policy == CachePolicy::Django) else { return now };
        let stored = UNIX_EPOCH + Duration::from_secs(expires).saturating_sub(self.timeout);
        now.clamp(stored, stored + self.keep())
    }

    /// Judges a page of Django's policy that ends at `expires`, in seconds since 1970, and took the origin `cost` to make.
    fn freshness(
        &self,
        expires: Option<u64>,
        cost: Duration,
        now: SystemTime,
        chance: impl FnOnce() -> f64,
    ) -> Freshness {
        let Some(expires) = expires.filter(|_| self.looks_at_the_clock()) else { return Freshness::Fresh };
        let expires = UNIX_EPOCH + Duration::from_secs(expires);
        match now.duration_since(expires) {
            Ok(past) if past < self.grace => Freshness::Grace,
            // Another rule may have kept the page longer, or the clock of the proxy that stored it is ahead.
            Ok(_) => Freshness::Fetch { wish: None, on_failure: OnFailure::Serve },
            Err(left) if self.is_early(cost, left.duration(), chance) => Freshness::Early,
            Err(_) => Freshness::Fresh,
        }
    }

    /// Judges a page of Django's policy that a soft purge has ended at this time, in seconds since 1970.
    fn freshness_since(&self, ended: u64, now: SystemTime) -> Freshness {
        // The purge has happened, whatever the clock here says.
        let past = now.duration_since(UNIX_EPOCH + Duration::from_secs(ended)).unwrap_or_default();
        match past {
            past if past < self.grace => Freshness::Grace,
            past if past < self.stale_if_error => {
                Freshness::Fetch { wish: None, on_failure: OnFailure::Serve }
            }
            _ => Freshness::Fetch { wish: None, on_failure: OnFailure::Fail },
        }
    }

    /// Whether a page with this much time left is fetched again.
    ///
    /// This is XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, 2015): the longer
    /// a page takes and the nearer its end is, the more likely the refresh; `early_refresh` is its beta.
    fn is_early(&self, cost: Duration, left: Duration, chance: impl FnOnce() -> f64) -> bool {
        self.early_refresh > 0.0
            && cost.as_secs_f64() * self.early_refresh * -chance().max(f64::MIN_POSITIVE).ln()
                >= left.as_secs_f64()
    }

    /// Whether pages of this rule can be anything but fresh.
    pub(crate) fn looks_at_the_clock(&self) -> bool {
        !self.grace.is_zero() || !self.stale_if_error.is_zero() || self.early_refresh > 0.0
    }
}

/// Whether a request has credentials. An empty `Authorization` holds none.
pub(crate) fn has_authorization(lines: Lines<'_>) -> bool {
    lines.get(&AUTHORIZATION).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::HttpRules;

    const IF_ERROR: Freshness = Freshness::Fetch { wish: None, on_failure: OnFailure::Serve };

    fn rule(grace: u64, stale_if_error: u64, early_refresh: f64) -> Rule {
        let seconds = Duration::from_secs;
        let rule = Rule::new("/", 60).unwrap();
        Rule { grace: seconds(grace), stale_if_error: seconds(stale_if_error), early_refresh, ..rule }
    }

    #[test]
    fn pages_are_compared_with_the_clock_only_if_the_rule_asks_for_it() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for (rule, now, expected) in [
            (rule(0, 0, 0.0), 99, Freshness::Fresh),
            (rule(0, 0, 0.0), 1000, Freshness::Fresh),
            (rule(10, 0, 0.0), 99, Freshness::Fresh),
            (rule(10, 0, 0.0), 100, Freshness::Grace),
            (rule(10, 0, 0.0), 109, Freshness::Grace),
            (rule(10, 0, 0.0), 110, IF_ERROR),
            (rule(10, 300, 0.0), 105, Freshness::Grace),
            (rule(0, 300, 0.0), 100, IF_ERROR),
        ] {
            assert_eq!(rule.freshness(Some(100), Duration::ZERO, at(now), || 0.5), expected, "{now}");
        }
        assert_eq!(rule(10, 0, 0.0).freshness(None, Duration::ZERO, at(5000), || 0.5), Freshness::Fresh);
    }

    #[test]
    fn a_page_is_no_younger_than_new_and_no_older_than_it_is_kept_whatever_the_clocks() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let rule = rule(10, 0, 0.0);
        for (now, expected) in
            [(940, 940), (939, 940), (100, 940), (1000, 1000), (1010, 1010), (1011, 1010), (9000, 1010)]
        {
            assert_eq!(rule.time_of_page(Some(1000), at(now)), at(expected), "{now}");
        }
        assert_eq!(rule.time_of_page(None, at(7)), at(7));
    }

    #[test]
    fn a_costly_page_is_refreshed_earlier() {
        let left = |seconds: u64| UNIX_EPOCH + Duration::from_secs(100 - seconds);
        let second = Duration::from_secs(1);
        // -ln(0.05) is 3.0.
        for (beta, cost, seconds_left, chance, expected) in [
            (1.0, second, 2, 0.05, Freshness::Early),
            (1.0, second, 4, 0.05, Freshness::Fresh),
            (2.0, second, 4, 0.05, Freshness::Early),
            (1.0, second * 4, 10, 0.05, Freshness::Early),
            (1.0, second / 10, 2, 0.05, Freshness::Fresh),
            (1.0, second, 2, 0.9, Freshness::Fresh),
            (0.0, second * 100, 1, 0.0, Freshness::Fresh),
            (1.0, second, 2, 0.0, Freshness::Early),
        ] {
            let found = rule(1, 0, beta).freshness(Some(100), cost, left(seconds_left), || chance);
            assert_eq!(found, expected, "{beta} {cost:?} {seconds_left} {chance}");
        }
    }

    #[test]
    fn pages_are_kept_as_long_as_they_may_be_served() {
        assert_eq!(rule(0, 0, 9.0).keep(), Duration::from_secs(60));
        assert_eq!(rule(10, 0, 0.0).keep(), Duration::from_secs(70));
        assert_eq!(rule(10, 300, 0.0).keep(), Duration::from_secs(360));
    }

    #[test]
    fn a_page_is_judged_by_the_policy_that_it_was_stored_by() {
        let http = HttpRules { default_timeout: Duration::ZERO, keep: Duration::ZERO, respect_client: true };
        let of_http = Rule { policy: CachePolicy::Http(http), ..Rule::new("/", 60).unwrap() };
        let now = UNIX_EPOCH + Duration::from_secs(90);
        let page = |of_http| Stored { expires: Some(100), cost: Duration::ZERO, of_http, ended: None };
        let judged = |rule: &Rule, page| rule.judge(page, Wishes::default(), now, || 0.5);
        let stale = Staleness::of(&HeaderMap::new());
        assert_eq!(judged(&rule(0, 0, 0.0), page(None)), Freshness::Fresh);
        assert_eq!(judged(&rule(0, 0, 0.0), page(Some((40, stale)))), Freshness::Foreign);
        assert_eq!(judged(&of_http, page(None)), Freshness::Foreign);
        assert_eq!(judged(&of_http, page(Some((40, stale)))), Freshness::Fresh);
        // By the clock of the store, the soft purge lies in the future.
        let purged = Stored { ended: Some(92), ..page(Some((40, stale))) };
        assert!(matches!(judged(&of_http, purged), Freshness::Fetch { .. }));
        let costly = Stored { cost: Duration::from_secs(60), ..page(Some((40, stale))) };
        assert_eq!(judged(&Rule { early_refresh: 1.0, ..of_http }, costly), Freshness::Early);
    }
}
