//! `X-Request-Id`: a name for each request that comes without one, if the settings want it.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::Proxy;
use crate::request::Lines;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl<S> Proxy<S> {
    /// A new name for a request that has none.
    pub(super) fn new_request_id(&self, lines: Lines<'_>) -> Option<String> {
        let is_wanted = self.makes_request_ids && lines.get(&X_REQUEST_ID).is_none();
        is_wanted.then(|| format!("{:032x}", rand::random::<u128>()))
    }

    /// Gives a request a name, by which the origin and the log know it.
    pub(super) fn name_request(&self, headers: &mut HeaderMap) {
        let id = self.new_request_id(Lines::Map(headers));
        if let Some(id) = id.and_then(|id| HeaderValue::try_from(id).ok()) {
            headers.insert(X_REQUEST_ID, id);
        }
    }
}
