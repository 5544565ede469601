//! Answers that the server gives by itself: to bytes that are no request, and to connections without a place.

use crate::full::Full;
use crate::http1::scan::HeadFault;

/// Why the server itself answers. The reason names the limit that was met, with the names of
/// [`ClientLimits`](crate::ClientLimits) and [`ClientDeadlines`](crate::ClientDeadlines).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status code.
    pub status: u16,
    /// A fixed name, for header lines and logs.
    pub name: &'static str,
    /// A sentence for people.
    pub reason: &'static str,
}

impl Refused {
    const fn new(status: u16, name: &'static str, reason: &'static str) -> Self {
        Self { status, name, reason }
    }

    /// The body of the answer.
    pub fn text(&self) -> String {
        format!("{}: {}\n", self.status, self.reason)
    }
}

impl From<HeadFault> for Refused {
    fn from(fault: HeadFault) -> Self {
        match fault {
            HeadFault::Ambiguous => Self::new(400, "ambiguous-head", "the head could mean two requests"),
            HeadFault::NotHttp => {
                Self::new(400, "not-http", "the head is not HTTP/1.1, or its target is not UTF-8")
            }
            HeadFault::BadTarget => Self::new(
                400,
                "bad-target",
                "the target has a control character, a fragment, or, with a scheme, a character that must be escaped",
            ),
            HeadFault::Late => Self::new(408, "head-late", "the head did not come in the time of `head`"),
            HeadFault::TargetTooLong => {
                Self::new(414, "target-too-long", "the first line is longer than the limit `request_line`")
            }
            HeadFault::TooLarge => {
                Self::new(431, "head-too-large", "the head is larger than the limit `head`")
            }
            HeadFault::TooMany => {
                Self::new(431, "too-many-headers", "the head has more header lines than the limit `headers`")
            }
        }
    }
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Self::new(
                503,
                "too-many-connections",
                "there are as many connections as the limit `connections`",
            ),
            Full::Address => Self::new(
                429,
                "too-many-connections-of-address",
                "this address has as many connections as the limit `connections_per_address`",
            ),
        }
    }
}
