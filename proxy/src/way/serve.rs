//! Answers a request that hyper has read, by the decision on it.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use server::Peer;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::answered::Answered;
use super::body::Body;
use super::decide::{Decision, OldPage, Serving, WantedPage};
use super::plain::Early;
use super::reply::Reply;
use super::{Proxy, now};
use crate::error::Error;
use crate::origin::RequestBody;
use crate::policy::{self, OnFailure, Pass};
use crate::purge::is_order;
use crate::request::receive::{ask_for_protocol, is_for_proxy, names_other_scheme, receive};
use crate::request::{Lines, Question};
use crate::status::{CacheStatus, Hit, Source};
use crate::store::Store;

impl<S: Store> Proxy<S> {
    /// Answers a request. Only here, an error becomes a response and a log line.
    pub(super) async fn serve(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        peer: Peer,
        early: Option<Early>,
    ) -> (Response<Body>, Answered) {
        let (decision, began) = match early {
            Some((decision, began)) => (Some(decision), began),
            None => (None, Instant::now()),
        };
        self.name_request(request.headers_mut());
        let question = Question::as_sent(&request, peer, &self.trusted);
        let mut answered = self.record(&question, Some(request.version()), began);
        let mut reply =
            self.try_serve(request, peer, decision, &mut answered).await.unwrap_or_else(|error| {
                self.log(&error, peer);
                Reply::of_error(&error)
            });
        answered.fetched(reply.origin.take());
        let answered = answered.with(reply.response.status(), reply.cache);
        (reply.response, answered)
    }

    async fn try_serve(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        decision: Option<Decision>,
        answered: &mut Answered,
    ) -> Result<Reply, Error> {
        let (mut request, body) = request.into_parts();
        let body =
            RequestBody::from(body).counted(self.counts.as_ref().map(|counts| counts.own().bytes_in()));
        if is_order(&request.method) {
            return Box::pin(self.answer_order(request, peer)).await;
        }
        let is_trusted = self.trusted.contains(peer.ip());
        if !is_trusted && names_other_scheme(&request.headers, peer) {
            self.log_untrusted(peer.ip());
        }
        receive(&mut request, peer, is_trusted, &self.site)?;
        if is_for_proxy(&mut request) {
            return Ok(Reply::unforwarded());
        }
        let body = self.take_content(&mut request, body, peer).await?;
        self.normalise(&mut request, peer);
        let decision = match decision {
            Some(decision) => decision,
            None => self.decide(&Question::of_parts(&request, peer), answered.began, &self.store).await,
        };
        answered.looked(decision.looked());
        let is_upgrade = matches!(decision, Decision::Pass(Pass::Upgrade));
        ask_for_protocol(&mut request.headers, is_upgrade);
        match decision {
            Decision::Serve(mut serving) => {
                self.sample(&serving, answered.began, || Question::of_parts(&request, peer));
                self.refresh(&mut serving, || request, peer);
                Ok(Reply::stored(&serving))
            }
            Decision::Fetch(wanted) => self.new_or_old(&wanted, &request, peer).await,
            Decision::Pass(pass) => {
                let is_conditional = policy::is_conditional(&request.headers);
                let fetched = self.upstreams.fetch(&request, Some(body), peer).await?;
                self.keep_if_slow(&Question::of_parts(&request, peer), &fetched);
                if let Some(changes) = self.changes(&request, peer) {
                    Box::pin(self.invalidate(changes, &fetched.head, peer)).await;
                }
                Reply::relayed(fetched, CacheStatus::Passed(pass)).if_asked_for(is_conditional, is_upgrade)
            }
            Decision::Refuse(refusal) => Err(refusal.into()),
            Decision::Prove(answer) => Ok(Reply::of_proof(answer)),
        }
    }

    /// The new page or, if the fetch fails, the stale one.
    async fn new_or_old(
        self: &Arc<Self>,
        wanted: &WantedPage,
        request: &Parts,
        peer: Peer,
    ) -> Result<Reply, Error> {
        let new = self.fetch(wanted, request, peer).await;
        let Some(OldPage { page, on_failure }) = &wanted.old else { return new };
        match (on_failure, new) {
            (OnFailure::Serve, Ok(reply)) if policy::is_failure(reply.response.status()) => {}
            (OnFailure::Serve, Err(error)) if error.is_failure() => self.log(&error, peer),
            (OnFailure::Forbid, Err(error)) if error.is_failure() => {
                return Err(Error::MustRevalidate(Box::new(error)));
            }
            (_, new) => return new,
        }
        let (codings, lines) = (&wanted.rule.compress, Lines::Map(&request.headers));
        let (part, form) = page.asked_for(codings, &request.method, lines);
        let (page, source, hit, now) = (page.clone(), Source::Store, Hit::StaleIfError, now());
        let time_of_page = wanted.rule.time_of_page(page.expires(), now);
        let (marker, refresh, looked) = (None, None, wanted.looked);
        let serving = Serving { page, source, hit, part, form, marker, now, time_of_page, refresh, looked };
        Ok(Reply::stored(&serving))
    }

    /// Logs once that a peer's scheme is not believed. The peer may be the user's own proxy with TLS, and the origin would
    /// then redirect every request to https for ever.
    fn log_untrusted(&self, peer: IpAddr) {
        self.untrusted_is_logged.call_once(|| {
            let peer = peer.to_canonical();
            warn!(
                %peer,
                "X-Forwarded-Proto is replaced by http, since this peer is not trusted; if it is your own proxy, \
                 --trusted-proxies {peer} (PROXY_TRUSTED_PROXIES), or trusted_proxies = [\"{peer}\"] in the file, believes it"
            );
        });
    }

    fn log(&self, error: &Error, peer: Peer) {
        self.errors.keep(error);
        if error.is_news() {
            if let Some(left_out) = self.faults.turn(error.kind().1) {
                warn!(origin = %self.upstreams, error = error.chain(), left_out, "origin failed");
            }
        } else if error.is_failure() {
            debug!(%peer, error = error.chain(), "request failed");
        } else {
            self.log_refusal(error.kind().1, &error.chain(), peer);
        }
    }

    /// Logs that the proxy itself answers, because of a client's fault.
    pub(super) fn log_refusal(&self, name: &'static str, reason: &str, peer: Peer) {
        if let Some(left_out) = self.faults.turn(name) {
            info!(%peer, name, reason, left_out, "request refused");
        }
    }
}
