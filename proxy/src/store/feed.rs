//! The listeners that a store reports its changes to.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

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

/// All listeners of a store. There are none until the store is followed.
#[derive(Default)]
pub(super) struct Listeners(OnceLock<Vec<Arc<dyn Listener>>>);

impl Listeners {
    /// Sets the listeners. Returns false, and changes nothing, if there are some already.
    pub(super) fn set(&self, listeners: Vec<Arc<dyn Listener>>) -> bool {
        self.0.set(listeners).is_ok()
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<dyn Listener>> {
        self.0.get().into_iter().flatten()
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
