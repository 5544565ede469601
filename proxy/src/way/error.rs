//! What can go wrong with a request, and how it is answered.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::status::CacheStatus;
use crate::way::body::Body;

/// What an error came from. Shared, since an error can be the answer to many requests.
type Cause = Arc<dyn StdError + Send + Sync>;

/// Why a request got no answer from the origin or the store.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request cannot be understood, or could be understood in two ways.
    #[error("{0}")]
    BadRequest(&'static str),
    /// CONNECT makes tunnels and TRACE shows headers to scripts: neither is for a cache.
    #[error("this proxy does not speak this method")]
    Method,
    /// The client stopped sending its body.
    #[error("the request body did not arrive")]
    RequestBody(#[source] Cause),
    #[error("cannot connect to the origin")]
    OriginConnect(#[source] Cause),
    #[error("the origin broke off, or its answer is not HTTP")]
    OriginAnswer(#[source] Cause),
    #[error("the origin did not answer within {} s", .0.as_secs_f32())]
    OriginSilent(Duration),
    /// An answer to something else.
    #[error("the origin's answer is {0}, which was not asked for")]
    Unasked(StatusCode),
    /// It has as much to do as it may, and so have those who wait for it.
    #[error("the origin is busy")]
    OriginBusy,
    /// What the request got that asked for all who wanted the page. Its own line in the log says it.
    #[error(transparent)]
    Collapsed(Box<Self>),
    /// A task of ours is gone.
    #[error("the proxy broke off")]
    Broken,
}

impl Error {
    /// The status and the fixed name of each error: the one place that knows.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad-request"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::RequestBody(_) => (StatusCode::REQUEST_TIMEOUT, "request-body"),
            Self::OriginConnect(_) => (StatusCode::BAD_GATEWAY, "origin-connect"),
            Self::OriginAnswer(_) | Self::Unasked(_) => (StatusCode::BAD_GATEWAY, "origin-answer"),
            Self::OriginSilent(_) => (StatusCode::GATEWAY_TIMEOUT, "origin-silent"),
            Self::OriginBusy => (StatusCode::SERVICE_UNAVAILABLE, "origin-busy"),
            Self::Collapsed(error) => error.kind(),
            Self::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "broken"),
        }
    }

    /// Whether there is no answer for reasons that are not the client's.
    pub(crate) fn is_failure(&self) -> bool {
        self.kind().0.is_server_error()
    }

    /// Whether it is the origin's fault, which an operator should know of.
    pub(crate) fn is_origins(&self) -> bool {
        !matches!(self, Self::Collapsed(_)) && self.is_failure()
    }

    /// The error with all its sources, on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        text
    }

    /// A short plain answer. It says no more than a stranger may know: not which origin, nor why.
    pub(crate) fn to_response(&self) -> Response<Body> {
        let (status, name) = self.kind();
        let mut response = Response::new(Body::from(format!("{}: {self}\n", status.as_str())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if matches!(self, Self::Method) {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status.is_client_error() {
            // What comes next on this connection may be the rest of what was not understood.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        CacheStatus::Failed(name).apply(headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status_and_says_no_secrets() {
        let source = || Arc::from(Box::<dyn StdError + Send + Sync>::from("refused by 10.1.2.3:8001"));
        for (error, status, detail) in [
            (Error::BadRequest("two Host headers"), 400, "bad-request"),
            (Error::Method, 405, "method"),
            (Error::RequestBody(source()), 408, "request-body"),
            (Error::OriginConnect(source()), 502, "origin-connect"),
            (Error::OriginAnswer(source()), 502, "origin-answer"),
            (Error::OriginSilent(Duration::from_millis(1500)), 504, "origin-silent"),
            (Error::Unasked(StatusCode::NOT_MODIFIED), 502, "origin-answer"),
            (Error::OriginBusy, 503, "origin-busy"),
            (Error::Broken, 500, "broken"),
        ] {
            let response = error.to_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["cache-status"], format!("cachepage; fwd=bypass; detail={detail}"));
            assert!(!error.to_string().contains("10.1.2.3"));
            assert_eq!(error.is_origins(), status >= 500);
        }
        let collapsed = Error::Collapsed(Box::new(Error::OriginConnect(source())));
        assert_eq!((collapsed.to_response().status().as_u16(), collapsed.is_origins()), (502, false));
        assert_eq!(
            Error::OriginConnect(source()).chain(),
            "cannot connect to the origin: refused by 10.1.2.3:8001"
        );
    }
}
