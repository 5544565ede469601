//! Why the origin gives no answer, or a body does not come whole.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

/// The error below. Shared, since an error can be the answer to many requests.
pub(crate) type Cause = Arc<dyn StdError + Send + Sync>;

/// Why a request got no answer of the origin.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum OriginError {
    /// The client's body is not HTTP. A client that hung up does not read the answer.
    #[error("the request body is broken")]
    BrokenRequest,
    /// The client stopped sending its body.
    #[error("the request body did not arrive")]
    RequestBody(#[source] Cause),
    #[error("cannot connect to the origin")]
    Connect(#[source] Cause),
    #[error("the origin broke off, or its answer is not HTTP")]
    Answer(#[source] Cause),
    #[error("the origin did not answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// An answer to something else.
    #[error("the origin's answer is {0}, which was not asked for")]
    Unasked(StatusCode),
    /// It has as many requests as it may have, and as many wait for it as may wait.
    #[error("the origin is busy")]
    Busy,
}

/// Why a body ended before its end. The connection is closed on it, so that nobody takes the part for the whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke.
    #[error("the other side broke off")]
    Broken(#[from] hyper::Error),
    /// Nothing came for this time.
    #[error("nothing came for {} s", .0.as_secs())]
    Idle(Duration),
    /// The time for the whole answer has passed.
    #[error("it took too long in all")]
    Late,
    /// The task that captures the page is gone.
    #[error("the fill ended early")]
    Fill,
}
