//! The decision on a request: find its rule, make its key, look up its page, judge the page.
//!
//! Serving and `proxy explain` share this code. [`Proxy::begin`] decides without waiting if it can;
//! [`Proxy::finish_decision`] waits for the store.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::http::request::Parts;
use server::Peer;
use tokio::time::Instant;

use super::lookup::{Found, Lookup};
use super::{Proxy, now};
use crate::acme::Tokens;
use crate::key::{PageId, VaryMarker};
use crate::page::forms::Form;
use crate::page::stored::StoredPage;
use crate::policy::{Disposition, Freshness, OnFailure, Part, Pass, Rule, Wishes};
use crate::request::{Question, Refusal};
use crate::status::{CacheStatus, Hit, Miss, Source};
use crate::store::{Store, Values};

/// The answer to a request.
#[derive(Debug)]
pub enum Decision {
    /// A stored page.
    Serve(Serving),
    /// A page from the origin, which may be stored.
    Fetch(Box<WantedPage>),
    /// The origin's answer, without the cache.
    Pass(Pass),
    /// An error.
    Refuse(Refusal),
    /// This text, for an authority that validates a name.
    Prove(String),
}

/// A stored page that is served.
#[derive(Debug)]
pub struct Serving {
    pub(super) page: StoredPage,
    pub(super) source: Source,
    pub(super) hit: Hit,
    /// The part of the page that is asked for.
    pub(super) part: Part,
    /// The form to send, if the page has several.
    pub(super) form: Option<Form>,
    /// The marker under the page's key, if there is one.
    pub(super) marker: Option<Arc<VaryMarker>>,
    /// The time of the decision.
    pub(super) now: SystemTime,
    /// The same time by the clock of the proxy that stored the page.
    pub(super) time_of_page: SystemTime,
    /// The page to fetch meanwhile, if a refresh is due.
    pub(super) refresh: Option<Box<WantedPage>>,
    /// How long the look into the store took, if the access log wants to know.
    pub(super) looked: Option<Duration>,
}

impl Decision {
    /// Notes how long the look into the store took.
    fn after(mut self, looked: Duration) -> Self {
        match &mut self {
            Self::Serve(serving) => serving.looked = Some(looked),
            Self::Fetch(wanted) => wanted.looked = Some(looked),
            Self::Pass(_) | Self::Refuse(_) | Self::Prove(_) => {}
        }
        self
    }

    /// How long the look into the store took, if that is known.
    pub(super) fn looked(&self) -> Option<Duration> {
        match self {
            Self::Serve(serving) => serving.looked,
            Self::Fetch(wanted) => wanted.looked,
            Self::Pass(_) | Self::Refuse(_) | Self::Prove(_) => None,
        }
    }
}

impl Serving {
    /// The cache status of the answer.
    pub(super) fn cache(&self) -> CacheStatus {
        let hit = match (&self.part, self.form, self.hit) {
            (Part::Bytes(_), _, Hit::Fresh) => Hit::Range,
            (Part::Whole, Some(Form::Coded(coding)), Hit::Fresh) => Hit::Coded(coding),
            (_, _, hit) => hit,
        };
        CacheStatus::Hit(hit, self.source, self.page.ttl(self.time_of_page))
    }
}

/// A page to fetch from the origin.
#[derive(Clone, Debug)]
pub struct WantedPage {
    pub(super) id: PageId,
    pub(super) rule: Arc<Rule>,
    pub(super) miss: Miss,
    /// The marker under the page's key, if there is one.
    pub(super) marker: Option<Arc<VaryMarker>>,
    /// When the lookup began.
    pub(super) began: Instant,
    /// The page that was found and not served.
    pub(super) old: Option<OldPage>,
    /// How long the look into the store took, if the access log wants to know.
    pub(super) looked: Option<Duration>,
}

/// A stored page that is not served at once.
#[derive(Clone, Debug)]
pub(super) struct OldPage {
    pub(super) page: StoredPage,
    pub(super) on_failure: OnFailure,
}

