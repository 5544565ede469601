//! The state of Redis: whether it answers, whether it is still the right one, and which commands it refuses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::store::breaker::Breaker;
use crate::store::{RefusedCommand, StoreError};

/// More kinds of refusals than Redis has are not remembered.
const KINDS: usize = 64;

/// The pause between two replacements of the connections; it doubles while they do not help.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The state of Redis, for all workers.
#[derive(Debug)]
pub(super) struct Health {
    /// Wakes the requests that wait for a connection that cannot be made.
    pub(super) connect_failed: Notify,
    pub(super) breaker: Breaker,
    is_up: AtomicBool,
    /// Connections of an older generation are replaced.
    generation: AtomicU32,
    replacement: Mutex<Replacement>,
    /// Whether the last write was refused.
    refuses_writes: AtomicBool,
    /// What Redis said, for each command and first word of the reply.
    refusals: Mutex<BTreeMap<Kind, String>>,
}

/// When the connections may be replaced again.
#[derive(Debug)]
struct Replacement {
    due: Option<Instant>,
    pause: Duration,
}

/// A command, and the first word of the error that it got.
type Kind = (&'static str, Box<str>);

impl Health {
    pub(super) fn new() -> Self {
        Self {
            connect_failed: Notify::new(),
            breaker: Breaker::default(),
            is_up: AtomicBool::new(true),
            generation: AtomicU32::new(0),
            replacement: Mutex::new(Replacement { due: None, pause: FIRST_PAUSE }),
            refuses_writes: AtomicBool::new(false),
            refusals: Mutex::default(),
        }
    }

    /// Notes that Redis answers, whatever it says.
    pub(super) fn answers(&self) {
        self.breaker.succeeded();
        // Loaded first: a write for each request would move the cache line between the workers' cores.
        if !self.is_up.load(Ordering::Relaxed) && !self.is_up.swap(true, Ordering::Relaxed) {
            info!("store up again");
        }
    }

    /// Notes that Redis was silent, or that a connection broke.
    pub(super) fn failed(&self, error: &StoreError) {
        self.breaker.failed(Instant::now(), rand::random());
        self.is_down(error);
    }

    /// Notes that no connection can be made.
    pub(super) fn cannot_connect(&self, error: &StoreError) {
        self.is_down(error);
        self.connect_failed.notify_waiters();
    }

    fn is_down(&self, error: &StoreError) {
        if self.is_up.swap(false, Ordering::Relaxed) {
            warn!(%error, "store down: every request goes to the origin");
        }
    }

    /// Notes an error reply. It is logged once for each command and first word. A reply that comes from the wrong Redis has the
    /// connections replaced.
    pub(super) fn refused(&self, command: &'static str, text: &str) {
        let now = Instant::now();
        let word = text.split(' ').next().unwrap_or_default();
        if means_another_redis(word) {
            self.replace_connections(now);
        }
        let mut refusals = lock(&self.refusals);
        let kind = (command, Box::from(word));
        if refusals.len() < KINDS && !refusals.contains_key(&kind) {
            warn!(command, reply = text, "Redis refuses a command");
            refusals.insert(kind, text.to_owned());
        }
    }

    /// Notes whether Redis has taken a write.
    pub(super) fn wrote(&self, is_refused: bool) {
        if self.refuses_writes.load(Ordering::Relaxed) != is_refused {
            self.refuses_writes.store(is_refused, Ordering::Relaxed);
        }
    }

    /// Whether Redis took the last write.
    pub(super) fn takes_writes(&self) -> bool {
        !self.refuses_writes.load(Ordering::Relaxed)
    }

    /// The commands that Redis has refused so far.
    pub(super) fn refusals(&self) -> Vec<RefusedCommand> {
        lock(&self.refusals)
            .iter()
            .map(|((command, _), reply)| RefusedCommand { command, reply: reply.clone() })
            .collect()
    }

    /// The generation of connections that are opened now.
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

/// Whether an error reply says that this Redis is not, or no longer, the one to talk to: it is a replica, or does not know
/// us.
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

    #[tokio::test(start_paused = true)]
    async fn connections_are_replaced_at_most_once_in_each_pause_and_pauses_grow_while_that_does_not_help() {
        let health = Health::new();
        let start = Instant::now();
        for _ in 0..120_000 {
            health.refused("SETEX", "READONLY You can't write against a read only replica.");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // At 0, 1, 3, 7, 15, 31 and 63 s or so.
        assert_eq!((start.elapsed().as_secs(), health.generation()), (120, 7));
        tokio::time::advance(LONGEST_PAUSE * 3).await;
        for _ in 0..1_500 {
            health.refused("SETEX", "READONLY again");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(health.generation(), 9);
    }

    #[test]
    fn other_errors_replace_no_connection() {
        let health = Health::new();
        for text in
            ["OOM x", "MISCONF x", "NOPERM x", "LOADING x", "BUSY x", "WRONGTYPE x", "ERR x", "NOVEL x", ""]
        {
            health.refused("GET", text);
        }
        assert_eq!(health.generation(), 0);
        assert_eq!(health.refusals().len(), 9);
    }

    #[test]
    fn the_memory_of_refusals_is_bounded() {
        let health = Health::new();
        for number in 0..10_000 {
            health.refused("GET", &format!("E{number} x"));
        }
        assert_eq!(health.refusals().len(), KINDS);
    }
}
