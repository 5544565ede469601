//! Encrypts what lies in the store, which others may read, too: keys of certificates, and that of the account.

use std::fmt;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

/// What the key that is made of the secret is for.
const USE: &[u8] = b"cachepage acme 1";

/// Seals bytes so that only a proxy with the same secret opens them, and only in the place that they were sealed for.
#[derive(Clone)]
pub(crate) struct Seal(Arc<LessSafeKey>);

impl Seal {
    /// By this secret, which nobody must be able to guess; `None` if no key can be made of it.
    pub(crate) fn of(secret: &str) -> Option<Self> {
        let secret = Salt::new(HKDF_SHA256, &[]).extract(secret.as_bytes());
        let key = UnboundKey::from(secret.expand(&[USE], &AES_256_GCM).ok()?);
        Some(Self(Arc::new(LessSafeKey::new(key))))
    }

    /// Seals bytes for a place: a nonce, and then the encrypted bytes.
    pub(super) fn seal(&self, place: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
        // Of random nonces, 2^32 are safe with one key.
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = bytes.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(unique, Aad::from(place), &mut sealed).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Opens bytes that were sealed for this place; `None` if they were not, or with another secret.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = sealed.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(place), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_opens_and_only_in_its_place() {
        let (ours, theirs) = (Seal::of("ours").unwrap(), Seal::of("theirs").unwrap());
        let sealed = ours.seal(b"place", b"key").unwrap();
        assert!(!sealed.windows(3).any(|bytes| bytes == b"key"));
        assert_eq!(Seal::of("ours").unwrap().open(b"place", &sealed).unwrap(), b"key");
        assert_eq!((ours.open(b"other", &sealed), theirs.open(b"place", &sealed)), (None, None));
        assert_ne!(ours.seal(b"place", b"key").unwrap(), sealed, "each time with another nonce");
    }

    #[test]
    fn what_was_changed_or_cut_is_not_opened() {
        let seal = Seal::of("ours").unwrap();
        let sealed = seal.seal(b"place", b"key").unwrap();
        for length in 0..sealed.len() {
            assert_eq!(seal.open(b"place", &sealed[..length]), None, "{length}");
        }
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(seal.open(b"place", &changed), None, "{index}");
        }
    }
}
