//! The flight of a miss: fetch, admission, fill. Simultaneous requests for one page share a flight.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderMap, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, Response};
use server::Peer;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::body::{Body, Client, FillBody};
use super::decide::WantedPage;
use super::fill::{FillOutcome, Filling, Notes, Plan, WholePage};
use super::fills::FillEnd;
use super::fleet::FleetTurn;
use super::renewal::OriginAnswer;
use super::reply::Reply;
use super::{Proxy, now};
use crate::error::Error;
use crate::key::{Key, MarkerWrite, PageId, VaryMarker};
use crate::origin::Fetched;
use crate::page::entry::Version;
use crate::page::etag::needs_etag;
use crate::policy::{
    self, Admission, CachePolicy, Coalesce, Decline, Length, Received, Terms, Whole, unix_seconds,
};
use crate::purge::Stamp;
use crate::request::Question;
use crate::share::flights::{FlightOutcome, Leader, Role, SharedPage};
use crate::share::lease::Lease;
use crate::status::{CacheStatus, Fill, Miss};
use crate::store::{Store, Write};

/// The most flights that a request joins. One may turn out to be for another variant, and one may break.
const FLIGHTS: usize = 3;

/// A fetch and everything that it needs, owned, since it may outlive the client's connection.
pub(super) struct Flight<S: Store> {
    pub(super) proxy: Arc<Proxy<S>>,
    pub(super) wanted: WantedPage,
    pub(super) request: Parts,
    pub(super) peer: Peer,
    /// The right to pass the outcome to the followers.
    pub(super) leader: Option<Leader>,
    /// The headers of a GET with a range, as the client sent them.
    ranged: Option<HeaderMap>,
    /// The lease, held until the page is in the store.
    lease: Option<Lease<S>>,
}

impl<S: Store> Proxy<S> {
    /// Fetches a page, by itself or in a flight with other requests.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        wanted: &WantedPage,
        request: &Parts,
        peer: Peer,
    ) -> Result<Reply, Error> {
        self.lead_or_follow(wanted, request, peer).await?.for_request(request, &wanted.rule)
    }

    /// Fetches as the leader, or waits for the leader as a follower.
    async fn lead_or_follow(
        self: &Arc<Self>,
        wanted: &WantedPage,
        request: &Parts,
        peer: Peer,
    ) -> Result<Reply, Error> {
        let question = Question::of_parts(request, peer);
        let mut key = wanted.variant(wanted.marker.as_deref(), &question).key();
        let arrived = Instant::now();
        let mut began = wanted.began;
        let may_be_shared = self.writes && policy::may_be_shared(&wanted.rule, request);
        for _ in 0..if may_be_shared { FLIGHTS } else { 0 } {
            let known = self.known();
            match self.flights.join(&key, began, known.is_some()) {
                Role::HitForMiss => break,
                Role::Leader(leader) => {
                    // The flight has a task of its own, which goes on for the followers if the client leaves.
                    let flight = Flight::of(self, wanted, request, peer, Some(leader));
                    // Boxed, since the future is large, and spawning moves it.
                    return self.tasks.spawn(Box::pin(flight.fly())).await.unwrap_or(Err(Error::Broken));
                }
                Role::Follower(follower) => match follower.outcome(arrived + self.upstreams.patience()).await
                {
                    FlightOutcome::Page(shared) => match wanted.answer(&shared, &question) {
                        // A client that asks after a purge, or after a new version was stored, must not get an older page.
                        Ok(_) if self.is_purged(&shared, known) || wanted.found() != shared.found => {
                            began = Instant::now();
                        }
                        Ok(reply) => return Ok(reply),
                        Err(own) => key = own,
                    },
                    FlightOutcome::Failed(error) => return Err(Error::Collapsed(Box::new(error))),
                    FlightOutcome::Unshared => break,
                    FlightOutcome::Broken => {}
                },
            }
        }
        Box::pin(Flight::of(self, wanted, request, peer, None).fly()).await
    }

    /// Fetches a new page in the background, unless a flight is under way.
    pub(super) fn fetch_aside(self: &Arc<Self>, wanted: &WantedPage, request: &Parts, peer: Peer) {
        let key = wanted.variant(wanted.marker.as_deref(), &Question::of_parts(request, peer)).key();
        if let Role::Leader(leader) = self.flights.join(&key, wanted.began, self.known().is_some()) {
            // A HEAD was answered from the page of a GET, so the GET is refreshed.
            let mut request = request.clone();
            if request.method == Method::HEAD {
                request.method = Method::GET;
            }
            let flight = Flight::of(self, wanted, &request, peer, Some(leader));
            let flight = Box::pin(flight.fly());
            self.tasks.spawn(async { drop(flight.await) });
        }
    }
}

