//! The lease of a flight: when several proxies of a fleet miss a page at once, one of them fetches it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::decide::Decision;
use super::fills::LeaseEnd;
use super::flight::Flight;
use super::reply::Reply;
use crate::key::Key;
use crate::share::flights::{FlightOutcome, SharedPage};
use crate::share::lease::{Claim, Lease};
use crate::status::{CacheStatus, Fill, Hit};
use crate::store::Store;

/// Whether this proxy fetches the page.
pub(super) enum FleetTurn<S: Store> {
    Ours(Lease<S>),
    /// Another proxy has fetched the page.
    Done(Box<Reply>),
    Alone,
}

impl<S: Store> FleetTurn<S> {
    pub(super) fn end(&self) -> LeaseEnd {
        match self {
            Self::Ours(_) => LeaseEnd::Ours,
            Self::Done(_) => LeaseEnd::Theirs,
            Self::Alone => LeaseEnd::Alone,
        }
    }
}

impl<S: Store> Flight<S> {
    /// Waits until the page is in the store, or no other proxy is fetching it.
    pub(super) async fn turn_in_fleet(&mut self) -> FleetTurn<S> {
        /// The pause until the next lookup, if no change of the lease is reported: a quarter of the wait so far, within these
        /// bounds.
        const PAUSES: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(500);
        let began = Instant::now();
        let deadline = began + self.proxy.upstreams.patience();
        let Some(mut key) = self.leader.as_ref().map(|leader| leader.key().clone()) else {
            return FleetTurn::Alone;
        };
        while Instant::now() < deadline {
            let claim = Lease::claim(&self.proxy.store, &self.proxy.waiters, &key).await;
            let Some(claim) = claim else { return FleetTurn::Alone };
            // Even with the lease, another lookup is needed: its last holder may have stored the page after the first lookup.
            let own = match self.look_again().await {
                Ok(reply) => return FleetTurn::Done(Box::new(reply)),
                Err(own) => own,
            };
            match claim {
                // A new marker shows that this was the lease of another variant.
                _ if own != key => key = own,
                Claim::Ours(lease) => return FleetTurn::Ours(lease),
                Claim::Theirs(changed) => {
                    let pause = (began.elapsed() / 4).clamp(*PAUSES.start(), *PAUSES.end());
                    // All followers of the flight wait for this one lookup.
                    let _ = timeout(pause, changed).await;
                }
            }
        }
        FleetTurn::Alone
    }

    /// Looks the page up again. If another proxy has stored it, lands with it and returns the answer. Otherwise returns the
    /// page's key, which a new marker may have changed.
    async fn look_again(&mut self) -> Result<Reply, Key> {
        let proxy = self.proxy.clone();
        let known = proxy.generation();
        let question = self.question();
        let decision = proxy.decide(&question, Instant::now(), &proxy.store).await;
        let marker = match &decision {
            Decision::Serve(serving) => serving.marker.clone(),
            Decision::Fetch(wanted) => wanted.marker.clone(),
            Decision::Pass(_) | Decision::Refuse(_) | Decision::Prove(_) => None,
        };
        let key = self.wanted.variant(marker.as_deref(), &question).key();
        // A page in its grace was not just fetched by another proxy. A page that is due for an early refresh may have been.
        if let Decision::Serve(serving) = &decision
            && serving.hit == Hit::Fresh
        {
            let entry = serving.page.entry(serving.now);
            let found = self.wanted.found();
            let shared = SharedPage { key, marker, entry: entry.clone(), found, known };
            self.land(FlightOutcome::Page(Arc::new(shared)));
            return Ok(Reply::collapsed(entry, CacheStatus::Miss(self.wanted.miss, Fill::Collapsed)));
        }
        self.wanted.marker = marker;
        if let Decision::Fetch(wanted) = decision {
            self.wanted.old = wanted.old;
        }
        Err(key)
    }
}
