//! Wakes requests that wait for a key in the store to change.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::key::Key;
use crate::store::{Listener, NodeNumber};

/// Waiters are woken by a change of any key in their group. This costs a needless read now and then, but there is nothing to
/// clean up.
const GROUPS: usize = 256;

/// Requests that wait for a change. Without a feed they are never woken.
#[derive(Debug)]
pub(crate) struct Waiters {
    groups: Box<[Arc<Notify>]>,
    hasher: RandomState,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self { groups: (0..GROUPS).map(|_| Arc::default()).collect(), hasher: RandomState::new() }
    }

    /// Completes at the next change of the key after this call, or at one of another key in its group.
    pub(crate) fn changed(&self, key: &Key) -> impl Future<Output = ()> + Send + use<> {
        self.group(key.as_bytes()).clone().notified_owned()
    }

    fn group(&self, key: &[u8]) -> &Arc<Notify> {
        &self.groups[self.hasher.hash_one(key) as usize % GROUPS]
    }
}

impl Listener for Waiters {
    fn changed(&self, key: &[u8]) {
        self.group(key).notify_waiters();
    }

    fn all_changed(&self, _: NodeNumber) {
        self.groups.iter().for_each(|group| group.notify_waiters());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn waiters_are_woken_by_a_change_of_their_key_or_of_all_keys() {
        let waiters = Waiters::new();
        let mut cx = Context::from_waker(Waker::noop());
        let keys = ["a1", "a2", "a3", "a4", "a5"].map(Key::new);
        let mut waiting = keys.map(|key| Box::pin(waiters.changed(&key)));
        let mut own = pin!(waiters.changed(&Key::new("a6")));
        Listener::changed(&waiters, b"a6");
        assert!(own.as_mut().poll(&mut cx).is_ready());
        let woken = waiting.iter_mut().filter_map(|waiting| match waiting.as_mut().poll(&mut cx) {
            Poll::Ready(()) => Some(()),
            Poll::Pending => None,
        });
        // A waiter may share the group of the key that changed.
        assert!(woken.count() < 5, "all are woken by the change of another key");
        let mut all = pin!(waiters.changed(&Key::new("a7")));
        waiters.all_changed(NodeNumber::default());
        assert!(all.as_mut().poll(&mut cx).is_ready());
    }
}
