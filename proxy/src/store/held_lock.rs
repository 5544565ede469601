//! A lock of the fleet that is held: it is renewed for as long as its holder lives.

use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::{Store, StoreError};
use crate::key::Key;

/// A lock in the store. If its holder dies, it expires. Dropping it releases it in a task.
pub(crate) struct HeldLock<S: Store> {
    store: S,
    key: Key,
    token: Bytes,
    renewal: AbortHandle,
    is_released: bool,
}

impl<S: Store> HeldLock<S> {
    /// Takes a lock that has this lifetime unless it is renewed; `None` if another proxy has it.
    pub(crate) async fn take(store: &S, key: Key, lifetime: Duration) -> Result<Option<Self>, StoreError> {
        let token = Bytes::from(format!("{:032x}", rand::random::<u128>()));
        if !store.claim(&key, &token, lifetime).await? {
            return Ok(None);
        }
        let renewal = tokio::spawn(renew(store.clone(), key.clone(), token.clone(), lifetime)).abort_handle();
        Ok(Some(Self { store: store.clone(), key, token, renewal, is_released: false }))
    }

    /// The store that has it.
    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    /// The key that it is stored under.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Releases it, and waits until the store has done so. A lock that cannot be released expires.
    pub(crate) async fn release(mut self) {
        self.renewal.abort();
        let _ = self.store.release(&self.key, &self.token).await;
        self.is_released = true;
    }
}

impl<S: Store> Drop for HeldLock<S> {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.is_released {
            return;
        }
        let (store, key, token) = (self.store.clone(), self.key.clone(), self.token.clone());
        // Without a runtime, the lock expires.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { drop(store.release(&key, &token).await) });
        }
    }
}

/// Renews a lock three times in its lifetime, so one renewal may fail.
async fn renew<S: Store>(store: S, key: Key, token: Bytes, lifetime: Duration) {
    loop {
        sleep(lifetime / 3).await;
        let _ = store.renew(&key, &token, lifetime).await;
    }
}
