//! Purges: how they are asked for, carried out and counted, and how fetches take account of them.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{AUTHORIZATION, CONTENT_LOCATION, HeaderMap, HeaderName, LOCATION};
use hyper::http::{request, response};
use hyper::{Method, StatusCode};
use server::Peer;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::fill::is_purged;
use super::reply::Reply;
use super::{Proxy, now};
use crate::error::Error;
use crate::page::entry::Entry;
use crate::purge::{
    LoggedPurge, Misread, Purge, PurgeId, PurgeOrder, Since, Stamp, Tags, Target, TargetKind, encoded,
    host_of, invalidated_groups, url_of,
};
use crate::request::receive::{X_FORWARDED_FOR, receive};
use crate::request::{Question, Refusal};
use crate::share::flights::SharedPage;
use crate::store::{Store, StoreError};

/// The purges of a proxy, counted.
#[derive(Debug, Default)]
pub(super) struct PurgeCounts {
    /// The targets that were purged, by kind, hard and soft.
    targets: [[AtomicU64; 2]; TargetKind::ALL.len()],
    /// The requests for purges on the proxy's port, by how they ended.
    requests: [AtomicU64; OrderEnd::ALL.len()],
}

impl PurgeCounts {
    fn count(&self, target: &Target, is_soft: bool) {
        self.targets[target.kind as usize][usize::from(is_soft)].fetch_add(1, Ordering::Relaxed);
    }

    /// In the order of [`TargetKind::ALL`].
    pub(super) fn targets(&self) -> [[u64; 2]; TargetKind::ALL.len()] {
        self.targets.each_ref().map(|row| row.each_ref().map(|cell| cell.load(Ordering::Relaxed)))
    }

    /// In the order of [`OrderEnd::ALL`].
    pub(super) fn requests(&self) -> [u64; OrderEnd::ALL.len()] {
        self.requests.each_ref().map(|cell| cell.load(Ordering::Relaxed))
    }
}

/// The end of a request for a purge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OrderEnd {
    Done,
    Forbidden,
    Unreadable,
    Unsupported,
    Failed,
}

impl OrderEnd {
    pub(crate) const ALL: [Self; 5] =
        [Self::Done, Self::Forbidden, Self::Unreadable, Self::Unsupported, Self::Failed];

    /// Its name, also in `Cache-Status`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "purge",
            Self::Forbidden => "purge-forbidden",
            Self::Unreadable => "purge-unreadable",
            Self::Unsupported => "purge-unsupported",
            Self::Failed => "purge-failed",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Done => StatusCode::OK,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Self::Failed => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The pages that an unsafe request has changed if it succeeds (RFC 9111 §4.4, RFC 9875 §3).
pub(super) struct Invalidation {
    host: String,
    /// The URL, if the rule invalidates it.
    url: Option<String>,
}

/// How fetches take account of purges.
impl<S: Store> Proxy<S> {
    /// Whether pages can be purged.
    pub(super) fn purges(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.is_off())
    }

    /// The stamp for a page that is fetched now, without tags. `None` if purging is off, or if the log has not been read yet.
    pub(super) fn stamp(&self, question: &Question<'_>) -> Option<Stamp> {
        let position = self.log.as_ref().filter(|log| !log.is_off())?.position()?;
        Some(Stamp { since: Since::Position(position), url: url_of(question).into(), tags: Tags::default() })
    }

    /// The generation of the copy of the log.
    pub(super) fn generation(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.generation())
    }

    /// The generation, if the copy has every purge until now.
    pub(super) fn known(&self) -> Option<u64> {
        match &self.log {
            Some(log) => log.is_certain(Instant::now()).then(|| log.generation()),
            None => Some(0),
        }
    }

    /// Whether the page of a flight may have been purged before a request joined the flight.
    pub(super) fn is_purged(&self, shared: &SharedPage, known: Option<u64>) -> bool {
        let Some(log) = &self.log else { return false };
        known.is_some_and(|known| known > shared.known) && is_purged(log, &shared.entry)
    }

    /// Whether a stored page was purged, as far as the copy of the log tells.
    pub(super) fn is_purged_entry(&self, entry: &Entry) -> bool {
        self.log.as_ref().is_some_and(|log| is_purged(log, entry))
    }
}

/// How purges are asked for and carried out.
impl<S: Store> Proxy<S> {
    /// Purges in every proxy that shares the store. From 50 ms after its end on, no proxy serves the purged pages.
    pub async fn purge(&self, purge: Purge) -> Result<PurgeId, StoreError> {
        for target in &purge.targets {
            self.purges.count(target, purge.is_soft);
        }
        debug!(by = purge.by, is_soft = purge.is_soft, targets = purge.targets.len(), "purge");
        let appended = self.store.append(purge, self.purging.replicas, now()).await;
        if let Err(error) = &appended
            && let Some(left_out) = self.faults.turn("purge")
        {
            warn!(%error, left_out, "purge not carried out");
        }
        appended
    }

    /// The targets for the pages of a URL. A URL that is not encoded also means the encoded one that browsers send.
    pub fn targets_of(&self, url: &str) -> Result<Vec<Target>, String> {
        let encoded = encoded(url);
        let spellings = [Some(url), Some(&*encoded).filter(|encoded| *encoded != url)];
        let target = |url: &str| {
            let mut request = self.request(url, &[])?;
            let unreadable = |refusal: Refusal| format!("{url:?}: {refusal}");
            receive(&mut request, Peer::LOCAL, true, &self.site).map_err(unreadable)?;
            self.normalise(&mut request, Peer::LOCAL);
            let question = Question::of_parts(&request, Peer::LOCAL);
            Ok(Target::url(&question, self.purging.queries))
        };
        spellings.into_iter().flatten().map(target).collect()
    }

