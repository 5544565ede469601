//! Flights: simultaneous misses of one page share one fetch (`collapsed` in RFC 9211).
//!
//! The first request is the leader: its own task fetches and fills, even if clients leave meanwhile. The others are
//! followers: they wait for the leader's page. If the answer turns out to be for one client only, the followers are
//! released at once, and for a while requests for the page do not wait at all (hit-for-miss in Varnish).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::key::{Key, VaryMarker};
use crate::page::entry::{Entry, Version};

/// After a page could not be shared, each request fetches it by itself for this long. Then a request leads again, since the
/// page may have changed.
pub(crate) const HIT_FOR_MISS: Duration = Duration::from_secs(10);

/// The most pages of this kind that are remembered, at a few hundred bytes each.
const UNSHARED: usize = 10_000;

/// Landed flights are remembered until their pages together have this many bytes.
const LANDED: usize = 4 << 20;

/// The pages that are being fetched.
#[derive(Debug)]
pub(crate) struct Flights {
    under_way: Arc<UnderWay>,
    /// The pages that could not be shared, and until when requests do not wait for them.
    unshared: Cache<Key, Instant>,
    /// How long a landed flight is remembered. A lookup that began before the landing must have ended by then.
    linger: Duration,
}

#[derive(Debug, Default)]
struct UnderWay {
    flights: Mutex<HashMap<Key, Course>>,
    /// The bytes of the pages of landed flights.
    landed: AtomicUsize,
}

/// A flight, and when it began.
#[derive(Debug)]
struct Course {
    began: Instant,
    landing: watch::Receiver<Option<Landing>>,
}

/// A request that does not know every purge so far joins only flights that are younger than this: a purge counts from 50 ms
/// after its acknowledgement.
const UNKNOWING: Duration = Duration::from_millis(45);

/// How a flight ended, and when.
#[derive(Clone, Debug)]
struct Landing {
    at: Instant,
    outcome: FlightOutcome,
}

/// The outcome of a flight.
#[derive(Clone, Debug)]
pub(crate) enum FlightOutcome {
    /// A page that was admitted and is complete.
    Page(Arc<SharedPage>),
    /// An answer that only the leader may use.
    Unshared,
    /// The fetch failed; it would fail for every follower, too.
    Failed(Error),
    /// The answer broke off, or the leader was dropped.
    Broken,
}

impl FlightOutcome {
    /// The length of its page.
    fn size(&self) -> usize {
        match self {
            Self::Page(page) => page.entry.content_length(),
            Self::Unshared | Self::Failed(_) | Self::Broken => 0,
        }
    }
}

/// A page as it came from the origin, with the key that it was stored under.
#[derive(Debug)]
pub(crate) struct SharedPage {
    pub(crate) key: Key,
    pub(crate) marker: Option<Arc<VaryMarker>>,
    pub(crate) entry: Entry,
    /// The version that the leader found in the store.
    pub(crate) found: Option<Version>,
    /// The generation of the purge log that was known before the origin was asked.
    pub(crate) known: u64,
}

/// The role of a request among the requests for one page.
#[derive(Debug)]
pub(crate) enum Role {
    Leader(Leader),
    Follower(Follower),
    /// The page could not be shared last time: requests do not wait for each other.
    HitForMiss,
}

impl Flights {
    /// `lookup` is the longest time that a lookup may take.
    pub(crate) fn new(lookup: Duration) -> Self {
        Self { under_way: Arc::default(), unshared: Cache::new(UNSHARED), linger: lookup * 2 }
    }

    /// Gives a request its role. If its lookup began before the flight landed, it may have missed the page that the flight
    /// stored, so it follows. If its lookup began later, it leads a new flight, since the page may have been deleted.
    /// `is_knowing` says whether the request knows every purge until now.
    pub(crate) fn join(&self, key: &Key, began: Instant, is_knowing: bool) -> Role {
        if self.unshared.get(key).is_some_and(|until| began < until) {
            return Role::HitForMiss;
        }
        let mut flights = self.under_way.lock();
        if let Some(flight) = flights.get(key)
            && flight.landing.borrow().as_ref().is_none_or(|landing| began < landing.at)
            && (is_knowing || began < flight.began + UNKNOWING)
        {
            return Role::Follower(Follower(flight.landing.clone()));
        }
        let (sender, landing) = watch::channel(None);
        flights.insert(key.clone(), Course { began: Instant::now(), landing });
        let under_way = self.under_way.clone();
        Role::Leader(Leader { key: key.clone(), under_way, sender, linger: self.linger })
    }

    /// The number of flights that have not landed.
    pub(crate) fn count(&self) -> usize {
        self.under_way.lock().values().filter(|flight| flight.landing.borrow().is_none()).count()
    }

