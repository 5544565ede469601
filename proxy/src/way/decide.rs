//! The decision on a request: its rule, its key, a look for its page, and whether that may be served.
//!
//! Serving and `proxy explain` both come here. What can be decided at once is ([`Proxy::begin`]); the rest waits for the
//! store ([`Proxy::finish_decision`]).

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::lookup::{Found, Lookup};
use super::{Proxy, now};
use crate::key::{PageId, VaryMarker};
use crate::page::stored::StoredPage;
use crate::policy::{Disposition, Freshness, Pass, Rule};
use crate::request::{Question, Refusal};
use crate::status::{CacheStatus, Hit, Miss, Source};
use crate::store::{Store, Values};

/// What is to become of a request.
#[derive(Debug)]
pub enum Decision {
    /// It gets a stored page.
    Serve(Serving),
    /// It gets a page of the origin, which may be stored.
    Fetch(Box<WantedPage>),
    /// It goes to the origin, and the cache has no part in it.
    Pass(Pass),
    /// It gets an error.
    Refuse(Refusal),
}

/// A stored page that is served.
#[derive(Debug)]
pub struct Serving {
    pub(super) page: StoredPage,
    pub(super) source: Source,
    pub(super) hit: Hit,
    /// The marker that lies under the page's key, if there is one.
    pub(super) marker: Option<Arc<VaryMarker>>,
    /// When that was decided.
    pub(super) now: SystemTime,
    /// What is fetched meanwhile, if it is time for that.
    pub(super) refresh: Option<Box<WantedPage>>,
}

impl Serving {
    /// What the answer says of it.
    pub(super) fn cache(&self) -> CacheStatus {
        CacheStatus::Hit(self.hit, self.source, self.page.ttl(self.now))
    }
}

/// A page that is to be had from the origin.
#[derive(Clone, Debug)]
pub struct WantedPage {
    pub(super) id: PageId,
    pub(super) rule: Arc<Rule>,
    pub(super) miss: Miss,
    /// The marker that lies under the page's key, if there is one.
    pub(super) marker: Option<Arc<VaryMarker>>,
    /// When the lookup began.
    pub(super) began: Instant,
    /// A page past its time that is served if no other can be had.
    pub(super) old: Option<StoredPage>,
}

/// A decision that waits for the store.
#[derive(Clone, Debug)]
pub struct PendingLookup {
    id: PageId,
    rule: Arc<Rule>,
    began: Instant,
}

impl PendingLookup {
    pub(super) fn began(&self) -> Instant {
        self.began
    }
}

impl<S: Store> Proxy<S> {
    /// Decides on a question, with a look into these values if there is need for one.
    pub(super) async fn decide<V: Values>(
        &self,
        question: &Question<'_>,
        began: Instant,
        values: &V,
    ) -> Decision {
        match self.begin(question, began) {
            Ok(decision) => decision,
            Err(pending) => self.finish_decision(pending, question, values).await,
        }
    }

    /// Decides as far as that can be done without waiting: a pass, or a page that is near.
    pub(super) fn begin(&self, question: &Question<'_>, began: Instant) -> Result<Decision, PendingLookup> {
        let rule = match self.policy.rules().disposition(question) {
            Disposition::Lookup(rule) => rule,
            Disposition::Pass(pass) => return Ok(Decision::Pass(pass)),
        };
        let id = PageId::of(question, rule, &self.keys, &self.site);
        match self.near.as_ref().and_then(|near| near.page(&id, rule, question, began)) {
            Some((page, marker)) => {
                let found = Found { page, source: Source::Near, marker };
                Ok(judge(Lookup::Hit(found), id, rule, began))
            }
            None => Err(PendingLookup { id, rule: rule.clone(), began }),
        }
    }

    /// Decides by what the store holds.
    pub(super) async fn finish_decision<V: Values>(
        &self,
        pending: PendingLookup,
        question: &Question<'_>,
        values: &V,
    ) -> Decision {
        let PendingLookup { id, rule, began } = pending;
        let lookup = self.stored_page(&id, &rule, question, began, values).await;
        judge(lookup, id, &rule, began)
    }
}

/// Decides by what was found.
fn judge(lookup: Lookup, id: PageId, rule: &Arc<Rule>, began: Instant) -> Decision {
    let Found { page, source, marker } = match lookup {
        Lookup::Hit(found) => found,
        Lookup::Miss(miss, marker) => {
            let rule = rule.clone();
            return Decision::Fetch(Box::new(WantedPage { id, rule, miss, marker, began, old: None }));
        }
    };
    let now = now();
    let freshness = rule.freshness(page.expires(), page.cost(), now, rand::random);
    let wanted = |old| {
        let rule = rule.clone();
        Box::new(WantedPage { id, rule, miss: Miss::Stale, marker: marker.clone(), began, old })
    };
    let (hit, refresh) = match freshness {
        Freshness::Fresh => (Hit::Fresh, None),
        Freshness::Early => (Hit::Fresh, Some(wanted(None))),
        Freshness::Grace => (Hit::Grace, Some(wanted(None))),
        Freshness::IfError => return Decision::Fetch(wanted(Some(page))),
    };
    Decision::Serve(Serving { page, source, hit, marker, now, refresh })
}
