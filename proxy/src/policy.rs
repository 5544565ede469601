//! The rules of `cache_page`, in Django's order, as functions of request, response and `now`.
//!
//! [`Rules::disposition`] decides whether the cache is asked at all; [`Policy::admission`] decides whether a response
//! may be stored, and what it varies on.

mod cache_control;
mod judge;
mod part;
mod rule;
mod rules;
mod vary;

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::StatusCode;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, EXPIRES, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    SET_COOKIE, VARY,
};
use hyper::http::{request, response};

pub(crate) use cache_control::CacheControl;
use cache_control::{Forbidden, forbidden};
pub(crate) use judge::{Freshness, has_authorization};
pub(crate) use part::{Part, Whole, ask_for_whole};
pub use rule::{Authorization, Coalesce, Rule};
pub(crate) use rules::Disposition;
pub(crate) use rules::Pass;
use rules::Rules;
use vary::Unstorable;
pub(crate) use vary::VaryList;

use crate::request::Lines;

/// The rules of one proxy.
#[derive(Debug)]
pub(crate) struct Policy {
    rules: Rules,
    max_entry: u64,
}

/// Whether a response may be stored.
#[derive(Debug, PartialEq)]
pub(crate) enum Admission {
    Admit { vary: VaryList },
    Decline(Decline),
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
    /// Django stores only 200.
    Status,
    /// A cookie is for one client (Django stores the page unless it varies on Cookie).
    SetCookie,
    Private,
    NoCache,
    NoStore,
    VaryStar,
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
    /// This process has stored the most variants of the page that it may.
    Variants,
    /// As many pages are being captured as the limit of memory allows.
    Room,
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

    /// Decides whether a response may be stored, and sets its headers as Django's `patch_response_headers` does: `Expires`
    /// if absent, and `max-age`. As in Django, a 304 gets these headers too, and is not stored.
    pub(crate) fn admission(
        &self,
        rule: &Rule,
        request: &request::Parts,
        response: &mut response::Parts,
        length: Length,
        now: SystemTime,
    ) -> Admission {
        let vary = match storable(rule, request, response) {
            Ok(vary) => vary,
            Err(decline) => return Admission::Decline(decline),
        };
        let headers = &mut response.headers;
        if rule.authorization == Authorization::Vary && has_authorization(Lines::Map(&request.headers)) {
            headers.append(VARY, HeaderValue::from_static("Authorization"));
        }
        dress(headers, rule.timeout, now);
        if response.status != StatusCode::OK {
            return Admission::Decline(Decline::Status);
        }
        if rule.timeout.is_zero() {
            return Admission::Decline(Decline::ZeroAge);
        }
        if request.method == Method::HEAD {
            return Admission::Decline(Decline::Head);
        }
        match self.capturable(length) {
            Ok(()) => Admission::Admit { vary },
            Err(decline) => Admission::Decline(decline),
        }
    }

    /// Whether the body can be captured whole, as far as the head says.
    fn capturable(&self, length: Length) -> Result<(), Decline> {
        match length {
            Length::Known(length) if length > self.max_entry => Err(Decline::TooLarge),
            Length::UntilClose => Err(Decline::Unframed),
            Length::Known(_) | Length::Chunked => Ok(()),
        }
    }
}

/// The checks of Django's `UpdateCacheMiddleware.process_response`, in its order, and those that only a proxy needs.
fn storable(rule: &Rule, request: &request::Parts, response: &response::Parts) -> Result<VaryList, Decline> {
    let headers = &response.headers;
    // "if response.streaming or response.status_code not in (200, 304)"
    if response.status != StatusCode::OK && response.status != StatusCode::NOT_MODIFIED {
        return Err(Decline::Status);
    }
    if headers.contains_key(SET_COOKIE) {
        return Err(Decline::SetCookie);
    }
    // private, no-cache and no-store, anywhere in Cache-Control
    forbidden(headers).map_or(Ok(()), |forbidden| Err(Decline::from(forbidden)))?;
    // "*" anywhere in Vary
    let vary = VaryList::of(headers)?;
    if !rule.serves(Lines::Map(&request.headers), headers, true) {
        return Err(Decline::Authorization);
    }
    Ok(vary)
}

