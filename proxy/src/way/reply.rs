//! Answers that hyper writes, with their cache status.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body as _;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER};
use hyper::http::request;
use hyper::{Response, StatusCode};

use super::body::Body;
use super::decide::Serving;
use crate::error::Error;
use crate::origin::{Fetched, OriginError};
use crate::page::entry::Entry;
use crate::page::stored::{cut, response};
use crate::policy::{CachePolicy, Decline, Part, Rule, Whole, is_conditional, vary_on_coding};
use crate::request::{Lines, Refusal};
use crate::status::{ACME_CHALLENGE, CacheStatus};

/// The methods that the proxy forwards or answers.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// The type of the texts that the proxy writes itself.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer, with the cache status in its headers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) response: Response<Body>,
    pub(super) cache: CacheStatus,
    /// The origin that was asked for this request, if one was, and how long it took for the head.
    pub(super) origin: Option<(Arc<str>, Duration)>,
}

impl Reply {
    pub(super) fn new(mut response: Response<Body>, cache: CacheStatus) -> Self {
        cache.apply(response.headers_mut());
        Self { response, cache, origin: None }
    }

    /// Adds the origin that was asked, and how long its answer took.
    pub(super) fn after(self, origin: Arc<str>, took: Duration) -> Self {
        Self { origin: Some((origin, took)), ..self }
    }

    /// Adds the length of a page that was filled, if it is wanted, and the `ETag` that the page was given.
    pub(super) fn of_whole(mut self, length: Option<u64>, etag: Option<HeaderValue>) -> Self {
        self.response.headers_mut().extend(etag.map(|etag| (ETAG, etag)));
        if let (Body::Filled(body), Some(length)) = (self.response.body_mut(), length) {
            body.set_length(length);
        }
        self
    }

    /// Answers with a stored page.
    pub(super) fn stored(serving: &Serving) -> Self {
        let cache = serving.cache();
        let page = serving.page.clone().in_form(serving.form);
        let response = page.response(serving.time_of_page, cache, &serving.part).map(stored);
        Self { response, cache, origin: None }.explained(&serving.part)
    }

    /// The answer of a fetch, as the client asked for it: in a form that the client accepts, and with the wanted part of the
    /// page.
    pub(super) fn for_request(self, request: &request::Parts, rule: &Rule) -> Result<Self, Error> {
        let reply = self.if_asked_for(is_conditional(&request.headers), false)?.with_forms_of(rule);
        Ok(reply.part_for(request, rule.policy != CachePolicy::Django))
    }

    /// Tells caches between the proxy and the client that the page has other forms, if forms of it are stored.
    fn with_forms_of(mut self, rule: &Rule) -> Self {
        let is_stored = matches!(self.cache, CacheStatus::Miss(..) | CacheStatus::Declined(Decline::Head));
        let head = &self.response;
        if is_stored && !rule.codings_of(head.status(), head.headers()).is_empty() {
            vary_on_coding(self.response.headers_mut());
        }
        self
    }

    /// The part of a whole page that a request asks for. `has_date` is as in [`Whole`].
    fn part_for(self, request: &request::Parts, has_date: bool) -> Self {
        let head = &self.response;
        let length = head.body().size_hint().exact();
        let page = Whole { status: head.status(), headers: head.headers(), length, has_date };
        let part = Part::asked_for(&request.method, Lines::Map(&request.headers), page);
        let response = cut(self.response, &part, length.unwrap_or_default(), Body::part);
        Self { response, ..self }.explained(&part)
    }

    /// Gives a 416 a body that explains it.
    fn explained(mut self, part: &Part) -> Self {
        if *part == Part::Unsatisfiable {
            self.response.headers_mut().insert(CONTENT_TYPE, TEXT);
            *self.response.body_mut() = stored("416: the range begins behind the end of the page\n".into());
        }
        self
    }

    /// Answers a follower with the leader's page.
    pub(super) fn collapsed(entry: Entry, cache: CacheStatus) -> Self {
        let Entry { status, headers, reason, body, .. } = entry;
        Self::new(response(status, headers, reason, body).map(stored), cache)
    }

