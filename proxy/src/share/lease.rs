//! Leases: of all proxies of a fleet that miss a page at once, one asks the origin (`coalesce = "fleet"`).
//!
//! A lease is a key beside the page's, with a token of its holder, for a few seconds that the holder renews. A holder that
//! dies renews no more, and another takes over. A holder that is done lets go, of which the others hear at once, if the
//! store tells of its changes. Without the store there is no lease, and each proxy asks for itself.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::flights::HIT_FOR_MISS;
use super::waiters::Waiters;
use crate::key::Key;
use crate::store::{Store, Write};

/// How long the others wait for a holder that has died.
const HELD_FOR: Duration = Duration::from_secs(3);

/// Twice within that time, in case that one does not get through.
const RENEWED_EVERY: Duration = Duration::from_secs(1);

/// In place of a token: the page could not be shared.
const UNSHARED: &[u8] = b"apart";

/// The right to fetch a page for the whole fleet. Dropping it lets go of the right.
pub(crate) struct Lease<S: Store> {
    store: S,
    key: Key,
    token: Bytes,
    renewal: AbortHandle,
}

/// Ends when a lease has changed, as far as the store tells of that.
pub(crate) type Changed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What came of claiming a lease.
pub(crate) enum Claim<S: Store> {
    Ours(Lease<S>),
    /// Another proxy is fetching the page, until its lease changes.
    Theirs(Changed),
}

impl<S: Store> Lease<S> {
    /// Claims the lease of a page. `None` if each proxy has to ask for itself.
    pub(crate) async fn claim(store: &S, waiters: &Waiters, page: &Key) -> Option<Claim<S>> {
        let key = Key::new([page.as_bytes(), b".lease"].concat());
        let token = Bytes::from(format!("{:032x}", rand::random::<u128>()));
        // First, so that no change is missed between the answer and the wait.
        let changed = waiters.changed(&key);
        match store.claim(&key, &token, HELD_FOR).await {
            Ok(true) => Some(Claim::Ours(Self::new(store.clone(), key, token))),
            Ok(false) => {
                let [value] = store.get([key.as_bytes()]).await.ok()?;
                (value.as_deref() != Some(UNSHARED)).then(|| Claim::Theirs(Box::pin(changed)))
            }
            Err(_) => None,
        }
    }

    fn new(store: S, key: Key, token: Bytes) -> Self {
        let (renewing, renewed, held) = (store.clone(), key.clone(), token.clone());
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEWED_EVERY).await;
                // One that fails is followed by another in time.
                let _ = renewing.renew(&renewed, &held, HELD_FOR).await;
            }
        });
        Self { store, key, token, renewal: renewal.abort_handle() }
    }

    /// Tells the fleet that the page cannot be shared.
    pub(crate) fn mark_hit_for_miss(&self) {
        let (store, key) = (self.store.clone(), self.key.clone());
        tokio::spawn(async move {
            // If it fails, the other proxies ask for the page one after the other.
            let _ = store.put(vec![Write::Set(key, Bytes::from_static(UNSHARED))], HIT_FOR_MISS).await;
        });
    }
}

impl<S: Store> Drop for Lease<S> {
    fn drop(&mut self) {
        self.renewal.abort();
        let (store, key, token) = (self.store.clone(), self.key.clone(), self.token.clone());
        // Without a runtime it ends by itself.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { drop(store.release(&key, &token).await) });
        }
    }
}
