//! The answers to the challenges of an authority that asks over HTTP (RFC 8555 §8.3).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::shared::SharedItems;
use crate::store::Values;

const FOLDER: &str = "/.well-known/acme-challenge/";

/// Longer than the token of any authority. Let's Encrypt's have 43 characters.
const LONGEST: usize = 128;

/// The tokens of the challenges that wait to be asked for, each with its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    here: Arc<RwLock<BTreeMap<String, String>>>,
    /// Those of a fleet: the authority may ask another proxy than the one that has ordered.
    shared: Option<SharedItems>,
}

impl Tokens {
    /// The same with those of a fleet.
    pub(super) fn shared(&self, items: &SharedItems) -> Self {
        Self { here: self.here.clone(), shared: Some(items.clone()) }
    }

    /// The answer to a request for this path, if its token is one of this proxy.
    pub(crate) fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(FOLDER)?;
        self.here.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// Whether another proxy may have the answer to a request for this path.
    pub(crate) fn may_be_elsewhere(&self, path: &str) -> bool {
        self.shared.is_some() && path.strip_prefix(FOLDER).is_some_and(is_token)
    }

    /// The answer that another proxy has.
    pub(crate) async fn answer_elsewhere(&self, path: &str, store: &impl Values) -> Option<String> {
        let token = path.strip_prefix(FOLDER).filter(|token| is_token(token))?;
        let answer = self.shared.as_ref()?.read(store, &item(token)).await.ok()??;
        String::from_utf8(answer).ok()
    }

    pub(super) fn insert(&self, token: String, answer: String) {
        self.here.write().unwrap_or_else(PoisonError::into_inner).insert(token, answer);
    }

    pub(super) fn remove(&self, token: &str) {
        self.here.write().unwrap_or_else(PoisonError::into_inner).remove(token);
    }
}

/// The item of a token in the store.
pub(super) fn item(token: &str) -> String {
    format!("token/{token}")
}

/// Whether this may be a token: it is of base64url.
fn is_token(text: &str) -> bool {
    let is_of_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_of_base64)
}