impl WantedPage {
    /// The version that was found in the store and not served.
    pub(super) fn found(&self) -> Option<Version> {
        self.old.as_ref()?.page.version()
    }

    /// The page itself or, with a marker, its variant for this question.
    pub(super) fn variant(&self, marker: Option<&VaryMarker>, question: &Question<'_>) -> PageId {
        self.id.selected(marker, question, &self.rule)
    }

    /// The answer, if the shared page is the wanted one. Otherwise the key of the wanted page.
    fn answer(&self, shared: &SharedPage, question: &Question<'_>) -> Result<Reply, Key> {
        let id = self.variant(shared.marker.as_deref(), question);
        let SharedPage { key, entry, .. } = shared;
        if id.key_text() == key.as_bytes()
            && id.serves(entry.proof.as_deref(), &entry.headers, question, &self.rule)
        {
            return Ok(Reply::collapsed(entry.clone(), CacheStatus::Miss(self.miss, Fill::Collapsed)));
        }
        Err(id.key())
    }
}

impl<S: Store> Flight<S> {
    fn of(
        proxy: &Arc<Proxy<S>>,
        wanted: &WantedPage,
        request: &Parts,
        peer: Peer,
        leader: Option<Leader>,
    ) -> Box<Self> {
        let has_range = request.method == Method::GET && request.headers.contains_key(RANGE);
        let ranged = has_range.then(|| request.headers.clone());
        let request = policy::ask_for_whole(request.clone());
        let (proxy, wanted) = (proxy.clone(), wanted.clone());
        // Boxed, since each step of a flight moves it.
        Box::new(Self { proxy, wanted, request, peer, leader, ranged, lease: None })
    }

