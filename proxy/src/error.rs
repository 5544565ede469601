//! The errors that a request can end with, and the status and fixed name of each.

use std::error::Error as StdError;

use hyper::StatusCode;

use crate::origin::OriginError;
use crate::request::Refusal;
use crate::status::ONLY_IF_CACHED;

/// Why a request got no answer from the origin or the store.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The leader's error, passed to its followers. It is logged once, by the leader.
    #[error(transparent)]
    Collapsed(Box<Self>),
    /// There is a page, but the origin forbids to serve it without asking.
    #[error("the page must be validated, and {0}")]
    MustRevalidate(Box<Self>),
    /// A task of the proxy ended early.
    #[error("the proxy failed")]
    Broken,
}

impl Error {
    /// The status and the fixed name of each error, defined only here.
    pub(crate) fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused(Refusal::BadRequest(_)) => (StatusCode::BAD_REQUEST, "bad-request"),
            Self::Refused(Refusal::Method) => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::Refused(Refusal::OnlyIfCached) => (StatusCode::GATEWAY_TIMEOUT, ONLY_IF_CACHED),
            Self::Origin(error) => match error {
                OriginError::BrokenRequest => (StatusCode::BAD_REQUEST, "bad-request"),
                OriginError::RequestBody(_) => (StatusCode::REQUEST_TIMEOUT, "request-body"),
                OriginError::Connect(_) => (StatusCode::BAD_GATEWAY, "origin-connect"),
                OriginError::Gone(_) => (StatusCode::SERVICE_UNAVAILABLE, "origins-gone"),
                OriginError::None => (StatusCode::NOT_FOUND, "no-origin"),
                OriginError::Answer(_)
                | OriginError::Head { .. }
                | OriginError::Unasked(_)
                | OriginError::Coding(_) => (StatusCode::BAD_GATEWAY, "origin-answer"),
                OriginError::Silent(_) => (StatusCode::GATEWAY_TIMEOUT, "origin-silent"),
                OriginError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "origin-busy"),
            },
            Self::Collapsed(error) => error.kind(),
            Self::MustRevalidate(_) => (StatusCode::GATEWAY_TIMEOUT, "must-revalidate"),
            Self::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "broken"),
        }
    }

    /// Whether the cause is anything but the client.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self, Self::Refused(_)) && self.kind().0.is_server_error()
    }

    /// Whether an operator should know of it: the proxy or the origin failed, and this is not a follower's copy. A failed
    /// connection does not count, since the log says already that the origin is away.
    pub(crate) fn is_news(&self) -> bool {
        match self {
            Self::Collapsed(_) | Self::Origin(OriginError::Connect(_) | OriginError::Gone(_)) => false,
            Self::MustRevalidate(error) => error.is_news(),
            _ => self.is_failure(),
        }
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
}