/// Whether a status means that the origin failed, so that a stale page is better (RFC 5861 §4).
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Whether the answer to a request may answer others: it is a GET, and its credentials do not keep its page private.
pub(crate) fn may_be_shared(rule: &Rule, request: &request::Parts) -> bool {
    request.method == Method::GET
        && (rule.tells_credentials_apart() || !has_authorization(Lines::Map(&request.headers)))
}

/// Whether a request has conditions that a 304 can answer (RFC 9110 §13.1).
pub(crate) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE)
}

/// Whether a page has `Authorization` in its `Vary`.
pub(crate) fn varies_on_authorization(page: &HeaderMap) -> bool {
    VaryList::of(page).is_ok_and(|list| list.names().contains(&AUTHORIZATION))
}

fn dress(headers: &mut HeaderMap, timeout: Duration, now: SystemTime) {
    if !headers.contains_key(EXPIRES)
        && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(now + timeout))
    {
        headers.insert(EXPIRES, date);
    }
    let mut control = CacheControl::of(headers);
    control.lower_max_age(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX));
    if let Some(line) = control.to_header() {
        headers.insert(CACHE_CONTROL, line);
    }
}

impl From<Forbidden> for Decline {
    fn from(forbidden: Forbidden) -> Self {
        match forbidden {
            Forbidden::Private => Self::Private,
            Forbidden::NoCache => Self::NoCache,
            Forbidden::NoStore => Self::NoStore,
        }
    }
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
            Self::VaryNames => "vary-names",
            Self::ZeroAge => "zero-age",
            Self::Authorization => "authorization",
            Self::TooLarge => "too-large",
            Self::Variants => "variants",
            Self::Room => "room",
            Self::Unframed => "unframed",
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::{Request, Response};

    use super::*;
    use crate::request::Question;

    const NOW: &str = "Sun, 22 Nov 2026 20:09:06 GMT";

