//! Renewal: a 304 of the origin confirms a stored page, and the page replaces the version that was found in the store.
//!
//! It replaces nothing else: if the page was deleted or filled anew meanwhile, the older page is not brought back
//! ([`Values::replace`](crate::store::Values::replace)).

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::http::response::Parts;
use hyper::{Method, Response, StatusCode};
use tracing::debug;

use super::fill::{Plan, is_purged};
use super::fills::FillEnd;
use super::flight::Flight;
use super::now;
use super::reply::{Reply, stored};
use crate::origin::{Fetched, OriginError};
use crate::page::entry::Entry;
use crate::page::forms::Forms;
use crate::policy::{self, Admission, Decline, Length, Received, Renewal};
use crate::purge::{Stamp, Tags};
use crate::share::flights::{FlightOutcome, SharedPage};
use crate::status::{CacheStatus, Fill};
use crate::store::{LogCopy, Store};

/// The origin's answer to a flight.
pub(super) enum OriginAnswer {
    New(Fetched),
    /// The page that was found is still current.
    Confirmed(Confirmed),
}

/// A page that was found in the store, and that a 304 confirms.
pub(super) struct Confirmed {
    old: OldVersion,
    /// The new head of the page.
    head: Parts,
    received: Received,
    tags: Tags,
    origin: Arc<str>,
    /// Whether the 304 is about this version, or is only an answer to its tag.
    is_of_version: bool,
}

/// A version of a page in the store.
struct OldVersion {
    entry: Entry,
    /// The beginning of its value. Each version has a different one.
    start: Bytes,
}

impl<S: Store> Flight<S> {
    /// Asks the origin for the page, or whether the found page is still current.
    pub(super) async fn ask(&self) -> Result<OriginAnswer, OriginError> {
        match self.old_version() {
            None => self.ask_for_page().await.map(OriginAnswer::New),
            // Boxed, so that other misses don't pay for it.
            Some(old) => Box::pin(self.ask_if_current(old)).await,
        }
    }

    /// Asks for the page as if none were stored.
    async fn ask_for_page(&self) -> Result<Fetched, OriginError> {
        self.proxy.upstreams.fetch(&self.request, None, self.peer).await
    }

    /// Asks whether the found page is still current, if it has a validator.
    async fn ask_if_current(&self, old: OldVersion) -> Result<OriginAnswer, OriginError> {
        let mut request = self.request.clone();
        if !policy::ask_if_current(&mut request.headers, &old.entry.headers) {
            return self.ask_for_page().await.map(OriginAnswer::New);
        }
        let asks_by_tag = policy::asks_by_tag(&request.headers);
        let fetched = self.proxy.upstreams.fetch(&request, None, self.peer).await?;
        if fetched.head.status != StatusCode::NOT_MODIFIED {
            return Ok(OriginAnswer::New(fetched));
        }
        let (headers, is_of_version) = match policy::renewed(&old.entry.headers, &fetched.head.headers) {
            Renewal::Renewed(headers) => (headers, true),
            Renewal::OtherVersion(headers) if asks_by_tag => (headers, false),
            Renewal::OtherVersion(_) | Renewal::OtherSelection => {
                return self.ask_for_page().await.map(OriginAnswer::New);
            }
        };
        let Fetched { tags, origin, took, .. } = fetched;
        let (head, received) = (head_of(&old.entry, headers), Received { at: now(), took });
        Ok(OriginAnswer::Confirmed(Confirmed { old, head, received, tags, origin, is_of_version }))
    }

    /// The found page, if a 304 can renew it.
    fn old_version(&self) -> Option<OldVersion> {
        let old = self.wanted.old.as_ref().filter(|_| self.request.method == Method::GET)?;
        let entry = old.page.entry(now());
        let start = self.proxy.format.start(&entry)?;
        Some(OldVersion { entry, start })
    }

    /// Deletes the page, so that the next request asks for a whole one. A version that was stored meanwhile is deleted, too.
    async fn drop_found(&self) {
        let found = self.wanted.variant(self.wanted.marker.as_deref(), &self.question());
        if let Err(error) = self.proxy.store.delete(&[found.key()]).await {
            debug!(key = %found.key(), %error, "a page stays that a 304 about another version has confirmed");
        }
    }

