//! The rules of `cache_page`, in Django's order.

mod cache_control;

use std::time::{Duration, SystemTime};

use hyper::header::{CACHE_CONTROL, EXPIRES, HeaderMap, HeaderValue, SET_COOKIE, VARY};
use hyper::http::{request, response};
use hyper::{Method, StatusCode};

pub(crate) use cache_control::CacheControl;
use cache_control::{Forbidden, forbidden};

use super::date::seconds;
use super::http::age_value;
use super::{Authorization, Decline, Rule, SetCookie, Terms, VaryList, has_authorization};
use crate::request::Lines;

/// Decides whether a response may be stored, and sets its headers as Django's `patch_response_headers` does: `Expires`
/// if absent, and `max-age`. As in Django, a 304 gets these headers too, and is not stored.
pub(super) fn admission(
    rule: &Rule,
    request: &request::Parts,
    response: &mut response::Parts,
    now: SystemTime,
) -> Result<Terms, Decline> {
    let vary = storable(rule, request, response)?;
    let headers = &mut response.headers;
    if rule.authorization == Authorization::Vary && has_authorization(Lines::Map(&request.headers)) {
        headers.append(VARY, HeaderValue::from_static("Authorization"));
    }
    dress(headers, rule.timeout, now);
    if response.status != StatusCode::OK {
        return Err(Decline::Status);
    }
    if rule.timeout.is_zero() {
        return Err(Decline::ZeroAge);
    }
    if request.method == Method::HEAD {
        return Err(Decline::Head);
    }
    // The age that an inner cache has sent counts for hits, too. Django forgets it.
    let age = age_value(headers).and_then(|age| i64::try_from(age).ok());
    let born = age.map(|age| seconds(now) - age);
    Ok(Terms {
        variance: vary.into(),
        fresh: rule.timeout,
        keep: rule.keep(),
        born,
        without: rule.set_cookie.left_out(),
    })
}

/// The checks of Django's `UpdateCacheMiddleware.process_response`, in its order, and further checks that only a proxy needs.
fn storable(rule: &Rule, request: &request::Parts, response: &response::Parts) -> Result<VaryList, Decline> {
    let headers = &response.headers;
    // "if response.streaming or response.status_code not in (200, 304)"
    if response.status != StatusCode::OK && response.status != StatusCode::NOT_MODIFIED {
        return Err(Decline::Status);
    }
    if headers.contains_key(SET_COOKIE) && rule.set_cookie == SetCookie::Pass {
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

#[cfg(test)]
mod tests {
    use hyper::{Request, Response};

    use super::*;
    use crate::policy::{Admission, Length, Policy, Received};

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
        let received = Received { at: now, took: Duration::ZERO };
        match Policy::new(Vec::new(), 1000).admission(rule, request, response, length, received) {
            Admission::Admit(terms) => Ok(terms.keep.as_secs()),
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
}