    /// Relays the origin's answer.
    pub(super) fn relayed(fetched: Fetched, cache: CacheStatus) -> Self {
        Self::new(Response::from_parts(fetched.head, Body::Relayed(fetched.body)), cache)
            .after(fetched.origin, fetched.took)
    }

    /// The answer to an OPTIONS for the proxy itself.
    pub(super) fn unforwarded() -> Self {
        let mut response = Response::new(stored(Bytes::new()));
        response.headers_mut().insert(ALLOW, METHODS);
        Self::new(response, CacheStatus::Failed("max-forwards"))
    }

    /// The answer to an authority that validates a name.
    pub(super) fn of_proof(answer: String) -> Self {
        let mut response = Response::new(stored(answer.into()));
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        Self::new(response, CacheStatus::Failed(ACME_CHALLENGE))
    }

    /// The answer to a request for a purge: JSON, or a short text.
    pub(super) fn of_purge(status: StatusCode, name: &'static str, text: String) -> Self {
        let is_json = text.starts_with('{');
        let mut response = Response::new(stored(text.into()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, if is_json { JSON } else { TEXT });
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Self::new(response, CacheStatus::Purge(name))
    }

    /// A short answer in plain text. It does not reveal the origin or the source of the error.
    pub(super) fn of_error(error: &Error) -> Self {
        let (status, name) = error.kind();
        let mut response = Response::new(stored(format!("{}: {error}\n", status.as_str()).into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, TEXT);
        if matches!(error, Error::Refused(Refusal::Method)) {
            headers.insert(ALLOW, METHODS);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status.is_client_error() {
            // The next bytes on this connection may belong to the refused request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Self::new(response, CacheStatus::Failed(name))
    }

    /// Refuses an answer that does not fit the request: a 1xx, except a 101 to a request for another protocol, or a 304 to a
    /// request without conditions.
    pub(super) fn if_asked_for(self, is_conditional: bool, is_upgrade: bool) -> Result<Self, Error> {
        match self.response.status() {
            StatusCode::SWITCHING_PROTOCOLS if is_upgrade => Ok(self),
            status if status.is_informational() => Err(OriginError::Unasked(status).into()),
            status @ StatusCode::NOT_MODIFIED if !is_conditional => Err(OriginError::Unasked(status).into()),
            _ => Ok(self),
        }
    }
}

pub(super) fn stored(body: Bytes) -> Body {
    Body::Stored(Full::new(body))
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use super::*;

    #[test]
    fn each_error_has_its_status_and_does_not_reveal_the_origin() {
        let source = || Arc::from(Box::<dyn StdError + Send + Sync>::from("refused by 10.1.2.3:8001"));
        let errors: [(Error, u16, &str); 9] = [
            (Refusal::BadRequest("two Host headers").into(), 400, "bad-request"),
            (Refusal::Method.into(), 405, "method"),
            (OriginError::RequestBody(source()).into(), 408, "request-body"),
            (OriginError::Connect(source()).into(), 502, "origin-connect"),
            (OriginError::Answer(source()).into(), 502, "origin-answer"),
            (OriginError::Silent(Duration::from_millis(1500)).into(), 504, "origin-silent"),
            (OriginError::Unasked(StatusCode::NOT_MODIFIED).into(), 502, "origin-answer"),
            (OriginError::Busy.into(), 503, "origin-busy"),
            (Error::Broken, 500, "broken"),
        ];
        for (error, status, detail) in errors {
            let response = Reply::of_error(&error).response;
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["cache-status"], format!("cachepage; fwd=bypass; detail={detail}"));
            assert!(!error.to_string().contains("10.1.2.3"));
            assert_eq!(error.is_news(), status >= 500 && detail != "origin-connect");
        }
        let collapsed = Error::Collapsed(Box::new(OriginError::Connect(source()).into()));
        assert_eq!((collapsed.kind().0.as_u16(), collapsed.is_news()), (502, false));
        assert_eq!(
            Error::from(OriginError::Connect(source())).chain(),
            "cannot connect to the origin: refused by 10.1.2.3:8001"
        );
    }
}