    pub(super) fn question(&self) -> Question<'_> {
        Question::of_parts(&self.request, self.peer)
    }

    /// Claims the lease if the rule is for the fleet, then fetches.
    async fn fly(mut self: Box<Self>) -> Result<Reply, Error> {
        let is_reachable = self.wanted.miss != Miss::Store;
        if self.leader.is_some() && self.wanted.rule.coalesce == Coalesce::Fleet && is_reachable {
            let turn = Box::pin(self.turn_in_fleet()).await;
            self.proxy.fills.count_lease(turn.end());
            match turn {
                FleetTurn::Ours(lease) => self.lease = Some(lease),
                FleetTurn::Done(reply) => return Ok(*reply),
                FleetTurn::Alone => {}
            }
        }
        let known = self.proxy.generation();
        let stamp = self.proxy.stamp(&self.question());
        let mut fetched = match self.ask().await {
            Ok(OriginAnswer::New(fetched)) => fetched,
            Ok(OriginAnswer::Confirmed(confirmed)) => {
                return Ok(Box::pin(self.renew(confirmed, (stamp, known))).await);
            }
            Err(error) => {
                let error = Error::from(error);
                self.land(FlightOutcome::Failed(error.clone()));
                return Err(error);
            }
        };
        self.proxy.keep_if_slow(&self.question(), &fetched);
        // Read after the answer: the age of a page counts from then, however long the origin took.
        let received = Received { at: now(), took: fetched.took };
        if !self.proxy.writes {
            return Ok(Reply::relayed(fetched, CacheStatus::Miss(self.wanted.miss, Fill::ReadOnly)));
        }
        let (head, length) = (&mut fetched.head, fetched.length);
        match self.proxy.policy.admission(&self.wanted.rule, &self.request, head, length, received) {
            Admission::Decline(decline) => {
                // A failure of the origin may soon be over, so it does not last.
                let is_lasting = !policy::is_failure(fetched.head.status);
                Ok(self.decline(fetched, decline, is_lasting))
            }
            Admission::Admit(_) if fetched.tags.are_too_many(&fetched.head.headers) => {
                Ok(self.decline(fetched, Decline::Tags, true))
            }
            // A Django that shares the store would serve the page without asking the origin.
            Admission::Admit(terms) if terms.fresh.is_zero() && !self.proxy.format.keeps_stale() => {
                Ok(self.decline(fetched, Decline::NoFreshness, true))
            }
            Admission::Admit(terms) => Ok(self.fill(fetched, terms, received, (stamp, known)).await),
        }
    }

    /// Answers with the page, while a task captures and stores it and then lands.
    async fn fill(
        mut self: Box<Self>,
        mut fetched: Fetched,
        terms: Terms,
        received: Received,
        (stamp, known): (Option<Stamp>, u64),
    ) -> Reply {
        let is_for_others = !terms.fresh.is_zero();
        let stamp = stamp.map(|stamp| Stamp { tags: std::mem::take(&mut fetched.tags), ..stamp });
        let is_reachable = self.wanted.miss != Miss::Store && (stamp.is_some() || !self.proxy.purges());
        let (plan, marker) = self.plan(terms, &fetched.head.headers, received, stamp);
        if !self.is_one_of_few(&plan) {
            return self.decline(fetched, Decline::Variants, false);
        }
        let Some(capture) = self.proxy.room.capture(fetched.length.known()) else {
            return self.decline(fetched, Decline::Room, false);
        };
        let promise = self.promise(fetched.length, is_reachable, &plan);
        let limit = self.proxy.max_entry;
        let (client, body) = FillBody::new(fetched.length.known(), limit);
        let response = Response::from_parts(fetched.head.clone(), Body::Filled(body));
        let reply = Reply::new(response, CacheStatus::Miss(self.wanted.miss, promise))
            .after(fetched.origin.clone(), fetched.took);
        // A range needs the length of the page, and a tag needs all of its bytes.
        let needs_length = self.needs_length(&fetched);
        let gets_etag = self.proxy.conditional_get && needs_etag(&fetched.head.headers);
        let waits = needs_length || gets_etag;
        let (whole, ended) = if waits { Some(oneshot::channel()).unzip() } else { (None, None) };
        let (key, found) = (plan.key.clone(), self.wanted.found());
        let tasks = self.proxy.tasks.clone();
        let filling = Box::new(self.filling(fetched, plan, is_reachable, client, (gets_etag, whole)));
        if !is_for_others {
            self.land_unshared(true);
        }
        tasks.spawn(Box::pin(async move {
            let began = Instant::now();
            let outcome = filling.run(capture).await;
            self.proxy.fills.count_timed(outcome.end(), began.elapsed());
            match outcome {
                FillOutcome::Whole(entry, _) => {
                    self.land(FlightOutcome::Page(Arc::new(SharedPage { key, marker, entry, found, known })))
                }
                FillOutcome::TooLarge => self.land_unshared(true),
                FillOutcome::NoRoom => self.land_unshared(false),
                // The leader is dropped without landing, so one of the followers leads a new flight.
                FillOutcome::Broken => drop(self.leader.take()),
            }
        }));
        let Some(ended) = ended else { return reply };
        // The client's window holds a whole captured page, so this does not wait for the client.
        match ended.await {
            Ok(WholePage { length, etag }) => reply.of_whole(needs_length.then_some(length), etag),
            Err(_) => reply,
        }
    }

    /// Whether the client's range waits for the length of the page.
    fn needs_length(&self, fetched: &Fetched) -> bool {
        let Some(request) = self.ranged.as_ref().filter(|_| fetched.length.known().is_none()) else {
            return false;
        };
        let (status, headers) = (fetched.head.status, &fetched.head.headers);
        let has_date = self.wanted.rule.policy != CachePolicy::Django;
        policy::needs_length(request, Whole { status, headers, length: None, has_date })
    }

    /// What the client is told about the storing of a page with this length.
    fn promise(&self, length: Length, is_reachable: bool, plan: &Plan) -> Fill {
        let mut keys = plan.markers.iter().map(Write::key).chain([&plan.key]);
        match length {
            _ if !is_reachable => Fill::Skipped,
            _ if !keys.all(|key| self.proxy.store.takes_writes(key)) => Fill::Refused,
            Length::Known(_) => Fill::Stored,
            Length::Chunked | Length::UntilClose => Fill::Streamed,
        }
    }

    /// The fill of an admitted page, which is stored if the store can be reached.
    fn filling(
        &self,
        fetched: Fetched,
        plan: Plan,
        is_reachable: bool,
        client: Client,
        (gets_etag, whole): (bool, Option<oneshot::Sender<WholePage>>),
    ) -> Filling<S> {
        let Proxy { store, log, max_entry, compressor, faults, .. } = &*self.proxy;
        let Fetched { head, body, length, .. } = fetched;
        let codings = match is_reachable {
            true => self.wanted.rule.codings_of(head.status, &head.headers).to_vec(),
            false => Vec::new(),
        };
        Filling {
            store: is_reachable.then(|| store.clone()),
            plan,
            log: log.clone(),
            head,
            body,
            length,
            limit: *max_entry,
            codings,
            compressor: compressor.clone(),
            client,
            gets_etag,
            whole,
            faults: faults.clone(),
        }
    }

    /// Answers this client only. If the reason does not last, the page may be stored the next time.
    fn decline(mut self, fetched: Fetched, decline: Decline, is_lasting: bool) -> Reply {
        self.proxy.fills.count(FillEnd::Declined);
        self.land_unshared(is_lasting);
        Reply::relayed(fetched, CacheStatus::Declined(decline))
    }

    /// Whether one more variant of the page may be stored.
    pub(super) fn is_one_of_few(&self, plan: &Plan) -> bool {
        let Some(page) = &plan.variants else { return true };
        let variants = &self.proxy.variants;
        if plan.has_new_marker() {
            variants.forget(page);
        }
        variants.admit(page, &plan.key, plan.notes.keep, Instant::now())
    }

    /// Plans where an admitted page is stored, under which marker, and for how long.
    pub(super) fn plan(
        &self,
        terms: Terms,
        answer: &HeaderMap,
        received: Received,
        stamp: Option<Stamp>,
    ) -> (Plan, Option<Arc<VaryMarker>>) {
        let Proxy { format, heads, .. } = &*self.proxy;
        let WantedPage { id, rule, marker, .. } = &self.wanted;
        let question = self.question();
        let to = id.clone().destination(
            marker.as_deref(),
            &terms.variance,
            answer,
            (&question, rule),
            rand::random::<u128>,
        );
        let (marker, markers, variants) = match to.marker {
            None => (None, Vec::new(), None),
            Some(MarkerWrite { keys, new: None, variants }) => {
                (marker.clone(), keys.into_iter().map(Write::Extend).collect(), variants)
            }
            Some(MarkerWrite { keys, new: Some(new), variants }) => {
                let (value, new) = (format.encode_marker(&new), Arc::new(new));
                keys.iter().for_each(|key| heads.keep_marker(key.clone(), &value, new.clone()));
                let writes = keys.into_iter().map(|key| Write::Set(key, value.clone())).collect();
                (Some(new), writes, variants)
            }
        };
        let (key, left, format) = (to.id.key(), to.left, format.clone());
        let proof = to.id.proof(answer, &question);
        let notes = self.notes(terms, received);
        (Plan { key, format, proof, markers, variants, left, notes, stamp }, marker)
    }

    fn notes(&self, terms: Terms, received: Received) -> Notes {
        let rule = &self.wanted.rule;
        let Terms { fresh, keep, born, without, .. } = terms;
        let of_http = rule.policy != CachePolicy::Django;
        Notes {
            expires: unix_seconds(received.at).saturating_add(fresh.as_secs()),
            keep: if of_http && !self.proxy.format.keeps_stale() { fresh } else { keep },
            born,
            version: of_http.then(|| Version::Number(rand::random())),
            cost: if rule.early_refresh > 0.0 { received.took } else { Duration::ZERO },
            without,
        }
    }

    /// Passes the outcome to the followers, if this is a leader.
    pub(super) fn land(&mut self, outcome: FlightOutcome) {
        if let Some(leader) = self.leader.take() {
            leader.land(outcome);
        }
    }

    /// Lands with an answer for this client only. If the reason lasts, requests do not wait for each other for a while.
    pub(super) fn land_unshared(&mut self, is_lasting: bool) {
        if let Some(leader) = self.leader.as_ref().filter(|_| is_lasting) {
            self.proxy.flights.mark_hit_for_miss(leader.key().clone());
            self.lease.iter().for_each(Lease::mark_hit_for_miss);
        }
        self.land(FlightOutcome::Unshared);
    }
}
