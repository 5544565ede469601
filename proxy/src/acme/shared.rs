//! The state that proxies of a fleet share: items under keys of the store, sealed.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::seal::Seal;
use crate::key::Key;
use crate::store::{Locks, Values, Write};

/// The turn to order, which is renewed while it is held: a proxy that dies has it for so long.
const TURN: Duration = Duration::from_secs(30);

/// How often the turn is renewed.
const RENEWED_EVERY: Duration = Duration::from_secs(10);

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
        store: &impl Locks,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, String> {
        let (key, token) = (self.key("turn"), Bytes::from(format!("{:032x}", rand::random::<u128>())));
        if !store.claim(&key, &token, TURN).await.map_err(|error| error.to_string())? {
            return Ok(None);
        }
        let renewing = async {
            loop {
                sleep(RENEWED_EVERY).await;
                // If one renewal fails, the next is in time.
                let _ = store.renew(&key, &token, TURN).await;
            }
        };
        let done = tokio::select! {
            done = work => done,
            () = renewing => return Ok(None),
        };
        let _ = store.release(&key, &token).await;
        Ok(Some(done))
    }

    fn key(&self, name: &str) -> Key {
        Key::new([&self.prefix[..], name.as_bytes()].concat())
    }
}

fn other_secret(name: &str) -> String {
    format!("{name} in the store was not written with this acme.secret_file")
}
