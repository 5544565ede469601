//! Why the origin gave no answer, or a body is incomplete.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

/// The source of an error. Shared, since the error of a leader goes to all its followers.
pub(crate) type Cause = Arc<dyn StdError + Send + Sync>;

/// Why a request got no answer from the origin.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum OriginError {
    /// The client's body is not valid HTTP, or the client hung up.
    #[error("the request body is broken")]
    BrokenRequest,
    /// The client stopped sending its body.
    #[error("the request body did not arrive")]
    RequestBody(#[source] Cause),
    #[error("cannot connect to the origin")]
    Connect(#[source] Cause),
    /// None of several origins can be reached.
    #[error("cannot connect to any origin")]
    Gone(#[source] Cause),
    /// No origin is for this host and path.
    #[error("no origin is for this host and path")]
    None,
    #[error("the origin broke off, or its answer is not HTTP")]
    Answer(#[source] Cause),
    /// The head of the answer is beyond the limit.
    #[error(
        "the head of the origin's answer is larger than {bytes} bytes (limits.origin_head sets another limit), or has more than {lines} lines"
    )]
    Head { bytes: usize, lines: usize },
    #[error("the origin did not answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The answer does not fit the request.
    #[error("the origin's answer is {0}, which was not asked for")]
    Unasked(StatusCode),
    /// The codings besides `chunked`. The proxy cannot decode them, nor see where such a body ends.
    #[error("the origin's answer has the transfer coding {0:?}, which was not asked for")]
    Coding(String),
    /// All slots are taken, and the queue is full or the wait was too long.
    #[error("the origin is busy")]
    Busy,
}

impl OriginError {
    /// Whether the error tells something about the origin, and not about the client or a limit.
    pub(super) fn is_of_origin(&self) -> bool {
        !matches!(self, Self::BrokenRequest | Self::RequestBody(_) | Self::Busy | Self::None)
    }
}

/// An error of a client's body, before it is forwarded.
impl From<BodyError> for OriginError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Broken(_) => Self::BrokenRequest,
            silent => Self::RequestBody(Arc::new(silent)),
        }
    }
}

/// Why a body is incomplete. The client's connection is closed, so that the client notices.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    /// No data arrived for this time.
    #[error("no data arrived for {} s", .0.as_secs())]
    Idle(Duration),
    /// The deadline for the whole answer has passed.
    #[error("the answer took too long in all")]
    Late,
    /// The task that captures the page ended early.
    #[error("the fill ended early")]
    Fill,
}
