//! The normal form of a request, from which its key is made and which the origin gets.

use hyper::http::request::Parts;
use server::Peer;

use super::Proxy;
use crate::request::Question;

impl<S> Proxy<S> {
    /// Gives a request that hyper read its normal form.
    pub(super) fn normalise(&self, request: &mut Parts, peer: Peer) {
        if let Some(changes) = self.policy.rules().changes(&Question::of_parts(request, peer)) {
            changes.apply(request);
        }
    }
}
