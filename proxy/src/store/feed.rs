//! The listeners that a store reports its changes to.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::LogCopy;

/// Receives the changes of a store.
pub trait Listener: Send + Sync {
    /// A key has changed.
    fn changed(&self, key: &[u8]);

    /// Any key may have changed.
    fn all_changed(&self);

    /// Changes no longer arrive, and some may have been missed.
    fn lost(&self) {
        self.all_changed();
    }

    /// All changes so far have arrived, and further ones are certain to arrive until then.
    fn certain(&self, _until: Instant) {}

    /// Whether this listener was used since the last call; if not, the store may call `certain` less often.
    fn was_asked(&self) -> bool {
        false
    }
}

/// Until when changes are certain to arrive, and whether anybody asks for it.
#[derive(Debug)]
pub(crate) struct Certainty {
    /// In milliseconds since `started`. 0 while they are not certain.
    until: AtomicU64,
    started: Instant,
    was_asked: AtomicBool,
}

impl Default for Certainty {
    fn default() -> Self {
        Self { until: AtomicU64::new(0), started: Instant::now(), was_asked: AtomicBool::new(true) }
    }
}

impl Certainty {
    pub(crate) fn is_certain(&self, now: Instant) -> bool {
        self.millis(now) < self.until.load(Ordering::SeqCst)
    }

    /// The same, for an answer to a client: the beats are quick while there are such.
    pub(crate) fn ask(&self, now: Instant) -> bool {
        // Loaded first: a write on each hit to a cache line that all workers share would cost more than the rest.
        if !self.was_asked.load(Ordering::Relaxed) {
            self.was_asked.store(true, Ordering::Relaxed);
        }
        self.is_certain(now)
    }

    pub(crate) fn lose(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    pub(crate) fn extend(&self, until: Instant) {
        self.until.store(self.millis(until), Ordering::SeqCst);
    }

    /// Whether there was an answer since the last call.
    pub(crate) fn was_asked(&self) -> bool {
        self.was_asked.swap(false, Ordering::Relaxed)
    }

    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).min(Duration::MAX).as_millis() as u64
    }
}

/// All listeners of a store. There are none until the store is followed.
#[derive(Default)]
pub(super) struct Listeners {
    of_changes: OnceLock<Vec<Arc<dyn Listener>>>,
    /// The copy of the purge log, which also wants to be read.
    log: OnceLock<Arc<LogCopy>>,
}

impl Listeners {
    /// Sets the listeners to changes. Has no effect if there are some already.
    pub(super) fn set(&self, listeners: Vec<Arc<dyn Listener>>) {
        // A store belongs to one proxy.
        let _ = self.of_changes.set(listeners);
    }

    /// The copy of the purge log; `make` makes it on the first call.
    pub(super) fn set_log(&self, make: impl FnOnce() -> LogCopy) -> Arc<LogCopy> {
        self.log.get_or_init(|| Arc::new(make())).clone()
    }

    /// The copy of the purge log, if there is to be one.
    pub(super) fn log(&self) -> Option<&Arc<LogCopy>> {
        self.log.get()
    }

    fn iter(&self) -> impl Iterator<Item = &dyn Listener> {
        let of_changes = self.of_changes.get().into_iter().flatten().map(|listener| &**listener);
        of_changes.chain(self.log.get().map(|log| &**log as &dyn Listener))
    }
}

impl Listener for Listeners {
    fn changed(&self, key: &[u8]) {
        self.iter().for_each(|listener| listener.changed(key));
    }

    fn all_changed(&self) {
        self.iter().for_each(|listener| listener.all_changed());
    }

    fn lost(&self) {
        self.iter().for_each(|listener| listener.lost());
    }

    fn certain(&self, until: Instant) {
        self.iter().for_each(|listener| listener.certain(until));
    }

    fn was_asked(&self) -> bool {
        // Every listener is called, since the call resets it.
        self.iter().fold(false, |was_asked, listener| listener.was_asked() | was_asked)
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
