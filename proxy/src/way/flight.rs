//! The way of a miss: to the origin, through admission, into the store; one way for all who want the same page.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::{Method, Response};
use tokio::time::{Instant, timeout};

use super::{Lookup, Proxy, asked_for, now, relay};
use crate::key::{Key, Marker, Page, Placed};
use crate::origin::Fetched;
use crate::page::entry::Ready;
use crate::policy::{self, Admission, Coalesce, Decline, Freshness, Length, VaryList};
use crate::share::flights::{Lead, Outcome, Place, Shared};
use crate::share::lease::{Claim, Lease};
use crate::status::{CacheStatus, Fill, Miss};
use crate::store::{Store, Write};
use crate::way::body::{Body, Filled};
use crate::way::error::Error;
use crate::way::fill::{self, Filling, Lifetime, Plan};

/// How many flights a request follows at the most: one that turns out to be for another variant, and one that breaks.
const FLIGHTS: usize = 3;

/// A page that was looked up and not found.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) page: &'a Page,
    pub(super) request: &'a Parts,
    pub(super) peer: SocketAddr,
    pub(super) miss: Miss,
    pub(super) marker: Option<&'a Arc<Marker>>,
    /// When the lookup began.
    pub(super) asked: Instant,
}

/// A request on its way to the origin, with all that it needs: it may outlive the connection it came by.
struct Flight<S: Store> {
    proxy: Arc<Proxy<S>>,
    page: Page,
    request: Parts,
    peer: SocketAddr,
    miss: Miss,
    marker: Option<Arc<Marker>>,
    /// For whom else it is.
    lead: Option<Lead>,
    /// Held until the page is in the store.
    lease: Option<Lease<S>>,
}

/// What becomes of a flight in a fleet.
enum Turn<S: Store> {
    Ours(Lease<S>),
    /// Another proxy has fetched the page.
    Done(Response<Body>),
    Alone,
}

impl<S: Store> Proxy<S> {
    /// Gets a page from the origin, alone or together with others.
    pub(super) async fn miss(self: &Arc<Self>, wanted: Wanted<'_>) -> Result<Response<Body>, Error> {
        let is_conditional = policy::is_conditional(&wanted.request.headers);
        asked_for(is_conditional, self.lead_or_follow(wanted).await?)
    }

    /// Asks the origin, or waits for the request that is asking it already.
    async fn lead_or_follow(self: &Arc<Self>, wanted: Wanted<'_>) -> Result<Response<Body>, Error> {
        let mut key = wanted.key();
        let deadline = Instant::now() + self.upstream.patience();
        let flights =
            if self.writes && policy::may_be_shared(&wanted.page.rule, wanted.request) { FLIGHTS } else { 0 };
        for _ in 0..flights {
            match self.collapsing.join(&key, wanted.asked) {
                Place::Apart => break,
                Place::Lead(lead) => return self.lead(wanted, lead).await,
                Place::Follow(follow) => match follow.outcome(deadline).await {
                    Outcome::Page(shared) => match wanted.answer(&shared) {
                        Ok(response) => return Ok(response),
                        Err(own) => key = own,
                    },
                    Outcome::Failed(error) => return Err(Error::Collapsed(Box::new(error))),
                    Outcome::Apart => break,
                    Outcome::Broken => {}
                },
            }
        }
        Flight::of(self, wanted, None).fly().await
    }

    /// Has a new page fetched while the old one is served, unless somebody is at it already.
    pub(super) fn refresh(self: &Arc<Self>, wanted: Wanted<'_>) {
        if let Place::Lead(lead) = self.collapsing.join(&wanted.key(), wanted.asked) {
            let mut flight = Flight::of(self, wanted, Some(lead));
            // A HEAD finds the page of a GET, and has that refreshed.
            flight.request.method = Method::GET;
            self.tasks.spawn(async { drop(flight.fly().await) });
        }
    }

    /// In a task of its own: it goes on for the others when its client leaves.
    async fn lead(self: &Arc<Self>, wanted: Wanted<'_>, lead: Lead) -> Result<Response<Body>, Error> {
        let flight = Flight::of(self, wanted, Some(lead));
        self.tasks.spawn(flight.fly()).await.unwrap_or(Err(Error::Broken))
    }
}

