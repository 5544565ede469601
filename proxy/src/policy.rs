//! The rules of caching, as functions of request, response and `now`.
//!
//! [`Rules::disposition`] decides whether the cache is asked at all; [`Policy::admission`] decides whether a response
//! may be stored, for how long, and what it varies on: by the rules of Django ([`django`]) or of HTTP ([`http`]).

mod compress;
mod date;
mod django;
mod http;
mod judge;
mod part;
mod rule;
mod rules;
mod search;
mod vary;

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use hyper::http::{request, response};

#[cfg(any(test, fuzzing))]
pub(crate) use date::parse as parse_date;
pub(crate) use date::{parse_any_day, seconds, unix_seconds};
pub(crate) use django::CacheControl;
pub use http::HttpRules;
pub(crate) use http::{
    Renewal, Staleness, Wish, Wishes, ask_if_current, asks_by_tag, renewed, selecting_value,
};
pub(crate) use judge::{Freshness, OnFailure, Stored, has_authorization};
pub(crate) use part::{Part, Whole, ask_for_whole, needs_length};
pub use rule::{Authorization, CachePolicy, Coalesce, Rule};
pub(crate) use rule::{SetCookie, check as check_path, spellings};
pub(crate) use rules::Disposition;
pub(crate) use rules::{Pass, Rules};
pub(crate) use search::SearchVariance;
use vary::Unstorable;
pub(crate) use vary::{VaryList, varies_on, vary_on_coding};

use crate::request::Lines;

/// The rules of one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    rules: Rules,
    max_entry: u64,
}

/// Whether a response may be stored.
#[derive(Debug, PartialEq)]
pub(crate) enum Admission {
    Admit(Terms),
    Decline(Decline),
}

/// The terms on which a response is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    pub(crate) variance: Variance,
    /// How long it is fresh.
    pub(crate) fresh: Duration,
    /// How long it is stored, which is at least as long.
    pub(crate) keep: Duration,
    /// When it was made, in seconds since 1970, if that is known.
    pub(crate) born: Option<i64>,
    /// The headers that are left out of the stored page.
    pub(crate) without: Vec<HeaderName>,
}

/// The requests that a page answers, as the origin describes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variance {
    /// The headers whose values must be the same.
    pub(crate) vary: VaryList,
    /// The part of the query that must be the same.
    pub(crate) search: SearchVariance,
}

impl Variance {
    /// Whether the page answers only requests for its own URL, and all of these.
    pub(crate) fn is_none(&self) -> bool {
        self.vary.is_empty() && self.search.is_default()
    }
}

impl From<VaryList> for Variance {
    fn from(vary: VaryList) -> Self {
        Self { vary, search: SearchVariance::default() }
    }
}

/// When a response arrived, and how long it took since its request was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) at: SystemTime,
    pub(crate) took: Duration,
}

/// How the end of a body is marked (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

impl Length {
    /// The announced length.
    pub(crate) fn known(self) -> Option<u64> {
        match self {
            Self::Known(length) => Some(length),
            Self::Chunked | Self::UntilClose => None,
        }
    }
}

/// Why a response is not stored, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decline {
    /// Django stores only 200. HTTP stores neither 206, nor 304, nor a status that nothing marks as cacheable.
    Status,
    /// A cookie is for one client (Django stores the page unless it varies on Cookie).
    SetCookie,
    Private,
    NoCache,
    NoStore,
    VaryStar,
    /// It does not say how long it is fresh, or has ended already, and it has no validator.
    NoFreshness,
    /// A `Vary` that names no header, too many, or the client's address.
    VaryNames,
    /// The request had `Authorization` and the response is not `public`.
    Authorization,
    /// The rule's timeout is 0.
    ZeroAge,
    /// A HEAD has no body to store. Its headers are set as for a GET.
    Head,
    /// The body is larger than `max_entry`.
    TooLarge,
    /// This process already stores as many variants of the page as it may.
    Variants,
    /// As many pages are being captured as the limit of memory allows.
    Room,
    /// It has more tags than a page may have, or longer ones.
    Tags,
    /// Without a length or chunks, a body that broke off looks complete (RFC 9112 §6.3).
    Unframed,
}

impl Policy {
    pub(crate) fn new(rules: Vec<Rule>, max_entry: u64) -> Self {
        Self { rules: Rules::new(rules), max_entry }
    }