/// A decision, or the part of it that needs no waiting.
#[expect(clippy::large_enum_variant, reason = "it is matched where it is made")]
pub(super) enum Begun {
    Decided(Decision),
    Pending(PendingLookup),
}

/// A decision that waits for the store.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are lookups of pages")]
pub enum PendingLookup {
    /// For a page.
    Page(PageLookup),
    /// For the answer to an authority that another proxy may have, since this time.
    Proof(Instant),
}

/// A lookup of a page.
#[derive(Debug)]
pub struct PageLookup {
    id: PageId,
    rule: Arc<Rule>,
    wishes: Wishes,
    began: Instant,
}

impl PendingLookup {
    pub(super) fn began(&self) -> Instant {
        match self {
            Self::Page(lookup) => lookup.began,
            Self::Proof(began) => *began,
        }
    }
}

impl<S: Store> Proxy<S> {
    /// Decides on a question. Reads from `values` if needed.
    pub(super) async fn decide<V: Values>(
        &self,
        question: &Question<'_>,
        began: Instant,
        values: &V,
    ) -> Decision {
        match self.begin(question, began) {
            Begun::Decided(decision) => decision,
            Begun::Pending(pending) => self.finish_decision(&pending, question, values).await,
        }
    }

    /// Decides without waiting, for a pass or a page in the near cache.
    pub(super) fn begin(&self, question: &Question<'_>, began: Instant) -> Begun {
        if let Some(tokens) = &self.tokens
            && let Some(begun) = begin_proof(tokens, question, began)
        {
            return begun;
        }
        match self.begin_page(question, began) {
            ControlFlow::Break(decision) => Begun::Decided(decision),
            ControlFlow::Continue(lookup) => Begun::Pending(PendingLookup::Page(lookup)),
        }
    }

    /// Decides without waiting, or begins the lookup of a page.
    fn begin_page(&self, question: &Question<'_>, began: Instant) -> ControlFlow<Decision, PageLookup> {
        let (rule, wishes) = match self.policy.rules().disposition(question) {
            Disposition::Lookup(rule, wishes) => (rule, wishes),
            Disposition::Pass(pass) => return ControlFlow::Break(Decision::Pass(pass)),
        };
        let id = PageId::of(question, rule, &self.keys, &self.site);
        let near = self.near.as_ref().and_then(|near| near.page(&id, rule, question, began));
        match near.and_then(|(page, marker)| self.near_found(page, marker, began)) {
            Some(found) => {
                ControlFlow::Break(self.judge(Lookup::Hit(found), &id, (rule, wishes), question, began))
            }
            None => ControlFlow::Continue(PageLookup { id, rule: rule.clone(), wishes, began }),
        }
    }

    /// Looks into the store, and decides.
    pub(super) async fn finish_decision<V: Values>(
        &self,
        pending: &PendingLookup,
        question: &Question<'_>,
        values: &V,
    ) -> Decision {
        let began = pending.began();
        let not_proved;
        let lookup = match pending {
            PendingLookup::Page(lookup) => lookup,
            PendingLookup::Proof(_) => match Box::pin(self.finish_proof(question, began, values)).await {
                ControlFlow::Break(decision) => return decision,
                ControlFlow::Continue(lookup) => {
                    not_proved = Box::new(lookup);
                    &not_proved
                }
            },
        };
        let PageLookup { id, rule, wishes, .. } = lookup;
        let lookup = self.stored_page(id, rule, question, began, values).await;
        let decision = self.judge(lookup, id, (rule, *wishes), question, began);
        if self.access_log.is_some() { decision.after(began.elapsed()) } else { decision }
    }

    /// Looks for the answer to an authority in the store. A request that is no such one is decided on as any other.
    async fn finish_proof<V: Values>(
        &self,
        question: &Question<'_>,
        began: Instant,
        values: &V,
    ) -> ControlFlow<Decision, PageLookup> {
        let found = match &self.tokens {
            Some(tokens) => tokens.answer_elsewhere(question.path, values).await,
            None => None,
        };
        found.map_or_else(
            || self.begin_page(question, began),
            |answer| ControlFlow::Break(Decision::Prove(answer)),
        )
    }

