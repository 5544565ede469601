//! Whether a response may be stored (RFC 9111 §3), and for how long.

use std::time::Duration;

use hyper::Method;
use hyper::header::{DATE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, SET_COOKIE};
use hyper::http::{request, response};

use super::HttpRules;
use super::control::Control;
use super::freshness::{age_at_arrival, explicit_lifetime, heuristic_lifetime};
use crate::policy::date::seconds;
use crate::policy::{
    Decline, Received, Rule, SearchVariance, SetCookie, Terms, Variance, VaryList, has_authorization,
};
use crate::request::Lines;

/// The "heuristically cacheable" statuses (RFC 9110 §15.1), without 206.
const HEURISTIC: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// A field that is only for the next client of a chain, and is not stored (§3.1).
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// Decides whether a response may be stored. No header is changed, but a response without a `Date` gets one: "A recipient
/// with a clock that receives a response message without a Date header field MUST record the time it was received and
/// append a corresponding Date header field" (RFC 9110 §6.6.1).
pub(in crate::policy) fn admission(
    rule: &Rule,
    http: &HttpRules,
    request: &request::Parts,
    response: &mut response::Parts,
    received: Received,
) -> Result<Terms, Decline> {
    if !response.headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(received.at))
    {
        response.headers.insert(DATE, date);
    }
    let control = Control::of(&response.headers);
    check(rule, request, response, &control)?;
    let headers = &response.headers;
    let variance = Variance { vary: VaryList::of(headers)?, search: SearchVariance::of(headers) };
    let age = age_at_arrival(headers, received);
    let fresh = Duration::from_secs(lifetime(http, response, &control, received).saturating_sub(age));
    let fresh = if control.no_cache { Duration::ZERO } else { fresh.min(rule.timeout) };
    let keep = fresh + beyond(rule, http, headers, &control);
    if keep.is_zero() {
        return Err(if control.no_cache { Decline::NoCache } else { Decline::NoFreshness });
    }
    let born = seconds(received.at).saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
    let mut without = control.named;
    without.extend(rule.set_cookie.left_out());
    without.push(PROXY_AUTHENTICATION_INFO);
    Ok(Terms { variance, fresh, keep, born: Some(born), without })
}

/// Applies "A cache MUST NOT store a response to a request unless" each condition holds, in the order of §3.
fn check(
    rule: &Rule,
    request: &request::Parts,
    response: &response::Parts,
    control: &Control,
) -> Result<(), Decline> {
    let (status, headers) = (response.status.as_u16(), &response.headers);
    // "the request method is understood by the cache": only the body of a GET can be stored.
    if request.method == Method::HEAD {
        return Err(Decline::Head);
    }
    // "the response status code is final", and "if the response status code is 206 or 304, or the must-understand cache
    // directive is present: the cache understands the response status code"
    if status < 200
        || matches!(status, 205 | 206 | 304)
        || (control.must_understand && !is_understood(status))
    {
        return Err(Decline::Status);
    }
    // "the no-store cache directive is not present in the response", and a cache that understands the status ignores it
    // beside must-understand (§5.2.2.3).
    if control.no_store && !control.must_understand {
        return Err(Decline::NoStore);
    }
    // "if the cache is shared: the private response directive is either not present or allows a shared cache to store a
    // modified response"
    if control.is_private {
        return Err(Decline::Private);
    }
    // This is not in the RFC: a cookie is for one client. A cookie that the rule strips, or that the origin names in `private`
    // or `no-cache`, is left out.
    let is_left_out = rule.set_cookie == SetCookie::Strip || control.named.contains(&SET_COOKIE);
    if headers.contains_key(SET_COOKIE) && !is_left_out {
        return Err(Decline::SetCookie);
    }
    // "if the cache is shared: the Authorization header field is not present in the request or a response directive is
    // present that explicitly allows shared caching"
    let is_private = has_authorization(Lines::Map(&request.headers)) && !rule.tells_credentials_apart();
    if is_private && !control.allows_credentials() {
        return Err(Decline::Authorization);
    }
    // "the response contains at least one of the following"
    let says_so = control.is_public || control.max_age.is_some() || control.s_maxage.is_some();
    let has_expires = headers.contains_key(EXPIRES) && !control.is_targeted;
    if !says_so && !has_expires && !HEURISTIC.contains(&status) {
        return Err(Decline::Status);
    }
    if rule.timeout.is_zero() { Err(Decline::ZeroAge) } else { Ok(()) }
}

