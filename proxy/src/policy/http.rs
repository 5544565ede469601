//! The second policy of a rule: HTTP's own, for a shared cache (RFC 9111).
//!
//! `storing` decides on a response (§3), by its own directives (`control`, `freshness`). `serving` decides on a stored page
//! (§4), with the directives of the client (`request`). `renewal` asks the origin whether a page is still current, and applies
//! its 304 (§4.3).

mod control;
mod directives;
mod freshness;
mod renewal;
mod request;
mod selecting;
mod serving;
mod storing;

use std::time::Duration;

use hyper::header::HeaderMap;

use control::Control;
pub(super) use freshness::age_value;
pub(crate) use renewal::{Renewal, ask_if_current, asks_by_tag, renewed};
pub(crate) use request::Wishes;
pub(crate) use selecting::selecting_value;
pub(crate) use serving::{Staleness, Wish};
pub(super) use serving::{Times, judge};
pub(super) use storing::admission;

/// The settings of a rule with `policy = "http"`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRules {
    /// How long an answer is fresh if it does not say so itself.
    pub default_timeout: Duration,
    /// How long a page with a validator is stored past its time, so that it can be validated.
    pub keep: Duration,
    /// Whether the `Cache-Control` of requests counts.
    pub respect_client: bool,
}

/// Whether a page with these headers may be served to clients with credentials, and stored for them.
pub(super) fn allows_credentials(page: &HeaderMap) -> bool {
    Control::of(page).allows_credentials()
}
