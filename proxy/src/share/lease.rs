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

use crate::key::Key;
use crate::share::flights::APART_FOR;
use crate::store::{Store, Write};

/// How long the others wait for a holder that has died.
const HELD_FOR: Duration = Duration::from_secs(3);

/// Twice within that time, in case that one does not get through.
const RENEWED_EVERY: Duration = Duration::from_secs(1);

/// In place of a token: the page was not for others.
const APART: &[u8] = b"apart";

/// The right to fetch a page for the whole fleet. It ends with this.
pub(crate) struct Lease<S: Store> {
    store: S,
    key: Key,
    token: Bytes,
    renewal: AbortHandle,
}

/// Ends when a lease has changed, as far as the store tells of that.
pub(crate) type Changed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What came of asking for a lease.
pub(crate) enum Claim<S: Store> {
    Ours(Lease<S>),
    /// Another proxy is at it, until its lease changes.
    Theirs(Changed),
}

impl<S: Store> Lease<S> {
    /// Asks for the lease of a page. None if each has to ask for itself.
    pub(crate) async fn claim(store: &S, page: &Key) -> Option<Claim<S>> {
        let key = Key::new([page.as_bytes(), b".lease"].concat());
        let token = Bytes::from(format!("{:032x}", rand::random::<u128>()));
        // First, so that no change is missed between the answer and the wait.
        let changed = store.changed(&key);
        match store.claim(&key, &token, HELD_FOR).await {
            Ok(true) => Some(Claim::Ours(Self::new(store.clone(), key, token))),
            Ok(false) => {
                let [value] = store.get([&key]).await.ok()?;
                (value.as_deref() != Some(APART)).then(|| Claim::Theirs(Box::pin(changed)))
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
                let _ = renewing.hold(&renewed, &held, Some(HELD_FOR)).await;
            }
        });
        Self { store, key, token, renewal: renewal.abort_handle() }
    }

    /// Tells the fleet that the page was not for others.
    pub(crate) fn keep_apart(&self) {
        let (store, key) = (self.store.clone(), self.key.clone());
        tokio::spawn(async move {
            // Otherwise the others ask for it one after the other.
            let _ = store.put(vec![Write::Set(key, Bytes::from_static(APART))], APART_FOR).await;
        });
    }
}

impl<S: Store> Drop for Lease<S> {
    fn drop(&mut self) {
        self.renewal.abort();
        let (store, key, token) = (self.store.clone(), self.key.clone(), self.token.clone());
        // Otherwise it ends by itself.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { drop(store.hold(&key, &token, None).await) });
        }
    }
}
