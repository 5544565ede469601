//! Leases: when several proxies of a fleet miss a page at once, one of them fetches it (`coalesce = "fleet"`).
//!
//! A lease is a key in the store beside the page's key. It has the holder's token, and a lifetime of a few seconds, which the
//! holder renews. If the holder dies, the lease expires and another proxy claims it. A holder that is done releases the lease;
//! the other proxies learn of it at once if the store reports changes. If the store fails, there is no lease, and each proxy
//! fetches by itself.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use super::flights::HIT_FOR_MISS;
use super::waiters::Waiters;
use crate::key::Key;
use crate::store::{HeldLock, Store, Write};

/// The lifetime of a lease. The others wait this long for a holder that has died.
const HELD_FOR: Duration = Duration::from_secs(3);

/// The value in place of a token when the page could not be shared.
const UNSHARED: &[u8] = b"apart";

/// The right to fetch a page for the whole fleet. Dropping it releases the lease.
pub(crate) struct Lease<S: Store>(HeldLock<S>);

/// Completes when the lease has changed; never, if the store does not report changes.
pub(crate) type Changed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The outcome of claiming a lease.
pub(crate) enum Claim<S: Store> {
    Ours(Lease<S>),
    /// Another proxy is fetching the page; the future completes when its lease changes.
    Theirs(Changed),
}

impl<S: Store> Lease<S> {
    /// Claims the lease of a page. `None` if each proxy has to fetch by itself.
    pub(crate) async fn claim(store: &S, waiters: &Waiters, page: &Key) -> Option<Claim<S>> {
        let key = Key::new([page.as_bytes(), b".lease"].concat());
        // Registered before the claim, so that no change between its answer and the wait is missed.
        let changed = waiters.changed(&key);
        match HeldLock::take(store, key.clone(), HELD_FOR).await {
            Ok(Some(lock)) => Some(Claim::Ours(Self(lock))),
            Ok(None) => {
                let [value] = store.get([key.as_bytes()]).await.ok()?;
                (value.as_deref() != Some(UNSHARED)).then(|| Claim::Theirs(Box::pin(changed)))
            }
            Err(_) => None,
        }
    }

    /// Tells the fleet that the page cannot be shared.
    pub(crate) fn mark_hit_for_miss(&self) {
        let (store, key) = (self.0.store().clone(), self.0.key().clone());
        tokio::spawn(async move {
            // If this fails, the other proxies fetch the page one after the other.
            let _ = store.put(vec![Write::Set(key, Bytes::from_static(UNSHARED))], HIT_FOR_MISS).await;
        });
    }
}