/// Whether this cache knows the status: the final ones of RFC 9110 §15 and RFC 6585.
fn is_understood(status: u16) -> bool {
    matches!(status, 200..=204 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 428 | 429 | 431 | 500..=505)
}

/// How long a response is fresh in seconds, counted from when it was made. "A cache MUST NOT use heuristics" on a status that
/// is neither heuristically cacheable nor "explicitly marked as cacheable (e.g., with a public response directive)" (§4.2.2).
fn lifetime(http: &HttpRules, response: &response::Parts, control: &Control, received: Received) -> u64 {
    let is_guessed = HEURISTIC.contains(&response.status.as_u16())
        || (control.is_public && !response.status.is_server_error());
    let guessed =
        || heuristic_lifetime(&response.headers, received).unwrap_or(http.default_timeout.as_secs());
    explicit_lifetime(control, &response.headers, received)
        .unwrap_or_else(|| if is_guessed { guessed() } else { 0 })
}

/// How long a page is stored past its time: to be validated, if it has a validator, and to be served stale.
fn beyond(rule: &Rule, http: &HttpRules, headers: &HeaderMap, control: &Control) -> Duration {
    let has_validator = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    let kept = if has_validator { http.keep } else { Duration::ZERO };
    let stale = super::Staleness::new(control);
    kept.max(stale.grace(rule)).max(stale.if_error(rule))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hyper::{Request, Response};

    use super::*;

    const DATE: (&str, &str) = ("date", "Sun, 22 Nov 2026 20:09:06 GMT");
    const TAG: (&str, &str) = ("etag", "\"a\"");

    /// An answer's status and headers, and for how long it is fresh and kept.
    type Row<'a> = (u16, &'a [(&'a str, &'a str)], Result<(u64, u64), Decline>);

    fn decide(
        rule: &Rule,
        request: &[(&str, &str)],
        status: u16,
        lines: &[(&str, &str)],
    ) -> Result<Terms, Decline> {
        let request = request.iter().fold(Request::get("/"), |r, (name, value)| r.header(*name, *value));
        let response =
            lines.iter().fold(Response::builder().status(status), |r, (name, value)| r.header(*name, *value));
        let (request, ()) = request.body(()).unwrap().into_parts();
        let (mut response, ()) = response.body(()).unwrap().into_parts();
        let at = UNIX_EPOCH + Duration::from_secs(1_795_378_146);
        let http = HttpRules {
            default_timeout: Duration::from_secs(7),
            keep: Duration::from_secs(60),
            respect_client: true,
        };
        admission(rule, &http, &request, &mut response, Received { at, took: Duration::ZERO })
    }

    fn rule() -> Rule {
        Rule::new("/", 1000).unwrap()
    }

    #[test]
    fn responses_are_checked_in_the_order_of_the_rfc() {
        const FRESH: (&str, &str) = ("cache-control", "max-age=60");
        let rows: &[Row<'_>] = &[
            (200, &[FRESH], Ok((60, 60))),
            (200, &[FRESH, TAG], Ok((60, 120))),
            (200, &[("cache-control", "max-age=9999"), TAG], Ok((1000, 1060))),
            (200, &[], Ok((7, 7))),
            (200, &[DATE, ("last-modified", "Sun, 22 Nov 2026 20:08:06 GMT")], Ok((6, 66))),
            (200, &[FRESH, ("age", "20")], Ok((40, 40))),
            (200, &[FRESH, ("age", "60")], Err(Decline::NoFreshness)),
            (200, &[FRESH, ("age", "60"), TAG], Ok((0, 60))),
            (200, &[("cache-control", "no-cache, max-age=60"), TAG], Ok((0, 60))),
            (200, &[("cache-control", "no-cache, max-age=60")], Err(Decline::NoCache)),
            (200, &[("cache-control", "no-cache=\"x-a\", max-age=60")], Ok((60, 60))),
            (200, &[("cache-control", "max-age=60, stale-while-revalidate=9")], Ok((60, 69))),
            (200, &[("cache-control", "max-age=60, stale-if-error=90"), TAG], Ok((60, 150))),
            (200, &[("cache-control", "s-maxage=60, stale-if-error=90")], Ok((60, 60))),
            (200, &[("expires", "0")], Err(Decline::NoFreshness)),
            (200, &[FRESH, ("cdn-cache-control", "no-store")], Err(Decline::NoStore)),
            (200, &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=5")], Ok((5, 5))),
            (200, &[("cache-control", "no-store, max-age=60, must-understand")], Ok((60, 60))),
            (599, &[("cache-control", "no-store, max-age=60, must-understand")], Err(Decline::Status)),
            (200, &[("cache-control", "no-store, private")], Err(Decline::NoStore)),
            (200, &[("cache-control", "private, max-age=60")], Err(Decline::Private)),
            (200, &[("cache-control", "private=\"x-a\", max-age=60")], Ok((60, 60))),
            (200, &[FRESH, ("set-cookie", "a=b")], Err(Decline::SetCookie)),
            (
                200,
                &[("cache-control", "max-age=60, no-cache=\"set-cookie\""), ("set-cookie", "a=b")],
                Ok((60, 60)),
            ),
            (200, &[FRESH, ("vary", "*")], Err(Decline::VaryStar)),
            (206, &[FRESH], Err(Decline::Status)),
            (304, &[FRESH], Err(Decline::Status)),
            (599, &[FRESH], Ok((60, 60))),
            (503, &[FRESH], Ok((60, 60))),
            (404, &[], Ok((7, 7))),
            (302, &[], Err(Decline::Status)),
            (302, &[("cache-control", "public")], Ok((7, 7))),
            (501, &[], Ok((7, 7))),
            (503, &[], Err(Decline::Status)),
            (503, &[("cache-control", "public")], Err(Decline::NoFreshness)),
        ];
        for (status, lines, expected) in rows {
            let terms = decide(&rule(), &[], *status, lines);
            let found = terms.map(|terms| (terms.fresh.as_secs(), terms.keep.as_secs()));
            assert_eq!(found, *expected, "{status} {lines:?}");
        }
        let off = Rule { timeout: Duration::ZERO, ..rule() };
        assert_eq!(decide(&off, &[], 200, &[FRESH]), Err(Decline::ZeroAge));
    }

    #[test]
    fn a_page_for_credentials_is_stored_if_the_origin_says_that_it_is_for_all() {
        let authorized = &[("authorization", "Basic eA==")];
        for (control, expected) in [
            ("max-age=60", Some(Decline::Authorization)),
            ("max-age=60, public", None),
            ("max-age=60, must-revalidate", None),
            ("s-maxage=60", None),
        ] {
            let found = decide(&rule(), authorized, 200, &[("cache-control", control)]);
            assert_eq!(found.err(), expected, "{control}");
        }
    }

    #[test]
    fn the_age_counts_from_when_the_page_was_made_and_named_headers_are_left_out() {
        let lines = [("cache-control", "max-age=60, private=\"x-a\""), ("age", "20")];
        let terms = decide(&rule(), &[], 200, &lines).unwrap();
        assert_eq!(terms.born, Some(1_795_378_126));
        assert_eq!(terms.without[0], "x-a");
    }
}
