//! The answers to the challenges of an authority that asks over HTTP (RFC 8555 §8.3).

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

const FOLDER: &str = "/.well-known/acme-challenge/";

/// The tokens of the challenges that wait to be asked for, each with its answer.
#[derive(Debug, Default)]
pub(crate) struct Tokens(RwLock<BTreeMap<String, String>>);

impl Tokens {
    /// The answer to a request for this path, if its token is one of these.
    pub(crate) fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(FOLDER)?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    pub(super) fn insert(&self, token: String, answer: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(token, answer);
    }

    pub(super) fn remove(&self, token: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(token);
    }
}
