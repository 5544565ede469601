//! The normal form of a request, from which its key is made and which the origin gets.

use hyper::http::request::Parts;
use server::{Peer, RequestHead};

use super::Proxy;
use crate::request::{Question, Refusal};

/// A plain request, and its normal form if that is another one.
pub(super) struct Plain<'a> {
    /// As the client sent it, for its record.
    pub(super) sent: Question<'a>,
    normal: Option<Box<Parts>>,
}

impl Plain<'_> {
    /// The question that is decided on: the normal form, or the request as it was sent.
    pub(super) fn question(&self) -> Question<'_> {
        self.normal.as_ref().map_or(self.sent, |normal| Question::of_parts(normal, self.sent.peer))
    }
}

impl<S> Proxy<S> {
    /// A request that `server` read, with its normal form.
    pub(super) fn plain<'a>(&self, head: &'a RequestHead<'a>, peer: Peer) -> Result<Plain<'a>, Refusal> {
        let sent = Question::of_head(head, peer, &self.trusted)?;
        let changes = self.policy.rules().changes(&sent);
        let normal = changes.map(|changes| Box::new(changes.normal_form(&sent)));
        Ok(Plain { sent, normal })
    }

    /// Gives a request that hyper read its normal form.
    pub(super) fn normalise(&self, request: &mut Parts, peer: Peer) {
        if let Some(changes) = self.policy.rules().changes(&Question::of_parts(request, peer)) {
            changes.apply(request);
        }
    }
}
