//! Answers a plain request with a stored page, without hyper. Any other request goes on to hyper, with the decision on it.

use std::sync::Arc;

use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use server::{Answer, Decided, Peer, RequestHead};
use tokio::time::Instant;

use super::Proxy;
use super::answered::Answered;
use super::decide::{Begun, Decision, PendingLookup, Serving};
use super::in_force::InForce;
use crate::page::stored::PageBytes;
use crate::policy::Part;
use crate::request::{Question, Refusal};
use crate::store::Store;

/// A plain request, and its normal form if that differs.
struct Plain<'a> {
    /// The request as the client sent it, for its record.
    sent: Question<'a>,
    normal: Option<Box<Parts>>,
}

impl Plain<'_> {
    /// The question to decide on: the normal form, or the request itself if that is normal.
    fn question(&self) -> Question<'_> {
        self.normal.as_ref().map_or(self.sent, |normal| Question::of_parts(normal, self.sent.peer))
    }
}

/// A decision that goes on to hyper, and when its request was read.
pub(super) type Early = (Decision, Instant);

/// An answer that is sent without hyper.
pub(super) type Immediate = Answer<PageBytes, Answered>;

impl<S: Store> Proxy<S> {
    /// Answers a plain request, or does the part that needs no waiting.
    pub(super) fn answer(
        self: &Arc<Self>,
        head: &RequestHead<'_>,
        peer: Peer,
        now: Instant,
    ) -> Decided<InForce<S>> {
        let plain = match self.plain(head, peer) {
            Ok(plain) => plain,
            Err(refusal) => return Decided::Decision((self.clone(), (Decision::Refuse(refusal), now))),
        };
        let question = plain.question();
        let decision = match self.begin(&question, now) {
            Begun::Decided(decision) => decision,
            Begun::Pending(pending) => match self.finish_at_once(&pending, &question) {
                Some(decision) => decision,
                None => return Decided::Lookup((self.clone(), pending)),
            },
        };
        match self.immediate(decision, &plain, now) {
            Ok(answer) => Decided::Answer(answer),
            Err(early) => Decided::Decision((self.clone(), early)),
        }
    }

    /// Finishes a decision that waits for the store.
    pub(super) async fn look_up(
        self: &Arc<Self>,
        lookup: &PendingLookup,
        head: &RequestHead<'_>,
        peer: Peer,
    ) -> Result<Immediate, (Arc<Self>, Early)> {
        let began = lookup.began();
        let early = |early| (self.clone(), early);
        let plain = self.plain(head, peer).map_err(|refusal| early((Decision::Refuse(refusal), began)))?;
        let decision = self.finish_decision(lookup, &plain.question(), &self.store).await;
        self.immediate(decision, &plain, began).map_err(early)
    }

    /// A plain request from a head that the front has read.
    fn plain<'a>(&self, head: &'a RequestHead<'a>, peer: Peer) -> Result<Plain<'a>, Refusal> {
        let sent = Question::of_head(head, peer, &self.trusted)?;
        let changes = self.policy.rules().changes(&sent);
        let normal = changes.map(|changes| Box::new(changes.normal_form(&sent)));
        Ok(Plain { sent, normal })
    }

    /// The answer without hyper, if a stored page is served.
    fn immediate(
        self: &Arc<Self>,
        decision: Decision,
        plain: &Plain<'_>,
        began: Instant,
    ) -> Result<Immediate, Early> {
        let (mut serving, status) = match decision {
            // hyper frames some statuses differently, and a 416 has a body of its own.
            Decision::Serve(serving)
                if serving.page.status() == StatusCode::OK && serving.part != Part::Unsatisfiable =>
            {
                let status = serving.part.status(StatusCode::OK);
                (serving, status)
            }
            other => return Err((other, began)),
        };
        let sent = &plain.sent;
        self.refresh(&mut serving, || plain.question().to_parts(), sent.peer);
        self.sample(&serving, began, || plain.question());
        let cache = serving.cache();
        let Serving { page, part, form, now: at, time_of_page, looked, .. } = serving;
        let page = page.in_form(form);
        let mut record = self.record(sent, Some(Version::HTTP_11), began).with(status, cache);
        record.looked(looked);
        let head = page.write_head(time_of_page, cache, &part);
        let has_body = *sent.method != Method::HEAD && part != Part::NotModified;
        let date = (!page.has_date()).then_some(at);
        Ok(Answer { head, body: has_body.then(|| page.bytes(&part)), date, record })
    }
}