    /// Remembers that a page cannot be shared.
    pub(crate) fn mark_hit_for_miss(&self, key: Key) {
        self.unshared.insert(key, Instant::now() + HIT_FOR_MISS);
    }
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Course>> {
        // A panic elsewhere cannot leave the map half-changed.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a flight, unless another one has taken its place.
    fn forget(&self, key: &Key, sender: &watch::Sender<Option<Landing>>) {
        let mut flights = self.lock();
        if flights.get(key).is_some_and(|flight| flight.landing.same_channel(&sender.subscribe())) {
            flights.remove(key);
        }
    }
}

/// The request that fetches the page. If it is dropped before it lands, its followers get `Broken`.
#[derive(Debug)]
pub(crate) struct Leader {
    key: Key,
    under_way: Arc<UnderWay>,
    sender: watch::Sender<Option<Landing>>,
    linger: Duration,
}

impl Leader {
    /// The key of the page.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Passes the outcome to the followers, including those that join within `linger` if there is room for its page.
    pub(crate) fn land(self, outcome: FlightOutcome) {
        let size = outcome.size();
        self.sender.send_replace(Some(Landing { at: Instant::now(), outcome }));
        let others = self.under_way.landed.fetch_add(size, Relaxed);
        let linger =
            if size == 0 || others == 0 || others + size <= LANDED { self.linger } else { Duration::ZERO };
        tokio::spawn(async move {
            tokio::time::sleep(linger).await;
            self.under_way.landed.fetch_sub(size, Relaxed);
            drop(self);
        });
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.under_way.forget(&self.key, &self.sender);
    }
}

/// A request that waits for the leader.
#[derive(Debug)]
pub(crate) struct Follower(watch::Receiver<Option<Landing>>);

impl Follower {
    /// The leader's outcome. At the deadline it is `Unshared`, and the follower fetches by itself.
    pub(crate) async fn outcome(mut self, deadline: Instant) -> FlightOutcome {
        match timeout_at(deadline, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(landing)) => {
                landing.as_ref().map_or(FlightOutcome::Broken, |landing| landing.outcome.clone())
            }
            Ok(Err(_)) => FlightOutcome::Broken,
            Err(_) => FlightOutcome::Unshared,
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

    fn follow(flights: &Flights, began: Instant) -> Follower {
        match flights.join(&key(), began, true) {
            Role::Follower(follow) => follow,
            other => panic!("{other:?}"),
        }
    }

    fn lead(flights: &Flights, began: Instant) -> Leader {
        match flights.join(&key(), began, true) {
            Role::Leader(lead) => lead,
            other => panic!("{other:?}"),
        }
    }

    fn page(size: usize) -> FlightOutcome {
        let entry = Entry::of_body(vec![b'x'; size]);
        FlightOutcome::Page(Arc::new(SharedPage { key: key(), marker: None, entry, found: None, known: 0 }))
    }

    fn failed() -> FlightOutcome {
        FlightOutcome::Failed(Error::Broken)
    }

    #[tokio::test(start_paused = true)]
    async fn followers_get_the_leaders_outcome() {
        let flights = Flights::new(Duration::from_millis(50));
        let began = Instant::now();
        let leader = lead(&flights, began);
        let followers = [follow(&flights, began), follow(&flights, began)];
        leader.land(failed());
        for follower in followers {
            assert!(matches!(follower.outcome(began + MINUTE).await, FlightOutcome::Failed(_)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_from_before_the_landing_follows_and_one_from_after_it_leads() {
        let flights = Flights::new(Duration::from_millis(50));
        let before = Instant::now();
        let leader = lead(&flights, before);
        tokio::time::advance(Duration::from_millis(1)).await;
        leader.land(failed());
        let late = follow(&flights, before);
        assert!(matches!(late.outcome(before + MINUTE).await, FlightOutcome::Failed(_)));
        drop(lead(&flights, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_landed_flight_is_forgotten() {
        let flights = Flights::new(Duration::from_millis(50));
        lead(&flights, Instant::now()).land(failed());
        tokio::time::sleep(Duration::from_millis(101)).await;
        tokio::task::yield_now().await;
        assert!(flights.under_way.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn landed_flights_are_remembered_while_there_is_room_for_their_pages() {
        let flights = Flights::new(Duration::from_millis(50));
        for (name, size) in [("first", 2 * LANDED), ("second", 1)] {
            let Role::Leader(leader) = flights.join(&Key::new(name), Instant::now(), true) else {
                panic!("it leads")
            };
            leader.land(page(size));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(flights.under_way.lock().keys().collect::<Vec<_>>(), [&Key::new("first")]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(flights.under_way.lock().is_empty());
        assert_eq!(flights.under_way.landed.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_leader_breaks_its_flight_and_the_next_request_leads() {
        let flights = Flights::new(Duration::from_millis(50));
        let began = Instant::now();
        let leader = lead(&flights, began);
        let follower = follow(&flights, began);
        drop(leader);
        assert!(matches!(follower.outcome(began + MINUTE).await, FlightOutcome::Broken));
        drop(lead(&flights, began));
        assert!(flights.under_way.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_waits_no_longer_than_its_deadline() {
        let flights = Flights::new(Duration::from_millis(50));
        let began = Instant::now();
        let _leader = lead(&flights, began);
        let follower = follow(&flights, began);
        assert!(matches!(follower.outcome(began + MINUTE).await, FlightOutcome::Unshared));
        assert_eq!(began.elapsed(), MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_do_not_wait_for_an_unshared_page_for_a_while() {
        let flights = Flights::new(Duration::from_millis(50));
        lead(&flights, Instant::now()).land(FlightOutcome::Unshared);
        flights.mark_hit_for_miss(key());
        assert!(matches!(flights.join(&key(), Instant::now(), true), Role::HitForMiss));
        tokio::time::advance(HIT_FOR_MISS).await;
        drop(lead(&flights, Instant::now()));
    }
}
