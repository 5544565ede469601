//! The state that proxies of a fleet share: items under keys of the store, sealed.

use std::time::Duration;

use bytes::Bytes;

use super::seal::Seal;
use crate::key::Key;
use crate::store::{HeldLock, Store, Values, Write};

/// The lifetime of the turn to order. The others wait this long for a proxy that has died.
const TURN: Duration = Duration::from_secs(30);

/// Where the items lie, and how they are sealed.
#[derive(Clone, Debug)]
pub(crate) struct SharedItems {
    prefix: Vec<u8>,
    seal: Seal,
}

impl SharedItems {
    /// For the directory with this name.
    pub(super) fn new(directory: &str, seal: Seal) -> Self {
        Self { prefix: format!("acme/{directory}/").into_bytes(), seal }
    }

    /// The same beside the pages, whose keys begin so.
    pub(super) fn beside(self, pages: &[u8]) -> Self {
        Self { prefix: [pages, &self.prefix].concat(), ..self }
    }

    /// Reads an item; `None` if there is none.
    pub(super) async fn read(&self, store: &impl Values, name: &str) -> Result<Option<Vec<u8>>, String> {
        let key = self.key(name);
        let [sealed] = store.get([key.as_bytes()]).await.map_err(|error| error.to_string())?;
        let open = |sealed: Bytes| self.seal.open(key.as_bytes(), &sealed);
        let opened = sealed.map(|sealed| open(sealed).ok_or_else(|| other_secret(name)));
        opened.transpose()
    }

    /// Writes an item.
    pub(super) async fn write(
        &self,
        store: &impl Values,
        name: &str,
        bytes: &[u8],
        ttl: Duration,
    ) -> Result<(), String> {
        let key = self.key(name);
        let sealed = self.seal.seal(key.as_bytes(), bytes).ok_or("the item cannot be sealed")?;
        store.put(vec![Write::Set(key, sealed.into())], ttl).await.map_err(|error| error.to_string())
    }

    /// Removes an item, if there is one. One that cannot be removed expires.
    pub(super) async fn remove(&self, store: &impl Values, name: &str) {
        let _ = store.delete(&[self.key(name)]).await;
    }

    /// Does what one proxy of the fleet does at a time; `None` if another one is at it. If the store loses the turn meanwhile,
    /// another proxy may order, too: one certificate more is issued than is needed.
    pub(super) async fn in_turn<T>(
        &self,
        store: &impl Store,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, String> {
        let lock = HeldLock::take(store, self.key("turn"), TURN).await.map_err(|error| error.to_string())?;
        let Some(lock) = lock else { return Ok(None) };
        let done = work.await;
        lock.release().await;
        Ok(Some(done))
    }

    fn key(&self, name: &str) -> Key {
        Key::new([&self.prefix[..], name.as_bytes()].concat())
    }
}

fn other_secret(name: &str) -> String {
    format!("{name} in the store was not written with this acme.secret_file")
}
