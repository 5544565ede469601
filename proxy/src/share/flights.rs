//! Collapsing: simultaneous misses of one page are one request to the origin (RFC 9211 calls it `collapsed`).
//!
//! The first to ask leads: a task of its own fetches and fills, whoever leaves meanwhile. The others follow: they wait
//! for the page, and get what the leader got. What turns out not to be for others releases them at once, and the next
//! requests for it do not wait at all for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::key::{Key, Marker};
use crate::page::entry::Entry;
use crate::way::error::Error;

/// How long requests for a page that could not be shared ask on their own. Then one leads again: it may have changed.
pub(crate) const APART_FOR: Duration = Duration::from_secs(10);

/// How many such pages are remembered, a few hundred bytes each.
const APART: usize = 10_000;

/// The pages that are being fetched.
#[derive(Debug)]
pub(crate) struct Collapsing {
    flights: Arc<Flights>,
    apart: Cache<Key, Instant>,
    /// How long a landed flight is remembered: as long as a lookup that began before it landed may take.
    linger: Duration,
}

#[derive(Debug, Default)]
struct Flights(Mutex<HashMap<Key, watch::Receiver<Option<Landing>>>>);

/// How a flight ended, and when.
#[derive(Clone, Debug)]
struct Landing {
    at: Instant,
    outcome: Outcome,
}

/// What a flight brought.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A page that was admitted, whole.
    Page(Arc<Shared>),
    /// An answer that is for the leader alone.
    Apart,
    /// No answer: it would be the same for all.
    Failed(Error),
    /// The answer broke off, or the leader did.
    Broken,
}

/// A page as it came from the origin, with the key that it was stored under.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) key: Key,
    pub(crate) marker: Option<Arc<Marker>>,
    pub(crate) entry: Entry,
}

/// The place of a request among those for the same page.
#[derive(Debug)]
pub(crate) enum Place {
    Lead(Lead),
    Follow(Follow),
    /// The page was not for others the last time.
    Apart,
}

impl Collapsing {
    /// `lookup` is the longest that a lookup may take.
    pub(crate) fn new(lookup: Duration) -> Self {
        Self { flights: Arc::default(), apart: Cache::new(APART), linger: lookup * 2 }
    }

    /// Takes a place. Who began to look the page up before it landed may have missed what it left in the store, and
    /// follows; who began later asks anew, since the page may have been deleted since.
    pub(crate) fn join(&self, key: &Key, asked: Instant) -> Place {
        if self.apart.get(key).is_some_and(|until| asked < until) {
            return Place::Apart;
        }
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(key)
            && flight.borrow().as_ref().is_none_or(|landing| asked < landing.at)
        {
            return Place::Follow(Follow(flight.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key.clone(), receiver);
        Place::Lead(Lead { key: key.clone(), flights: self.flights.clone(), sender, linger: self.linger })
    }

    /// Remembers that a page is not for others.
    pub(crate) fn keep_apart(&self, key: Key) {
        self.apart.insert(key, Instant::now() + APART_FOR);
    }
}

impl Flights {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, watch::Receiver<Option<Landing>>>> {
        // A map is whole whoever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a flight, unless another has taken its place.
    fn forget(&self, key: &Key, sender: &watch::Sender<Option<Landing>>) {
        let mut flights = self.lock();
        if flights.get(key).is_some_and(|flight| flight.same_channel(&sender.subscribe())) {
            flights.remove(key);
        }
    }
}

/// The one that asks the origin. If it is dropped before it lands, its followers are told so.
#[derive(Debug)]
pub(crate) struct Lead {
    key: Key,
    flights: Arc<Flights>,
    sender: watch::Sender<Option<Landing>>,
    linger: Duration,
}

impl Lead {
    /// What was asked for.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Tells the followers, those that come late as well.
    pub(crate) fn land(self, outcome: Outcome) {
        self.sender.send_replace(Some(Landing { at: Instant::now(), outcome }));
        let linger = self.linger;
        tokio::spawn(async move {
            tokio::time::sleep(linger).await;
            drop(self);
        });
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.forget(&self.key, &self.sender);
    }
}

/// One that waits for the leader.
#[derive(Debug)]
pub(crate) struct Follow(watch::Receiver<Option<Landing>>);

impl Follow {
    /// What the leader got; past the deadline nobody waits any longer.
    pub(crate) async fn outcome(mut self, deadline: Instant) -> Outcome {
        match timeout_at(deadline, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(landing)) => landing.as_ref().map_or(Outcome::Broken, |landing| landing.outcome.clone()),
            Ok(Err(_)) => Outcome::Broken,
            Err(_) => Outcome::Apart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn key() -> Key {
        Key::new("page")
    }

    fn follow(collapsing: &Collapsing, asked: Instant) -> Follow {
        match collapsing.join(&key(), asked) {
            Place::Follow(follow) => follow,
            other => panic!("{other:?}"),
        }
    }

    fn lead(collapsing: &Collapsing, asked: Instant) -> Lead {
        match collapsing.join(&key(), asked) {
            Place::Lead(lead) => lead,
            other => panic!("{other:?}"),
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed(Error::BadRequest("x"))
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_the_others_get_what_it_got() {
        let collapsing = Collapsing::new(Duration::from_millis(50));
        let asked = Instant::now();
        let leader = lead(&collapsing, asked);
        let followers = [follow(&collapsing, asked), follow(&collapsing, asked)];
        leader.land(failed());
        for follower in followers {
            assert!(matches!(follower.outcome(asked + MINUTE).await, Outcome::Failed(_)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_looked_before_the_landing_follows_and_who_looks_after_it_leads() {
        let collapsing = Collapsing::new(Duration::from_millis(50));
        let before = Instant::now();
        let leader = lead(&collapsing, before);
        tokio::time::advance(Duration::from_millis(1)).await;
        leader.land(failed());
        let late = follow(&collapsing, before);
        assert!(matches!(late.outcome(before + MINUTE).await, Outcome::Failed(_)));
        drop(lead(&collapsing, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_landed_flight_is_forgotten() {
        let collapsing = Collapsing::new(Duration::from_millis(50));
        lead(&collapsing, Instant::now()).land(failed());
        tokio::time::sleep(Duration::from_millis(101)).await;
        tokio::task::yield_now().await;
        assert!(collapsing.flights.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_gone_breaks_and_its_place_is_free() {
        let collapsing = Collapsing::new(Duration::from_millis(50));
        let asked = Instant::now();
        let leader = lead(&collapsing, asked);
        let follower = follow(&collapsing, asked);
        drop(leader);
        assert!(matches!(follower.outcome(asked + MINUTE).await, Outcome::Broken));
        drop(lead(&collapsing, asked));
        assert!(collapsing.flights.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_past_the_deadline() {
        let collapsing = Collapsing::new(Duration::from_millis(50));
        let asked = Instant::now();
        let _leader = lead(&collapsing, asked);
        let follower = follow(&collapsing, asked);
        assert!(matches!(follower.outcome(asked + MINUTE).await, Outcome::Apart));
        assert_eq!(asked.elapsed(), MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_for_others_is_asked_for_apart_for_a_while() {
        let collapsing = Collapsing::new(Duration::from_millis(50));
        lead(&collapsing, Instant::now()).land(Outcome::Apart);
        collapsing.keep_apart(key());
        assert!(matches!(collapsing.join(&key(), Instant::now()), Place::Apart));
        tokio::time::advance(APART_FOR).await;
        drop(lead(&collapsing, Instant::now()));
    }
}