    /// The purges after an entry of the log.
    pub(crate) async fn purges_after(&self, after: PurgeId) -> Result<Vec<LoggedPurge>, StoreError> {
        self.store.purges(after).await
    }

    /// Answers a request for a purge. It never goes to the origin.
    pub(super) async fn answer_order(&self, mut request: request::Parts, peer: Peer) -> Result<Reply, Error> {
        let by = self.purger(&request, peer);
        receive(&mut request, peer, self.trusted.contains(peer.ip()), &self.site)?;
        // A purge names a page as a GET does.
        let method = std::mem::replace(&mut request.method, Method::GET);
        self.normalise(&mut request, peer);
        request.method = method;
        let (end, text) = self.carry_out(&request, peer, by).await;
        self.purges.requests[end as usize].fetch_add(1, Ordering::Relaxed);
        Ok(Reply::of_purge(end.status(), end.name(), text))
    }

    /// Carries out a request for a purge, if its sender may purge. Returns how it ended, and the text of the answer.
    async fn carry_out(
        &self,
        request: &request::Parts,
        peer: Peer,
        by: Option<String>,
    ) -> (OrderEnd, String) {
        let Some(by) = by else {
            let text = "403: [purge] allow or token_file says who may purge\n";
            return (OrderEnd::Forbidden, text.to_owned());
        };
        let question = Question::of_parts(request, peer);
        let order = match PurgeOrder::of(request, &question, self.purging.queries) {
            Ok(order) => order,
            Err(misread) => {
                let end = match misread {
                    Misread::NoTag | Misread::TooMany => OrderEnd::Unreadable,
                    Misread::Expression => OrderEnd::Unsupported,
                };
                return (end, format!("{}: {misread}\n", end.status().as_u16()));
            }
        };
        let purge = Purge { targets: order.targets, is_soft: order.is_soft, by };
        match self.purge(purge).await {
            Ok(id) => (OrderEnd::Done, format!("{{\"status\":\"ok\",\"id\":\"{id}\"}}\n")),
            Err(error) => (OrderEnd::Failed, format!("503: the purge is not in the log: {error}\n")),
        }
    }

    /// The address of a client that may purge. A request that an untrusted proxy has forwarded may come from anywhere, so it
    /// is refused.
    fn purger(&self, request: &request::Parts, peer: Peer) -> Option<String> {
        let lines = crate::request::Lines::Map(&request.headers);
        let client = self.trusted.client(peer.ip(), lines);
        let is_direct = self.trusted.contains(peer.ip()) || lines.get(&X_FORWARDED_FOR).is_none();
        let is_allowed = self.purging.allow.iter().any(|network| network.contains(&client));
        let token = || {
            let credentials = lines.get(&AUTHORIZATION)?.split_at_checked(7);
            let (scheme, text) = credentials.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))?;
            let _ = scheme;
            Some(self.purging.token.as_ref()?.is(text.trim_ascii()))
        };
        let may_purge = (is_allowed && is_direct) || token() == Some(true);
        may_purge.then(|| client.to_string())
    }

    /// The pages that a passed request changes if it succeeds.
    pub(super) fn changes(&self, request: &request::Parts, peer: Peer) -> Option<Invalidation> {
        const SAFE: [Method; 5] = [Method::GET, Method::HEAD, Method::QUERY, Method::OPTIONS, Method::TRACE];
        if self.log.is_none() || SAFE.contains(&request.method) {
            return None;
        }
        let question = Question::of_parts(request, peer);
        let rule = self.policy.rules().find(question.path);
        let host = host_of(&question);
        let url = rule.filter(|rule| rule.invalidates()).map(|_| format!("//{host}{}", question.path));
        Some(Invalidation { host, url })
    }

    /// Purges the pages that a request has changed, if its answer is no error. The client sees the answer afterwards.
    pub(super) async fn invalidate(&self, changes: Invalidation, answer: &response::Parts, peer: Peer) {
        if !answer.status.is_success() && !answer.status.is_redirection() {
            return;
        }
        let targets = changes.targets(&answer.headers);
        if !targets.is_empty() {
            let by = peer.ip().to_canonical().to_string();
            // If this fails, the log says so, and the pages stay until their time is over.
            let _ = self.purge(Purge { targets, is_soft: false, by }).await;
        }
    }
}

impl Invalidation {
    /// The URL, the URLs that the answer names on the same host, and its groups.
    fn targets(&self, answer: &HeaderMap) -> Vec<Target> {
        let named = |name: &HeaderName| {
            let text = std::str::from_utf8(answer.get(name)?.as_bytes()).ok()?;
            Target::path_on(&self.host, self.url.as_deref()?, text)
        };
        let url = self.url.as_ref().map(|url| Target::new(TargetKind::Url, url.as_str()));
        let groups = invalidated_groups(answer);
        let groups = groups.iter().map(|group| Target::group(&self.host, group));
        let urls = [url, named(&LOCATION), named(&CONTENT_LOCATION)];
        urls.into_iter().flatten().chain(groups).collect()
    }
}