    /// The rules.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Decides whether a response may be stored, and changes its headers as the policy does.
    pub(crate) fn admission(
        &self,
        rule: &Rule,
        request: &request::Parts,
        response: &mut response::Parts,
        length: Length,
        received: Received,
    ) -> Admission {
        let terms = match &rule.policy {
            CachePolicy::Django => django::admission(rule, request, response, received.at),
            CachePolicy::Http(http) => http::admission(rule, http, request, response, received),
        };
        match terms.and_then(|terms| self.capturable(length, terms)) {
            Ok(terms) => Admission::Admit(terms),
            Err(decline) => Admission::Decline(decline),
        }
    }

    /// Whether the body can be captured whole, as far as the head says.
    fn capturable(&self, length: Length, terms: Terms) -> Result<Terms, Decline> {
        match length {
            Length::Known(length) if length > self.max_entry => Err(Decline::TooLarge),
            Length::UntilClose => Err(Decline::Unframed),
            Length::Known(_) | Length::Chunked => Ok(terms),
        }
    }
}

/// Whether a status means that the origin failed, so that a stale page is better (RFC 5861 §4).
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Whether the answer to a request may answer other requests: the request is a GET or a QUERY, and its credentials do not make
/// the page private.
pub(crate) fn may_be_shared(rule: &Rule, request: &request::Parts) -> bool {
    request.method != Method::HEAD
        && (rule.tells_credentials_apart() || !has_authorization(Lines::Map(&request.headers)))
}

/// Whether a request has conditions that a 304 can answer (RFC 9110 §13.1).
pub(crate) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE)
}

impl From<Unstorable> for Decline {
    fn from(unstorable: Unstorable) -> Self {
        match unstorable {
            Unstorable::Star => Self::VaryStar,
            Unstorable::Names => Self::VaryNames,
        }
    }
}

impl Decline {
    /// The fixed name in `Cache-Status` and in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Status => "status",
            Self::SetCookie => "set-cookie",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::NoStore => "no-store",
            Self::VaryStar => "vary-star",
            Self::NoFreshness => "no-freshness",
            Self::VaryNames => "vary-names",
            Self::ZeroAge => "zero-age",
            Self::Authorization => "authorization",
            Self::TooLarge => "too-large",
            Self::Variants => "variants",
            Self::Room => "room",
            Self::Tags => "tags",
            Self::Unframed => "unframed",
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::request::Question;

    #[test]
    fn the_first_rule_that_matches_decides_and_only_get_and_head_are_looked_up() {
        let peer = server::Peer::LOCAL;
        let policy = Policy::new(vec![Rule::new("/p/", 1).unwrap(), Rule::new("/*", 2).unwrap()], 1000);
        let disposition = |method: &str, target: &str| {
            let request = Request::builder().method(method).uri(target).body(()).unwrap().into_parts().0;
            match policy.rules().disposition(&Question::of_parts(&request, peer)) {
                Disposition::Lookup(rule, _) => Ok(rule.timeout.as_secs()),
                Disposition::Pass(pass) => Err(pass),
            }
        };
        assert_eq!(disposition("GET", "/p/?x"), Ok(1));
        assert_eq!(disposition("HEAD", "/p/q"), Ok(2));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "BREW"] {
            assert_eq!(disposition(method, "/p/"), Err(Pass::Method), "{method}");
        }
        let rules = vec![Rule::off("/p/off/*").unwrap(), Rule::new("/p/*", 1).unwrap()];
        let policy = Policy::new(rules, 1000);
        for (method, target, expected) in [
            ("GET", "/p/on", None),
            ("GET", "/p/off/", Some(Pass::Off)),
            ("POST", "/p/off/", Some(Pass::Off)),
        ] {
            let request = Request::builder().method(method).uri(target).body(()).unwrap().into_parts().0;
            let pass = match policy.rules().disposition(&Question::of_parts(&request, peer)) {
                Disposition::Lookup(..) => None,
                Disposition::Pass(pass) => Some(pass),
            };
            assert_eq!(pass, expected, "{method} {target}");
        }
        let nothing = Policy::new(Vec::new(), 1000);
        let request = Request::post("/").body(()).unwrap().into_parts().0;
        assert!(matches!(
            nothing.rules().disposition(&Question::of_parts(&request, peer)),
            Disposition::Pass(Pass::Rule)
        ));
    }
}
