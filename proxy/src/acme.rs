//! Certificates of listeners that an authority issues by ACME (RFC 8555), and that are renewed before their end.
//!
//! Each name has a certificate of its own, so a name that cannot be validated holds up no other. [`Renewals`] takes the stored
//! certificates, orders those that are due, and keeps an old certificate until a new one has come. `order` answers a challenge
//! of the authority: over TLS by the listeners (RFC 8737), over HTTP by [`Tokens`]. `directory` speaks with the authority,
//! and `schedule` and `tries` say when to try. `storage` keeps the account and the certificates: in a `folder`, or, for a
//! fleet, as `shared` items of the store, which `seal` encrypts. Then one proxy orders at a time, each proxy answers the
//! authority, and all show the certificate.

mod directory;
mod folder;
mod order;
mod renewals;
mod schedule;
mod seal;
mod shared;
mod storage;
mod tokens;
mod tries;

use std::sync::Arc;

use server::IssuedCertificates;

pub(crate) use directory::Directory;
pub(crate) use renewals::NameState;
pub use renewals::Renewals;
pub(crate) use seal::Seal;
use shared::SharedItems;
pub(crate) use storage::StoragePlace;
pub(crate) use tokens::Tokens;

/// The settings of `[acme]`.
#[derive(Clone, Debug)]
pub struct Acme {
    pub(crate) directory: Directory,
    /// URLs by which the authority can reach the operator.
    pub(crate) contact: Vec<String>,
    pub(crate) challenge: Challenge,
    /// Where the account and the certificates are.
    pub(crate) storage: StoragePlace,
    /// The names, with the certificates that listeners show for them.
    pub(crate) issued: Arc<IssuedCertificates>,
    /// The answers to challenges over HTTP.
    pub(crate) tokens: Tokens,
}

/// How the authority validates that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// The authority makes a TLS handshake on port 443.
    TlsAlpn01,
    /// The authority sends a request to port 80.
    Http01,
}

impl Challenge {
    /// Its name in the settings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

impl Acme {
    /// The same with what a fleet shares beside its pages, whose keys begin so.
    pub(crate) fn beside_pages(self, pages: &[u8]) -> Self {
        let StoragePlace::Store(items) = self.storage else { return self };
        let items = items.beside(pages);
        Self { tokens: self.tokens.shared(&items), storage: StoragePlace::Store(items), ..self }
    }

    /// The answers to challenges over HTTP, if the authority uses them.
    pub(crate) fn tokens(&self) -> Option<Tokens> {
        (self.challenge == Challenge::Http01).then(|| self.tokens.clone())
    }
}

impl StoragePlace {
    /// The store, for this directory.
    pub(crate) fn store(directory: &Directory, seal: Seal) -> Self {
        Self::Store(SharedItems::new(&directory.name(), seal))
    }
}
