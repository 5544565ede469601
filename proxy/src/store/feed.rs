//! The listeners that a store reports its changes to.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::LogCopy;

/// A node of a store, which reports the changes of its keys. A store that has no nodes counts as one node, the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeNumber(pub(crate) u16);

impl NodeNumber {
    /// A cluster has at most 1,000 nodes. Larger numbers are ignored.
    pub(crate) const COUNT: u16 = 1024;
}

/// Receives the changes of a store.
pub trait Listener: Send + Sync {
    /// A key has changed.
    fn changed(&self, key: &[u8]);

    /// Any key of a node may have changed.
    fn all_changed(&self, node: NodeNumber);

    /// Changes of a node no longer arrive, and some may have been missed; or some of its keys have moved to another node.
    fn lost(&self, node: NodeNumber) {
        self.all_changed(node);
    }

    /// All changes of a node so far have arrived, and further ones are certain to arrive until this time.
    fn certain(&self, _node: NodeNumber, _until: Instant) {}

    /// Whether this listener was used since the last call. If not, the store may call `certain` less often.
    fn was_asked(&self) -> bool {
        false
    }
}

/// The time until which the changes of each node are certain to arrive, and whether it is asked for.
#[derive(Debug)]
pub(crate) struct Certainty {
    /// In milliseconds since `started`; 0 while changes are not certain to arrive.
    until: Box<[AtomicU64]>,
    started: Instant,
    was_asked: AtomicBool,
}

impl Certainty {
    /// For nodes with numbers below this one.
    pub(crate) fn of(nodes: u16) -> Self {
        Self {
            until: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            started: Instant::now(),
            was_asked: AtomicBool::new(true),
        }
    }

    pub(crate) fn is_certain(&self, node: NodeNumber, now: Instant) -> bool {
        self.until(node).is_some_and(|until| self.millis(now) < until.load(Ordering::SeqCst))
    }

    /// As [`is_certain`](Self::is_certain), on behalf of a client: while clients ask, the beats are quick.
    pub(crate) fn ask(&self, node: NodeNumber, now: Instant) -> bool {
        // Loaded first: all workers share this cache line, and a write to it on each hit would cost more than everything else.
        if !self.was_asked.load(Ordering::Relaxed) {
            self.was_asked.store(true, Ordering::Relaxed);
        }
        self.is_certain(node, now)
    }

    pub(crate) fn lose(&self, node: NodeNumber) {
        self.set(node, 0);
    }

    pub(crate) fn extend(&self, node: NodeNumber, until: Instant) {
        self.set(node, self.millis(until));
    }

    fn set(&self, node: NodeNumber, until: u64) {
        if let Some(known) = self.until(node) {
            known.store(until, Ordering::SeqCst);
        }
    }

    fn until(&self, node: NodeNumber) -> Option<&AtomicU64> {
        self.until.get(usize::from(node.0))
    }

    /// Whether a client has asked since the last call.
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
    /// The copy of the purge log, which also needs to be read.
    log: OnceLock<Arc<LogCopy>>,
    /// When one of them was last known to be used.
    asked: Mutex<Option<Instant>>,
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

    /// The copy of the purge log, if the proxy follows the log.
    pub(super) fn log(&self) -> Option<&Arc<LogCopy>> {
        self.log.get()
    }

    /// When one of them was last used, as far as is known now.
    pub(super) fn last_asked(&self, now: Instant) -> Option<Instant> {
        // Every listener is called, since the call resets its state.
        let was_asked = self.iter().fold(false, |was_asked, listener| listener.was_asked() | was_asked);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if was_asked {
            *asked = Some(now);
        }
        *asked
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

    fn all_changed(&self, node: NodeNumber) {
        self.iter().for_each(|listener| listener.all_changed(node));
    }

    fn lost(&self, node: NodeNumber) {
        self.iter().for_each(|listener| listener.lost(node));
    }

    /// Tells the listeners to changes. The reader of the purge log knows it by itself.
    fn certain(&self, node: NodeNumber, until: Instant) {
        let of_changes = self.of_changes.get().into_iter().flatten();
        of_changes.for_each(|listener| listener.certain(node, until));
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
