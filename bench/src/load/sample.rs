//! A sample: the outcome and the time of one request.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

use hyper::{HeaderMap, StatusCode};

/// The outcome and the time of one request.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The index of its crowd in the load.
    pub(crate) crowd: usize,
    /// When it was due, from the beginning of the load.
    pub(crate) due: Duration,
    /// The time from when it was due to the last byte of its answer.
    pub(crate) took: Duration,
    pub(crate) outcome: Result<Answer, Fault>,
}

impl Sample {
    /// Why the request counts as failed, if it does.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &self.outcome {
            Ok(answer) if answer.status.is_success() || answer.status.is_redirection() => None,
            Ok(answer) => Some(Failure::Status(answer.status.as_u16())),
            Err(fault) => Some(fault.kind()),
        }
    }

    /// `200`, or `no answer`.
    pub(crate) fn status(&self) -> String {
        self.outcome.as_ref().map_or("no answer", |answer| answer.status.as_str()).to_owned()
    }

    /// The value of X-Cache: `HIT`, `MISS`, `BYPASS`, or `-` without a cache.
    pub(crate) fn cache(&self) -> String {
        let cache = self.outcome.as_ref().ok().and_then(|answer| answer.cache);
        cache.map_or("-", Cache::name).to_owned()
    }
}

/// The part of an answer that a sample keeps, which is small, since thousands are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) cache: Option<Cache>,
    /// The number that the target's reader has found in the body.
    pub(crate) read: Option<u64>,
}

impl Answer {
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, read: Option<u64>) -> Self {
        let cache = headers.get("x-cache").and_then(|word| Cache::parse(word.as_bytes()));
        Self { status, cache, read }
    }
}

/// The outcome at the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    Hit,
    Miss,
    Bypass,
}

impl Cache {
    const ALL: [Self; 3] = [Self::Hit, Self::Miss, Self::Bypass];

    fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|cache| cache.name().as_bytes() == word)
    }

    /// The value of X-Cache.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("the exchange failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("no whole answer in time")]
    Deadline,
}

impl Fault {
    fn kind(&self) -> Failure {
        match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                Failure::Refused
            }
            Self::Connect { .. } => Failure::Unreachable,
            Self::Http(_) => Failure::Broken,
            Self::Deadline => Failure::Timeout,
        }
    }
}

/// The kinds of failure, to count them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The answer has a status of 400 or more.
    Status(u16),
    /// Nobody listens.
    Refused,
    /// The connection failed for another reason.
    Unreachable,
    /// The connection ended before the answer did.
    Broken,
    /// The answer was not complete in time.
    Timeout,
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("no connection"),
            Self::Broken => f.write_str("broken exchange"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}