impl Wanted<'_> {
    fn key(&self) -> Key {
        self.marker.map_or_else(|| self.page.key.clone(), |marker| self.variant(marker).key)
    }

    fn variant(&self, marker: &Marker) -> Page {
        self.page.variant(marker, &self.request.headers)
    }

    /// The page of another request, if it is the one that is wanted; else the key of the one that is.
    fn answer(&self, shared: &Shared) -> Result<Response<Body>, Key> {
        let marker = shared.marker.as_deref();
        let page = marker.map_or_else(|| self.page.clone(), |marker| self.variant(marker));
        if page.key == shared.key && page.serves(shared.entry.proved(), self.request) {
            return Ok(shared.entry.clone().collapsed(CacheStatus::Miss(self.miss, Fill::Collapsed)));
        }
        Err(page.key)
    }
}

impl<S: Store> Flight<S> {
    fn of(proxy: &Arc<Proxy<S>>, wanted: Wanted<'_>, lead: Option<Lead>) -> Self {
        Self {
            proxy: proxy.clone(),
            page: wanted.page.clone(),
            request: policy::without_conditions(wanted.request.clone()),
            peer: wanted.peer,
            miss: wanted.miss,
            marker: wanted.marker.cloned(),
            lead,
            lease: None,
        }
    }

    /// Asks the fleet, where the rule says so, and then the origin.
    async fn fly(mut self) -> Result<Response<Body>, Error> {
        if self.lead.is_some() && self.page.rule.coalesce == Coalesce::Fleet && self.miss != Miss::Store {
            match self.turn_in_fleet().await {
                Turn::Ours(lease) => self.lease = Some(lease),
                Turn::Done(response) => return Ok(response),
                Turn::Alone => {}
            }
        }
        let set_out = Instant::now();
        let mut fetched = match self.proxy.upstream.fetch(self.request.clone(), None, self.peer).await {
            Ok(fetched) => fetched,
            Err(error) => {
                self.land(Outcome::Failed(error.clone()));
                return Err(error);
            }
        };
        if !self.proxy.writes {
            return Ok(relay(fetched, CacheStatus::Miss(self.miss, Fill::ReadOnly)));
        }
        // Not before: what an origin takes its time for is as fresh as its answer.
        let now = now();
        let (head, length) = (&mut fetched.head, fetched.length);
        match self.proxy.policy.admission(&self.page.rule, &self.request, head, length, now) {
            Admission::Decline(decline) => {
                // What fails now may well be for all in a moment.
                let is_lasting = !policy::is_failure(fetched.head.status);
                self.land_apart(is_lasting);
                Ok(relay(fetched, CacheStatus::Declined(decline)))
            }
            Admission::Admit { vary } => {
                let rule = &self.page.rule;
                let cost = if rule.early_refresh > 0.0 { set_out.elapsed() } else { Duration::ZERO };
                let lifetime = Lifetime { fresh: rule.timeout, keep: rule.keep(), now, cost };
                Ok(self.fill(fetched, vary, lifetime))
            }
        }
    }

    /// Answers with the page while a task captures and stores it, and lands when it is whole.
    fn fill(mut self, fetched: Fetched, vary: VaryList, lifetime: Lifetime) -> Response<Body> {
        let (plan, marker) = self.plan(vary, &fetched.head.headers, lifetime);
        if !self.is_one_of_few(&plan) {
            self.land_apart(false);
            return relay(fetched, CacheStatus::Declined(Decline::Variants));
        }
        let is_reachable = self.miss != Miss::Store;
        let promise = match fetched.length {
            _ if !is_reachable => Fill::Skipped,
            Length::Known(_) => Fill::Stored,
            Length::Chunked | Length::UntilClose => Fill::Streamed,
        };
        let limit = self.proxy.max_entry;
        let (client, body) = Filled::new(fetched.length.known(), limit);
        let mut response = Response::from_parts(fetched.head.clone(), Body::Filled(body));
        CacheStatus::Miss(self.miss, promise).apply(response.headers_mut());
        let key = plan.key.clone();
        let Fetched { head, body, length } = fetched;
        let store = is_reachable.then(|| self.proxy.store.clone());
        let filling = Filling { store, plan, head, body, length, limit, client };
        let tasks = self.proxy.tasks.clone();
        tasks.spawn(async move {
            match filling.run().await {
                fill::Filled::Whole(entry) => {
                    self.land(Outcome::Page(Arc::new(Shared { key, marker, entry })))
                }
                fill::Filled::TooLarge => self.land_apart(true),
                // Dropped without landing: one of those who followed asks again for all.
                fill::Filled::Broken => drop(self.lead.take()),
            }
        });
        response
    }

