//! The state of one Redis: whether it answers, whether it takes writes, and whether it is still the right one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use server::Seldom;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::store::StoreError;
use crate::store::breaker::Breaker;

/// The pause between two replacements of the connections. It doubles while they do not help.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The state of one Redis, for all workers.
#[derive(Debug)]
pub(super) struct Health {
    /// Wakes the requests that wait for a connection when it cannot be made.
    pub(super) connect_failed: Notify,
    pub(super) breaker: Breaker,
    is_up: AtomicBool,
    /// Whether the log has said that it is down.
    is_logged_down: AtomicBool,
    takes_writes: AtomicBool,
    faults: Seldom,
    /// The name of the Redis, for the log.
    node: String,
    /// The current generation. Connections of an older one are replaced.
    generation: AtomicU32,
    replacement: Mutex<Replacement>,
}

/// When the connections may be replaced again.
#[derive(Debug)]
struct Replacement {
    due: Option<Instant>,
    pause: Duration,
}

impl Health {
    pub(super) fn new(node: String) -> Self {
        Self {
            node,
            connect_failed: Notify::new(),
            breaker: Breaker::default(),
            is_up: AtomicBool::new(true),
            is_logged_down: AtomicBool::new(false),
            takes_writes: AtomicBool::new(true),
            faults: Seldom::new(),
            generation: AtomicU32::new(0),
            replacement: Mutex::new(Replacement { due: None, pause: FIRST_PAUSE }),
        }
    }

    /// Notes that Redis answers, even if the answer is an error.
    pub(super) fn answers(&self) {
        self.breaker.succeeded();
        // Loaded first: a write for each request would move the cache line between the workers' cores.
        if !self.is_up.load(Ordering::Relaxed)
            && !self.is_up.swap(true, Ordering::Relaxed)
            && self.is_logged_down.swap(false, Ordering::Relaxed)
        {
            info!(node = self.node, "store up again");
        }
    }

    /// Notes that Redis was silent, or that a connection broke. The cause may be a single value.
    pub(super) fn failed(&self, error: &StoreError) {
        self.breaker.failed(Instant::now(), rand::random());
        if self.breaker.is_open() {
            self.is_down(error);
        } else if let Some(left_out) = self.faults.turn("failed") {
            warn!(%error, node = self.node, left_out, "the store did not answer in time: pages that it does not return count as misses, and pages that it does not take are not stored");
        }
    }

    /// Notes that no connection can be made.
    pub(super) fn cannot_connect(&self, error: &StoreError) {
        self.is_down(error);
        self.connect_failed.notify_waiters();
    }

    fn is_down(&self, error: &StoreError) {
        if self.is_up.swap(false, Ordering::Relaxed)
            && let Some(left_out) = self.faults.turn("down")
        {
            self.is_logged_down.store(true, Ordering::Relaxed);
            warn!(%error, node = self.node, left_out, "store down: requests for its pages go to the origin");
        }
    }

    /// Notes an error reply. If it comes from the wrong Redis, the connections are replaced.
    pub(super) fn refused(&self, text: &str) {
        if means_another_redis(text.split(' ').next().unwrap_or_default()) {
            self.replace_connections(Instant::now());
        }
    }

    /// Notes whether a value was written. If a value is too long for Redis, the connection breaks, and there is no refusal.
    pub(super) fn wrote(&self, was_written: bool) {
        if self.takes_writes.load(Ordering::Relaxed) != was_written {
            self.takes_writes.store(was_written, Ordering::Relaxed);
        }
    }

    /// Whether the last value was written.
    pub(super) fn takes_writes(&self) -> bool {
        self.takes_writes.load(Ordering::Relaxed)
    }

    /// Replaces all connections, since the Redis is another one now. The new one has not failed, so it is asked at once.
    pub(super) fn moved(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.breaker.succeeded();
    }

    /// The generation of connections that are opened from now on.
    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    fn replace_connections(&self, now: Instant) {
        let mut replacement = lock(&self.replacement);
        if replacement.due.is_some_and(|due| now < due) {
            return;
        }
        let has_helped = replacement.due.is_none_or(|due| now > due + replacement.pause);
        replacement.pause = match has_helped {
            true => FIRST_PAUSE,
            false => (replacement.pause * 2).min(LONGEST_PAUSE),
        };
        replacement.due = Some(now + replacement.pause);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an error reply means that this Redis is not, or no longer, the right one: it is a replica, or does not know us.
fn means_another_redis(word: &str) -> bool {
    matches!(word, "READONLY" | "MASTERDOWN" | "NOAUTH")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave the state half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_move_the_new_redis_is_asked_at_once() {
        let health = Health::new("a".to_owned());
        (0..10).for_each(|_| health.failed(&StoreError::Unreachable("gone".to_owned())));
        assert!(!health.breaker.allows(Instant::now()));
        health.moved();
        assert!(health.breaker.allows(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_replaced_at_most_once_in_each_pause_and_pauses_grow_while_that_does_not_help() {
        let health = Health::new("a".to_owned());
        let start = Instant::now();
        for _ in 0..120_000 {
            health.refused("READONLY You can't write against a read only replica.");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // Replacements come at 0, 1, 3, 7, 15, 31 and 63 s or so.
        assert_eq!((start.elapsed().as_secs(), health.generation()), (120, 7));
        tokio::time::advance(LONGEST_PAUSE * 3).await;
        for _ in 0..1_500 {
            health.refused("READONLY again");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(health.generation(), 9);
    }

    #[test]
    fn other_errors_replace_no_connection() {
        let health = Health::new("a".to_owned());
        for text in
            ["OOM x", "MISCONF x", "NOPERM x", "LOADING x", "BUSY x", "WRONGTYPE x", "ERR x", "NOVEL x", ""]
        {
            health.refused(text);
        }
        assert_eq!(health.generation(), 0);
    }
}
