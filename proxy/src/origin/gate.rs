//! Limits the requests that the origin has at a time, and queues further ones: a slow origin gets no more work than it
//! can do, and a request that finds the queue full is refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::OriginError;

/// How many requests the origin gets at a time, and how large the heads of its answers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginLimits {
    /// Bytes of an answer's head.
    pub head: usize,
    /// Requests that the origin has at a time, each until the end of its answer.
    pub requests: usize,
    /// Requests that wait for a free slot.
    pub queue: usize,
}

/// The slots and the queue.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    /// The number of slots.
    count: usize,
    queue: Semaphore,
    /// The most requests that may wait.
    longest: usize,
    wait: Duration,
    tunnels: Arc<AtomicUsize>,
}

/// A tunnel to the origin. Dropping it says that it has ended.
#[derive(Debug)]
pub(crate) struct TunnelPlace(Arc<AtomicUsize>);

impl Drop for TunnelPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A slot at the origin. Dropping it frees the slot.
pub(crate) type GatePermit = OwnedSemaphorePermit;

impl Gate {
    pub(crate) fn new(limits: OriginLimits, wait: Duration) -> Self {
        let [count, queue] = [limits.requests, limits.queue].map(|count| count.min(Semaphore::MAX_PERMITS));
        Self {
            places: Arc::new(Semaphore::new(count)),
            count,
            queue: Semaphore::new(queue),
            longest: queue,
            wait,
            tunnels: Arc::default(),
        }
    }

    /// The number of requests and tunnels that the origin has. A tunnel takes no slot, since it may be open for days.
    pub(crate) fn under_way(&self) -> usize {
        self.count - self.places.available_permits() + self.tunnels.load(Relaxed)
    }

    /// Counts a tunnel.
    pub(crate) fn begin_tunnel(&self) -> TunnelPlace {
        self.tunnels.fetch_add(1, Relaxed);
        TunnelPlace(self.tunnels.clone())
    }

    /// The number of requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.longest - self.queue.available_permits()
    }

    /// Waits for a free slot, in order of arrival, until the deadline.
    pub(crate) async fn enter(&self) -> Result<GatePermit, OriginError> {
        // This fails while others wait: a freed slot goes to the first of them.
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
    async fn a_request_waits_for_a_free_slot_until_its_deadline() {
        let gate =
            Arc::new(Gate::new(OriginLimits { head: 1, requests: 1, queue: 1 }, Duration::from_secs(5)));
        let first = gate.enter().await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await }
        });
        tokio::task::yield_now().await;
        assert!(matches!(gate.enter().await, Err(OriginError::Busy)), "the queue is full");
        assert_eq!((gate.under_way(), gate.waiting()), (1, 1));
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        let started = tokio::time::Instant::now();
        assert!(matches!(gate.enter().await, Err(OriginError::Busy)), "nobody leaves");
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        drop(second);
        assert!(gate.enter().await.is_ok());
        let tunnel = gate.begin_tunnel();
        assert_eq!(gate.under_way(), 1);
        assert!(gate.enter().await.is_ok(), "a tunnel takes no slot");
        drop(tunnel);
        assert_eq!(gate.under_way(), 0);
    }
}
