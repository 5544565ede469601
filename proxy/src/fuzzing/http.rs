//! Properties of everything that HTTP's policy reads: directives, structured fields, dates, and headers that select.

use std::time::{Duration, UNIX_EPOCH};

use hyper::Response;
use hyper::header::{ACCEPT_LANGUAGE, CACHE_CONTROL, HeaderMap, HeaderName};
use server::Peer;
use sfv::{Dictionary, Parser};

use super::{lines, request};
use crate::policy::{
    self, Admission, CachePolicy, Disposition, Freshness, HttpRules, Length, Policy, Received, Rule,
    Staleness, Stored, parse_date, selecting_value,
};
use crate::request::{Lines, Question};

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

const SECOND: Duration = Duration::from_secs(1);

fn rule() -> Option<Rule> {
    let http = HttpRules { default_timeout: 7 * SECOND, keep: 60 * SECOND, respect_client: true };
    Some(Rule { policy: CachePolicy::Http(http), ..Rule::new("/*", 1000).ok()? })
}

/// Takes a request, then an empty line and the headers of its answer. A stored page is kept no shorter than it is fresh, and
/// is fresh no longer than the rule allows. A `CDN-Cache-Control` that cannot be read changes nothing.
pub fn admission(text: &[u8]) {
    let Some(middle) = text.windows(2).position(|pair| pair == b"\n\n") else { return };
    let (Some(request), Some(rule)) = (request(&text[..middle]), rule()) else { return };
    let Some(answer) = request_headers(&text[middle + 2..]) else { return };
    let policy = Policy::new(Vec::new(), 1000);
    let admit = |headers: HeaderMap| {
        let mut response = Response::new(()).into_parts().0;
        response.headers = headers;
        let received = Received { at: UNIX_EPOCH + 1_795_378_146 * SECOND, took: SECOND };
        policy.admission(&rule, &request, &mut response, Length::Known(10), received)
    };
    let admission = admit(answer.clone());
    if let Admission::Admit(terms) = &admission {
        assert!(terms.fresh <= terms.keep && terms.fresh <= rule.timeout);
    }
    let targeted: Vec<_> = answer.get_all(CDN_CACHE_CONTROL).iter().map(|line| line.as_bytes()).collect();
    let is_read =
        Parser::new(&targeted.join(&b", "[..])).parse::<Dictionary>().is_ok_and(|read| !read.is_empty());
    if !is_read {
        let mut without = answer;
        without.remove(CDN_CACHE_CONTROL);
        assert_eq!(admission, admit(without));
    }
}

/// The headers behind a target of their own.
fn request_headers(text: &[u8]) -> Option<HeaderMap> {
    request(&[b"/\n", text].concat()).map(|request| request.headers)
}

/// Takes lines of the `Cache-Control` of a request. A page is served as fresh only while it is, and stale only if the client
/// says `max-stale`. Without these lines it is fresh.
pub fn wishes(text: &[u8]) {
    let Some(rule) = rule() else { return };
    let headers: HeaderMap = lines(text).map(|line| (CACHE_CONTROL, line)).collect();
    let rules = policy::Rules::new(vec![rule]);
    let judged = |headers: &HeaderMap, left: i64| {
        let question = Question::of(&hyper::Method::GET, "/", headers, Peer::LOCAL);
        let Disposition::Lookup(rule, wishes) = rules.disposition(&question) else { return None };
        let page = Stored {
            expires: u64::try_from(1000 + left).ok(),
            cost: Duration::ZERO,
            of_http: Some((900, Staleness::of(&HeaderMap::new()))),
            ended: None,
        };
        Some(rule.judge(page, wishes, UNIX_EPOCH + 1000 * SECOND, || 0.5))
    };
    assert_eq!(judged(&HeaderMap::new(), 10), Some(Freshness::Fresh));
    assert!(!matches!(judged(&headers, -10), Some(Freshness::Fresh)));
    assert!(!matches!(judged(&headers, 10), Some(Freshness::MaxStale | Freshness::Grace)));
    let asks_for_stale = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .any(|line| line.as_bytes().to_ascii_lowercase().windows(9).any(|part| part == b"max-stale"));
    assert!(asks_for_stale || judged(&headers, -10) != Some(Freshness::MaxStale));
}

/// A date that can be read is the same when it is written and read again.
pub fn dates(text: &[u8]) {
    if let Some(time) = parse_date(text) {
        assert_eq!(parse_date(httpdate::fmt_http_date(time).as_bytes()), Some(time));
    }
}

/// Takes lines of a header that selects a page, and of a header whose order and case do not matter. Comparing the compared
/// form again changes nothing.
pub fn selecting(text: &[u8]) {
    for name in [HeaderName::from_static("x-a"), ACCEPT_LANGUAGE] {
        let value = |headers: &HeaderMap| selecting_value(&name, Lines::Map(headers));
        let headers: HeaderMap = lines(text).map(|line| (name.clone(), line)).collect();
        let Some(compared) = value(&headers) else { continue };
        let again: HeaderMap = lines(&compared).map(|line| (name.clone(), line)).collect();
        assert_eq!(value(&again), Some(compared));
    }
}
