//! A circuit breaker: while the store fails, requests don't wait for it.
//!
//! After several failures in a row the breaker opens: requests skip the store, except one after each pause, the trial.
//! A trial that succeeds closes the breaker; one that fails makes the next pause longer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One failure may just be a connection that Redis closed. In an outage, the requests under way fail together anyway.
const FAILURES: u32 = 3;

/// The pause before the first trial. A Redis that restarts is back after a few hundred milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A failed trial costs one request the store's deadline, at most once in two seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whether the store may be asked.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures in a row. As long as there are few, this is all that `allows` reads.
    failures: AtomicU32,
    open: Mutex<Option<OpenState>>,
}

#[derive(Clone, Copy, Debug)]
struct OpenState {
    /// When the next trial is due.
    until: Instant,
    pause: Duration,
    /// Whether a trial is under way.
    on_trial: bool,
}

impl Breaker {
    /// Whether the store may be asked now. If the breaker is open and a trial is due, the calling request becomes the trial.
    pub(super) fn allows(&self, now: Instant) -> bool {
        if !self.is_open() {
            return true;
        }
        match &mut *self.open() {
            None => true,
            Some(open) if now < open.until => false,
            Some(open) => {
                // A trial that never reports its outcome is followed by another.
                *open = OpenState { until: now + open.pause, on_trial: true, ..*open };
                true
            }
        }
    }

    /// Whether the last operations have all failed.
    pub(super) fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// Counts a success.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            *self.open() = None;
        }
    }

    /// Counts a failure. `spread`, between 0 and 1, spreads the trials of a fleet.
    pub(super) fn failed(&self, now: Instant, spread: f64) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES {
            return;
        }
        let mut open = self.open();
        let pause = match *open {
            None => FIRST_PAUSE,
            // This request was under way when the breaker opened.
            Some(OpenState { on_trial: false, .. }) => return,
            Some(OpenState { pause, .. }) => (pause * 2).min(LONGEST_PAUSE),
        };
        *open = Some(OpenState { until: now + pause.mul_f64(0.75 + spread / 2.0), pause, on_trial: false });
    }

    fn open(&self) -> MutexGuard<'_, Option<OpenState>> {
        // A panic elsewhere cannot leave the state half-changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A breaker that has just opened. A spread of 0.5 leaves its pauses at their nominal length.
    const SPREAD: f64 = 0.5;

    fn broken(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        (0..FAILURES).for_each(|_| breaker.failed(now, SPREAD));
        breaker
    }

    #[test]
    fn the_breaker_opens_after_failures_in_a_row() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            (1..FAILURES).for_each(|_| breaker.failed(now, SPREAD));
            assert!(breaker.allows(now));
            breaker.succeeded();
        }
        assert!(!broken(now).allows(now));
    }

    #[test]
    fn after_each_pause_one_request_is_the_trial() {
        let now = Instant::now();
        let breaker = broken(now);
        assert!(!breaker.allows(now + FIRST_PAUSE - Duration::from_millis(1)));
        assert!(breaker.allows(now + FIRST_PAUSE));
        assert!(!breaker.allows(now + FIRST_PAUSE));
        // That trial never reports its outcome, so another one follows.
        assert!(breaker.allows(now + FIRST_PAUSE * 2));
    }

    #[test]
    fn a_trial_that_fails_makes_the_pause_longer_and_one_that_succeeds_closes_it() {
        let mut now = Instant::now();
        let breaker = broken(now);
        let mut pause = FIRST_PAUSE;
        for _ in 0..8 {
            // Late failures of other requests change nothing.
            breaker.failed(now, SPREAD);
            now += pause;
            assert!(breaker.allows(now) && !breaker.allows(now));
            breaker.failed(now, SPREAD);
            pause = (pause * 2).min(LONGEST_PAUSE);
            assert!(!breaker.allows(now + pause - Duration::from_millis(1)), "{pause:?}");
        }
        now += LONGEST_PAUSE;
        assert!(breaker.allows(now));
        breaker.succeeded();
        assert!(breaker.allows(now) && breaker.allows(now));
    }

    #[test]
    fn trials_of_a_fleet_are_spread() {
        let now = Instant::now();
        for (spread, due) in [(0.0, FIRST_PAUSE.mul_f64(0.75)), (1.0, FIRST_PAUSE.mul_f64(1.25))] {
            let breaker = Breaker::default();
            (0..FAILURES).for_each(|_| breaker.failed(now, spread));
            assert!(!breaker.allows(now + due - Duration::from_millis(1)) && breaker.allows(now + due));
        }
    }
}