    /// Answers with the confirmed page, and replaces the old version with it. The stamp and the generation were taken when the
    /// origin was asked.
    pub(super) async fn renew(
        mut self: Box<Self>,
        confirmed: Confirmed,
        (stamp, known): (Option<Stamp>, u64),
    ) -> Reply {
        let Confirmed { old, mut head, received, tags, origin, is_of_version } = confirmed;
        let old_tags = old.entry.stamp.map(|stamp| stamp.tags).unwrap_or_default();
        let tags = if tags.iter().next().is_some() { tags } else { old_tags };
        let (body, mut forms, miss) = (old.entry.body, old.entry.forms, self.wanted.miss);
        let length = Length::Known(body.len() as u64);
        let admission =
            self.proxy.policy.admission(&self.wanted.rule, &self.request, &mut head, length, received);
        let response = Response::from_parts(head.clone(), stored(body.clone()));
        let reply = |cache| Reply::new(response, cache).after(origin, received.took);
        let terms = match admission {
            Admission::Decline(decline) => {
                self.proxy.fills.count(FillEnd::Declined);
                self.land_unshared(true);
                return reply(CacheStatus::Declined(decline));
            }
            _ if tags.are_too_many(&head.headers) => {
                self.proxy.fills.count(FillEnd::Declined);
                self.land_unshared(true);
                return reply(CacheStatus::Declined(Decline::Tags));
            }
            Admission::Admit(terms) => terms,
        };
        if terms.fresh.is_zero() {
            self.land_unshared(true);
        }
        if !is_of_version {
            self.drop_found().await;
        }
        let is_known = stamp.is_some() || !self.proxy.purges();
        let stamp = stamp.map(|stamp| Stamp { tags, ..stamp });
        let (plan, marker) = self.plan(terms, &head.headers, received, stamp);
        let (key, is_allowed) = (plan.key.clone(), is_of_version && is_known && self.is_one_of_few(&plan));
        let found = self.wanted.found();
        if self.wanted.rule.codings_of(head.status, &head.headers).is_empty() {
            forms = Forms::default();
        }
        let entry = plan.entry(head, body, forms);
        let log = self.proxy.log.as_deref().filter(|_| is_allowed);
        let is_stored = is_allowed && plan.replace(&entry, &old.start, &self.proxy.store, log).await;
        self.proxy.fills.count(match is_stored {
            true => FillEnd::Renewed,
            false if is_of_version => FillEnd::Failed,
            false => FillEnd::Declined,
        });
        self.land(FlightOutcome::Page(Arc::new(SharedPage { key, marker, entry, found, known })));
        reply(CacheStatus::Miss(miss, if is_stored { Fill::Renewed } else { Fill::Confirmed }))
    }
}

/// The head of a page, with these headers.
fn head_of(entry: &Entry, headers: HeaderMap) -> Parts {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = entry.status;
    head.headers = headers;
    if let Some(reason) = &entry.reason {
        head.extensions.insert(reason.clone());
    }
    head
}

impl Plan {
    /// Replaces the version whose value begins with `start`, if it is still there. Returns whether it did. If other headers or
    /// parameters select the page now, its place is another one, and it is not stored.
    async fn replace<S: Store>(self, entry: &Entry, start: &Bytes, store: &S, log: Option<&LogCopy>) -> bool {
        if self.has_new_marker() || self.left.is_some() || log.is_some_and(|log| is_purged(log, entry)) {
            return false;
        }
        let Self { key, format, markers, notes, .. } = self;
        let Some(value) = format.encode(entry) else { return false };
        if !markers.is_empty() {
            // If this fails, the variant is not found, whether it is replaced or not.
            let _ = store.put(markers, notes.keep).await;
        }
        let replaced = store.replace(&key, start, value, notes.keep).await;
        debug!(%key, ?replaced, "confirmed");
        replaced.unwrap_or(false)
    }
}