    /// A row: the origin's response, the decision, and the resulting Expires and Cache-Control.
    type Row = (u16, &'static [(&'static str, &'static str)], Result<u64, Decline>, [&'static str; 2]);

    const IN_60: &str = "Sun, 22 Nov 2026 20:10:06 GMT";

    /// Measured on Django 5.2.19 (`tests/django/semantics.json`), except where a proxy must be stricter.
    const ROWS: &[Row] = &[
        (200, &[], Ok(60), [IN_60, "max-age=60"]),
        (200, &[("expires", "0")], Ok(60), ["0", "max-age=60"]),
        (200, &[("cache-control", "max-age=0")], Ok(60), [IN_60, "max-age=0"]),
        (200, &[("cache-control", "max-age=3600, public")], Ok(60), [IN_60, "max-age=60, public"]),
        (200, &[("cache-control", "max-age=abc")], Ok(60), [IN_60, "max-age=60"]),
        (200, &[("pragma", "no-cache")], Ok(60), [IN_60, "max-age=60"]),
        (200, &[("vary", "")], Ok(60), [IN_60, "max-age=60"]),
        (304, &[], Err(Decline::Status), [IN_60, "max-age=60"]),
        (404, &[], Err(Decline::Status), ["", ""]),
        (206, &[], Err(Decline::Status), ["", ""]),
        (404, &[("set-cookie", "a=b")], Err(Decline::Status), ["", ""]),
        (
            200,
            &[("set-cookie", "a=b"), ("cache-control", "no-store")],
            Err(Decline::SetCookie),
            ["", "no-store"],
        ),
        (200, &[("cache-control", "Private"), ("vary", "*")], Err(Decline::Private), ["", "Private"]),
        (200, &[("cache-control", "no-store, no-cache")], Err(Decline::NoCache), ["", "no-store, no-cache"]),
        (200, &[("vary", "Accept, *")], Err(Decline::VaryStar), ["", ""]),
        (200, &[("vary", "a b")], Err(Decline::VaryNames), ["", ""]),
    ];

    fn request(method: &str, headers: &[(&str, &str)]) -> request::Parts {
        let request = headers
            .iter()
            .fold(Request::builder().method(method), |r, (name, value)| r.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn response(status: u16, headers: &[(&str, &str)]) -> response::Parts {
        let response = headers
            .iter()
            .fold(Response::builder().status(status), |r, (name, value)| r.header(*name, *value));
        response.body(()).unwrap().into_parts().0
    }

    fn decide(
        rule: &Rule,
        request: &request::Parts,
        response: &mut response::Parts,
        length: Length,
    ) -> Result<u64, Decline> {
        let now = httpdate::parse_http_date(NOW).unwrap();
        match Policy::new(Vec::new(), 1000).admission(rule, request, response, length, now) {
            Admission::Admit { .. } => Ok(rule.keep().as_secs()),
            Admission::Decline(decline) => Err(decline),
        }
    }

    fn rule() -> Rule {
        Rule::new("/p/", 60).unwrap()
    }

    #[test]
    fn responses_are_checked_and_their_headers_set_in_djangos_order() {
        for (status, headers, decision, [expires, control]) in ROWS {
            let mut response = response(*status, headers);
            assert_eq!(
                decide(&rule(), &request("GET", &[]), &mut response, Length::Known(1)),
                *decision,
                "{status} {headers:?}"
            );
            let value = |name| response.headers.get(name).map_or("", |value| value.to_str().unwrap());
            assert_eq!([value(EXPIRES), value(CACHE_CONTROL)], [*expires, *control], "{status} {headers:?}");
        }
    }

    #[test]
    fn a_body_that_cannot_be_captured_is_declined_last_and_its_headers_are_set() {
        for (length, decision) in [
            (Length::Known(0), Ok(60)),
            (Length::Known(1000), Ok(60)),
            (Length::Known(1001), Err(Decline::TooLarge)),
            (Length::Chunked, Ok(60)),
            (Length::UntilClose, Err(Decline::Unframed)),
        ] {
            let mut response = response(200, &[]);
            assert_eq!(decide(&rule(), &request("GET", &[]), &mut response, length), decision, "{length:?}");
            assert_eq!(response.headers[CACHE_CONTROL], "max-age=60");
        }
    }

    #[test]
    fn timeout_0_stores_nothing_and_says_so_to_browsers() {
        let mut response = response(200, &[]);
        let rule = Rule::new("/p/", 0).unwrap();
        assert_eq!(
            decide(&rule, &request("GET", &[]), &mut response, Length::Known(1)),
            Err(Decline::ZeroAge)
        );
        assert_eq!(
            (&response.headers[EXPIRES], &response.headers[CACHE_CONTROL]),
            (&NOW.parse().unwrap(), &"max-age=0".parse().unwrap())
        );
    }

    #[test]
    fn a_page_for_credentials_is_not_stored_unless_it_is_public_or_the_rule_varies_on_them() {
        let authorized = request("GET", &[("authorization", "Basic eA==")]);
        let vary = Rule { authorization: Authorization::Vary, ..rule() };
        for (rule, request, control, decision) in [
            (&rule(), &authorized, "", Err(Decline::Authorization)),
            (&rule(), &authorized, "s-maxage=10", Err(Decline::Authorization)),
            (&rule(), &authorized, "PUBLIC", Ok(60)),
            (&rule(), &request("GET", &[("authorization", "")]), "", Ok(60)),
            (&vary, &authorized, "", Ok(60)),
        ] {
            let mut response = response(200, &[("cache-control", control)]);
            assert_eq!(decide(rule, request, &mut response, Length::Known(1)), decision, "{control}");
        }
    }

    #[test]
    fn a_head_request_stores_nothing() {
        let mut response = response(200, &[]);
        let decision = decide(&rule(), &request("HEAD", &[]), &mut response, Length::Known(0));
        assert_eq!(
            (decision, &response.headers[CACHE_CONTROL]),
            (Err(Decline::Head), &"max-age=60".parse().unwrap())
        );
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_only_get_and_head_are_looked_up() {
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let policy = Policy::new(vec![Rule::new("/p/", 1).unwrap(), Rule::new("/*", 2).unwrap()], 1000);
        let disposition = |method: &str, target: &str| {
            let request = Request::builder().method(method).uri(target).body(()).unwrap().into_parts().0;
            match policy.rules().disposition(&Question::of_parts(&request, peer)) {
                Disposition::Lookup(rule) => Ok(rule.timeout.as_secs()),
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
                Disposition::Lookup(_) => None,
                Disposition::Pass(pass) => Some(pass),
            };
            assert_eq!(pass, expected, "{method} {target}");
        }
        let nothing = Policy::new(Vec::new(), 1000);
        assert!(matches!(
            nothing.rules().disposition(&Question::of_parts(&request("POST", &[]), peer)),
            Disposition::Pass(Pass::Rule)
        ));
    }
}
