//! The answer to a request, by the decision on it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use server::{Answer, Decided, RequestHead};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::answered::Answered;
use super::body::Body;
use super::decide::{Decision, PendingLookup, Serving, WantedPage};
use super::reply::Reply;
use super::{Proxy, now};
use crate::error::Error;
use crate::page::stored::StoredPage;
use crate::policy;
use crate::request::receive::receive;
use crate::request::{Question, Refusal};
use crate::status::{self, CacheStatus, Hit, Source};
use crate::store::Store;

/// An answer that leaves without hyper.
type Immediate = Answer<StoredPage, Answered>;

impl<S: Store> server::Handler for Proxy<S> {
    type Body = Body;
    type Page = StoredPage;
    type Lookup = PendingLookup;
    type Decision = Decision;
    type Record = Answered;

    const REFUSED: &'static str = status::REFUSED;

    fn answer(self: &Arc<Self>, head: &RequestHead<'_>, peer: SocketAddr, now: Instant) -> Decided<Self> {
        let question = match self.question(head, peer) {
            Ok(question) => question,
            Err(refusal) => return Decided::Decision(Decision::Refuse(refusal)),
        };
        let decision = match self.begin(&question, now) {
            Ok(decision) => decision,
            Err(pending) => match self.finish_at_once(&pending, &question) {
                Some(decision) => decision,
                None => return Decided::Lookup(pending),
            },
        };
        self.immediate(decision, &question, now).map_or_else(Decided::Decision, Decided::Answer)
    }

    async fn look_up(
        self: &Arc<Self>,
        lookup: PendingLookup,
        head: &RequestHead<'_>,
        peer: SocketAddr,
    ) -> Result<Immediate, Decision> {
        let question = self.question(head, peer).map_err(Decision::Refuse)?;
        let began = lookup.began();
        let decision = self.finish_decision(lookup, &question, &self.store).await;
        self.immediate(decision, &question, began)
    }

    /// Answers a request that hyper has read. The one place where an error becomes a response and a line in the log.
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        decision: Option<Decision>,
    ) -> (Response<Body>, Answered) {
        let began = Instant::now();
        let answered = Answered::begin(request.method(), request.uri(), began);
        let reply = self.try_serve(request, peer, decision, began).await.unwrap_or_else(|error| {
            self.log(&error, peer);
            Reply::of_error(&error)
        });
        let answered = answered.with(reply.response.status(), reply.cache);
        (reply.response, answered)
    }

    fn refused(&self, status: u16, _: SocketAddr) {
        let method = Method::from_bytes(b"-").unwrap_or_default();
        let status = StatusCode::from_u16(status).unwrap_or_default();
        drop(Answered::begin(&method, "-", Instant::now()).with(status, CacheStatus::Failed("refused")));
    }
}

impl<S: Store> Proxy<S> {
    async fn try_serve(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        decision: Option<Decision>,
        began: Instant,
    ) -> Result<Reply, Error> {
        let (mut request, body) = request.into_parts();
        receive(&mut request, self.trusted.contains(peer.ip()), &self.site)?;
        let decision = match decision {
            Some(decision) => decision,
            None => self.decide(&Question::of_parts(&request, peer), began, &self.store).await,
        };
        match decision {
            Decision::Serve(mut serving) => {
                self.refresh(&mut serving, || request, peer);
                Ok(Reply::stored(&serving))
            }
            Decision::Fetch(wanted) => self.new_or_old(&wanted, &request, peer).await,
            Decision::Pass(pass) => {
                let is_conditional = policy::is_conditional(&request.headers);
                let fetched = self.upstream.fetch(request, Some(body), peer).await?;
                Reply::relayed(fetched, CacheStatus::Passed(pass)).if_asked_for(is_conditional)
            }
            Decision::Refuse(refusal) => Err(refusal.into()),
        }
    }

    fn question<'a>(&self, head: &'a RequestHead<'a>, peer: SocketAddr) -> Result<Question<'a>, Refusal> {
        Question::of_head(head, peer, self.trusted.contains(peer.ip()))
    }

    /// The decision of a store that does not have to be waited for.
    fn finish_at_once(&self, pending: &PendingLookup, question: &Question<'_>) -> Option<Decision> {
        if !S::IS_IMMEDIATE {
            return None;
        }
        let decision = pin!(self.finish_decision(pending.clone(), question, &self.store));
        match decision.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(decision) => Some(decision),
            Poll::Pending => None,
        }
    }

    /// The answer to a plain request that gets a stored page.
    fn immediate(
        self: &Arc<Self>,
        decision: Decision,
        question: &Question<'_>,
        began: Instant,
    ) -> Result<Immediate, Decision> {
        let mut serving = match decision {
            // What hyper frames otherwise is left to it.
            Decision::Serve(serving) if serving.page.status() == StatusCode::OK => serving,
            other => return Err(other),
        };
        self.refresh(&mut serving, || question.to_parts(), question.peer);
        let cache = serving.cache();
        let Serving { page, now: at, .. } = serving;
        let target = format_args!("{}{}{}", question.path, question.mark(), question.query);
        let record = Answered::begin(question.method, target, began).with(StatusCode::OK, cache);
        let head = page.write_head(at, cache);
        let body = (*question.method != Method::HEAD).then_some(page);
        Ok(Answer { head, body, at, record })
    }

    /// Has a new page fetched while the old one is served, if it is time for that.
    fn refresh(self: &Arc<Self>, serving: &mut Serving, request: impl FnOnce() -> Parts, peer: SocketAddr) {
        if let Some(wanted) = serving.refresh.take() {
            self.fetch_aside(&wanted, request(), peer);
        }
    }

    /// A new page, or the old one if none can be had.
    async fn new_or_old(
        self: &Arc<Self>,
        wanted: &WantedPage,
        request: &Parts,
        peer: SocketAddr,
    ) -> Result<Reply, Error> {
        let new = self.fetch(wanted, request, peer).await;
        let Some(old) = &wanted.old else { return new };
        match new {
            Ok(reply) if !policy::is_failure(reply.response.status()) => return Ok(reply),
            Err(error) if !error.is_failure() => return Err(error),
            Err(error) => self.log(&error, peer),
            Ok(_) => {}
        }
        let (page, source, hit) = (old.clone(), Source::Store, Hit::StaleIfError);
        Ok(Reply::stored(&Serving { page, source, hit, marker: None, now: now(), refresh: None }))
    }

    fn log(&self, error: &Error, peer: SocketAddr) {
        if error.is_origins() {
            warn!(origin = %self.upstream.origin(), error = error.chain(), "origin failed");
        } else {
            debug!(%peer, error = error.chain(), "request refused");
        }
    }
}
