//! The listeners to the changes of a store.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

/// Hears of changes in a store.
pub trait Listener: Send + Sync {
    /// A key has changed.
    fn changed(&self, key: &[u8]);

    /// Any key may have changed.
    fn all_changed(&self);

    /// Changes are not heard of any more, and some may not have been.
    fn lost(&self) {
        self.all_changed();
    }

    /// All changes up to now have been heard of, and those to come will be until then.
    fn certain(&self, _until: Instant) {}

    /// Whether this listener was of use since the last call, so that certainty is worth its cost.
    fn was_asked(&self) -> bool {
        false
    }
}

/// All listeners to a store. None until the store is followed.
#[derive(Default)]
pub(super) struct Listeners(OnceLock<Vec<Arc<dyn Listener>>>);

impl Listeners {
    /// Has these hear of changes from here on; whether they are the first.
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
        // Each is asked: that starts its next time.
        self.iter().fold(false, |was_asked, listener| listener.was_asked() | was_asked)
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
