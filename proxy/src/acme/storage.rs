//! Where the account and the certificates are kept: in a folder, or in the store for a fleet.

use std::path::PathBuf;
use std::time::Duration;

use super::Acme;
use super::folder::Folder;
use super::shared::SharedItems;
use crate::store::Store;

/// Longer than a certificate is valid, after which nothing of it is needed.
const KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// What the settings say.
#[derive(Clone, Debug)]
pub(crate) enum StoragePlace {
    /// A folder of this machine.
    Folder(PathBuf),
    /// The store of the pages.
    Store(SharedItems),
}

/// Items with names.
#[derive(Debug)]
pub(super) enum Storage<S> {
    Folder(Folder),
    Store(SharedItems, S),
}

impl<S: Store> Storage<S> {
    /// By the settings.
    pub(super) fn of(acme: &Acme, store: &S) -> Self {
        match &acme.storage {
            StoragePlace::Folder(path) => Self::Folder(Folder::of(path, &acme.directory.name())),
            StoragePlace::Store(items) => Self::Store(items.clone(), store.clone()),
        }
    }

    /// Whether other proxies have it, too.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Store(..))
    }

    /// Reads an item; `None` if there is none.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Folder(folder) => folder.read(name).map_err(|error| error.to_string()),
            Self::Store(items, store) => items.read(store, name).await,
        }
    }

    /// Writes an item as a whole, or leaves the one that there is.
    pub(super) async fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Folder(folder) => folder.write(name, bytes).map_err(|error| error.to_string()),
            Self::Store(items, store) => items.write(store, name, bytes, KEPT).await,
        }
    }

    /// Removes an item, if there is one.
    pub(super) async fn remove(&self, name: &str) {
        match self {
            Self::Folder(folder) => folder.remove(name),
            Self::Store(items, store) => items.remove(store, name).await,
        }
    }

    /// Whether items can be written.
    pub(super) async fn check(&self) -> Result<(), String> {
        const PROBE: &str = "probe";
        self.write(PROBE, b"").await?;
        self.remove(PROBE).await;
        Ok(())
    }

    /// Gives the other proxies an item for as long as an order takes.
    pub(super) async fn give(&self, name: &str, bytes: &[u8], patience: Duration) -> Result<(), String> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Store(items, store) => items.write(store, name, bytes, patience).await,
        }
    }

    /// Takes such an item back.
    pub(super) async fn take_back(&self, name: &str) {
        if self.is_shared() {
            self.remove(name).await;
        }
    }

    /// Does what one proxy of a fleet does at a time; `None` if another one is at it.
    pub(super) async fn in_turn<T>(&self, work: impl Future<Output = T>) -> Result<Option<T>, String> {
        match self {
            Self::Folder(_) => Ok(Some(work.await)),
            Self::Store(items, store) => items.in_turn(store, work).await,
        }
    }
}