    /// Whether the page may have one variant more. Its marker's write names it; a page without one does not vary.
    fn is_one_of_few(&self, plan: &Plan) -> bool {
        let Some(marker) = &plan.marker else { return true };
        let variants = &self.proxy.variants;
        if let Write::Set(page, _) = marker {
            variants.forget(page);
        }
        variants.admit(marker.key(), &plan.key, plan.lifetime.keep)
    }

    /// Where an admitted page goes, under which marker, and for how long.
    fn plan(&self, vary: VaryList, answer: &HeaderMap, lifetime: Lifetime) -> (Plan, Option<Arc<Marker>>) {
        let Proxy { format, known, .. } = &*self.proxy;
        let headers = &self.request.headers;
        let place = self.page.clone().place(self.marker.as_deref(), vary, answer, headers);
        let proof = place.page.proof(answer, headers);
        let (write, marker) = match place.marker {
            None => (None, None),
            Some(Placed::Extended(key)) => (Some(Write::Extend(key)), self.marker.clone()),
            Some(Placed::New(key, marker)) => {
                let (value, marker) = (format.encode_marker(&marker), Arc::new(marker));
                known.remember_marker(key.clone(), marker.clone());
                (Some(Write::Set(key, value)), Some(marker))
            }
        };
        (Plan { key: place.page.key, format: format.clone(), proof, marker: write, lifetime }, marker)
    }

    /// Waits until the page is there, or nobody else is at it.
    async fn turn_in_fleet(&mut self) -> Turn<S> {
        /// Until the next look, in case that nothing is heard of the lease: little beside what the wait has taken so far.
        const PAUSES: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(500);
        let began = Instant::now();
        let deadline = began + self.proxy.upstream.patience();
        let Some(mut key) = self.lead.as_ref().map(|lead| lead.key().clone()) else { return Turn::Alone };
        while Instant::now() < deadline {
            let Some(claim) = Lease::claim(&self.proxy.store, &key).await else { return Turn::Alone };
            // Also with the lease: its last holder may have filled the store since we looked.
            let own = match self.look_again().await {
                Ok(response) => return Turn::Done(response),
                Err(own) => own,
            };
            match claim {
                // It was the lease of another variant, as has shown by now.
                _ if own.as_ref().is_some_and(|own| *own != key) => key = own.unwrap_or(key),
                Claim::Ours(lease) => return Turn::Ours(lease),
                Claim::Theirs(changed) => {
                    let pause = (began.elapsed() / 4).clamp(*PAUSES.start(), *PAUSES.end());
                    // One look for all who wait here.
                    let _ = timeout(pause, changed).await;
                }
            }
        }
        Turn::Alone
    }

    /// The page, if another proxy has put it into the store, for those who follow as well; else its key, if it turned out
    /// to be a variant.
    async fn look_again(&mut self) -> Result<Response<Body>, Option<Key>> {
        let page = &self.page;
        let variant = |marker: &Marker| page.variant(marker, &self.request.headers).key;
        match self.proxy.lookup(page, &self.request, Instant::now()).await {
            Lookup::Hit(ready, _, marker) if self.is_fresh(&ready) => {
                let entry = ready.entry();
                let key = marker.as_deref().map_or_else(|| page.key.clone(), variant);
                self.land(Outcome::Page(Arc::new(Shared { key, marker, entry: entry.clone() })));
                Ok(entry.collapsed(CacheStatus::Miss(self.miss, Fill::Collapsed)))
            }
            Lookup::Hit(_, _, marker) | Lookup::Miss(_, marker) => {
                let own = marker.as_deref().map(variant);
                self.marker = marker;
                Err(own)
            }
        }
    }

    fn is_fresh(&self, ready: &Ready) -> bool {
        // Never early: somebody has just fetched it.
        self.page.rule.freshness(ready.head.expires, Duration::ZERO, now(), || 1.0) == Freshness::Fresh
    }

    /// Tells who follows, if anybody may.
    fn land(&mut self, outcome: Outcome) {
        if let Some(lead) = self.lead.take() {
            lead.land(outcome);
        }
    }

    /// Tells that the answer was for this client alone, and that the next will be, if it is of a lasting kind.
    fn land_apart(&mut self, is_lasting: bool) {
        if let Some(lead) = self.lead.as_ref().filter(|_| is_lasting) {
            self.proxy.collapsing.keep_apart(lead.key().clone());
            self.lease.iter().for_each(Lease::keep_apart);
        }
        self.land(Outcome::Apart);
    }
}