    /// Decides at once if the store answers without waiting.
    pub(super) fn finish_at_once(
        &self,
        pending: &PendingLookup,
        question: &Question<'_>,
    ) -> Option<Decision> {
        if !S::IS_IMMEDIATE {
            return None;
        }
        let decision = pin!(self.finish_decision(pending, question, &self.store));
        match decision.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(decision) => Some(decision),
            Poll::Pending => None,
        }
    }

    /// Decides by the outcome of a lookup.
    fn judge(
        &self,
        lookup: Lookup,
        id: &PageId,
        (rule, wishes): (&Arc<Rule>, Wishes),
        question: &Question<'_>,
        began: Instant,
    ) -> Decision {
        let wanted = |miss, marker, old| {
            let (id, rule) = (id.clone(), rule.clone());
            WantedPage { id, rule, miss, marker, began, old, looked: None }
        };
        let Found { page, source, marker, ended } = match lookup {
            Lookup::Hit(found) => found,
            Lookup::Miss(miss, marker) => return fetch(wanted(miss, marker, None), wishes),
        };
        let now = now();
        let time_of_page = rule.time_of_page(page.expires(), now);
        let freshness = match self.followed.may_serve(|| page.stored_at(), now) {
            true => rule.judge(page.stored(ended), wishes, time_of_page, rand::random),
            false => Freshness::Fetch { wish: None, on_failure: OnFailure::Fail },
        };
        let (hit, is_refreshed) = match freshness {
            Freshness::Fresh => (Hit::Fresh, false),
            Freshness::Early => (Hit::Fresh, true),
            Freshness::Grace => (Hit::Grace, true),
            Freshness::MaxStale => (Hit::MaxStale, false),
            Freshness::Foreign => return fetch(wanted(Miss::Unusable, marker, None), wishes),
            Freshness::Fetch { wish, on_failure } => {
                let miss = wish.map_or(Miss::Stale, Miss::Request);
                return fetch(wanted(miss, marker, Some(OldPage { page, on_failure })), wishes);
            }
        };
        let refresh = is_refreshed.then(|| {
            let old = OldPage { page: page.clone(), on_failure: OnFailure::Fail };
            Box::new(wanted(Miss::Stale, marker.clone(), Some(old)))
        });
        let (part, form) = page.asked_for(&rule.compress, question.method, question.lines);
        let looked = None;
        Decision::Serve(Serving { page, source, hit, part, form, marker, now, time_of_page, refresh, looked })
    }

    /// Fetches a new page in the background, if a refresh is due.
    pub(super) fn refresh(
        self: &Arc<Self>,
        serving: &mut Serving,
        request: impl FnOnce() -> Parts,
        peer: Peer,
    ) {
        if let Some(wanted) = serving.refresh.take() {
            self.fetch_aside(&wanted, &request(), peer);
        }
    }
}

/// The answer to an authority that validates a name, or a look for it. The authority asks without TLS.
fn begin_proof(tokens: &Tokens, question: &Question<'_>, began: Instant) -> Option<Begun> {
    if question.peer.is_tls || ![Method::GET, Method::HEAD].contains(question.method) {
        return None;
    }
    let here = tokens.answer(question.path).map(|answer| Begun::Decided(Decision::Prove(answer)));
    let elsewhere =
        || tokens.may_be_elsewhere(question.path).then(|| Begun::Pending(PendingLookup::Proof(began)));
    here.or_else(elsewhere)
}

/// A fetch, unless the client wants only what is stored.
fn fetch(wanted: WantedPage, wishes: Wishes) -> Decision {
    match wishes.only_if_cached {
        true => Decision::Refuse(Refusal::OnlyIfCached),
        false => Decision::Fetch(Box::new(wanted)),
    }
}
