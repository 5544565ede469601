//! A bound on the requests that the origin has at a time, and the queue before it: an origin that is behind gets no more
//! work than it can do, and who would wait too long is told so at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::OriginError;

/// How much the origin gets at a time.
#[derive(Clone, Copy, Debug)]
pub struct OriginLimits {
    /// Requests that it has at a time, each until the end of its answer.
    pub requests: usize,
    /// Requests that wait for their turn.
    pub queue: usize,
}

/// The way to the origin.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    queue: Semaphore,
    wait: Duration,
}

/// A place at the origin, free again when it is dropped.
pub(crate) type Admitted = OwnedSemaphorePermit;

impl Gate {
    pub(crate) fn new(limits: OriginLimits, wait: Duration) -> Self {
        let [places, queue] =
            [limits.requests, limits.queue].map(|count| Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self { places: Arc::new(places), queue, wait }
    }

    /// Waits for a place, in turn, and not for long.
    pub(crate) async fn enter(&self) -> Result<Admitted, OriginError> {
        // While others wait none is free: each goes from hand to hand.
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = self.queue.try_acquire().map_err(|_| OriginError::Busy)?;
        let place = timeout(self.wait, self.places.clone().acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(OriginError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_in_turn_and_not_for_long() {
        let gate = Arc::new(Gate::new(OriginLimits { requests: 1, queue: 1 }, Duration::from_secs(5)));
        let first = gate.enter().await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await }
        });
        tokio::task::yield_now().await;
        assert!(matches!(gate.enter().await, Err(OriginError::Busy)), "the queue is full");
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        let started = tokio::time::Instant::now();
        assert!(matches!(gate.enter().await, Err(OriginError::Busy)), "nobody leaves");
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        drop(second);
        assert!(gate.enter().await.is_ok());
    }
}
