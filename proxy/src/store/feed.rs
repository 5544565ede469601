//! Who hears of what changes in the store: the near cache, and those who wait for a change of one key.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::near::Near;

/// Who waits for a key is told of all changes in its group: a look too many now and then, and nothing to clean up.
const GROUPS: usize = 256;

/// Those who hear of changes.
pub(super) struct Changes {
    groups: Box<[Arc<Notify>]>,
    hasher: RandomState,
    near: OnceLock<Arc<Near>>,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self {
            groups: (0..GROUPS).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
            near: OnceLock::new(),
        }
    }

    /// The near cache that hears of changes from here on. A store has one proxy, so one near cache.
    pub(super) fn tell(&self, near: Near) -> Arc<Near> {
        self.near.get_or_init(|| Arc::new(near)).clone()
    }

    /// Ends at the next change of a key after this call, perhaps at one of another key.
    pub(super) fn next(&self, key: &[u8]) -> impl Future<Output = ()> + Send + use<> {
        self.group(key).clone().notified_owned()
    }

    /// A key has changed.
    pub(super) fn changed(&self, key: &[u8]) {
        if let Some(near) = self.near.get() {
            near.forget(key);
        }
        self.group(key).notify_waiters();
    }

    /// Any key may have changed.
    pub(super) fn all_changed(&self) {
        if let Some(near) = self.near.get() {
            near.forget_all();
        }
        self.groups.iter().for_each(|group| group.notify_waiters());
    }

    /// Changes are not heard of any more, and some may not have been.
    pub(super) fn lost(&self) {
        if let Some(near) = self.near.get() {
            near.lose();
        }
        self.all_changed();
    }

    /// All changes up to now have been heard of, and those to come will be until then.
    pub(super) fn certain(&self, until: Instant) {
        if let Some(near) = self.near.get() {
            near.renew(until);
        }
    }

    /// Whether anybody asked the near cache since the last call.
    pub(super) fn near_was_asked(&self) -> bool {
        self.near.get().is_some_and(|near| near.was_asked())
    }

    fn group(&self, key: &[u8]) -> &Arc<Notify> {
        &self.groups[self.hasher.hash_one(key) as usize % GROUPS]
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("near", &self.near.get()).finish_non_exhaustive()
    }
}
