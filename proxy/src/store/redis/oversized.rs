//! Keys whose values are longer than any page. Redis copies a value for each read, so each read of 64 MB holds up all others.
//! Such a key is not read for a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::key::Key;
use crate::store::{StoreError, Write};

/// How long a key is not read, unless this process writes it.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// The most keys that are remembered.
const KEYS: usize = 1024;

/// The keys, and the lengths of their values.
#[derive(Debug, Default)]
pub(super) struct Oversized {
    /// Whether there are any keys. While there are none, only this is read.
    any: AtomicBool,
    keys: Mutex<HashMap<Key, (usize, Instant)>>,
}

impl Oversized {
    /// Fails if one of these keys must not be read now.
    pub(super) fn check(&self, keys: &[&[u8]]) -> Result<(), StoreError> {
        if !self.any.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = Instant::now();
        self.change(|known| known.retain(|_, (_, until)| now < *until));
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.iter().find_map(|key| known.get(*key)) {
            Some((length, _)) => Err(StoreError::TooLong(*length)),
            None => Ok(()),
        }
    }

    pub(super) fn remember(&self, key: &[u8], length: usize) {
        let until = Instant::now() + LEFT_ALONE;
        self.change(|known| {
            if known.len() < KEYS {
                known.insert(Key::new(key), (length, until));
            }
        });
    }

    /// Forgets the keys that have been written.
    pub(super) fn forget(&self, writes: &[Write]) {
        if self.any.load(Ordering::Relaxed) {
            self.change(|known| known.retain(|key, _| writes.iter().all(|write| write.key() != key)));
        }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Key, (usize, Instant)>)) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut keys);
        self.any.store(!keys.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_left_alone_until_it_is_written_or_some_time_has_passed() {
        let oversized = Oversized::default();
        oversized.remember(b"a", 100);
        oversized.remember(b"b", 200);
        assert!(oversized.check(&[b"c"]).is_ok());
        assert!(matches!(oversized.check(&[b"c", b"b"]), Err(StoreError::TooLong(200))));
        oversized.forget(&[Write::Set(Key::new("b"), Bytes::new())]);
        assert!(oversized.check(&[b"b"]).is_ok() && oversized.check(&[b"a"]).is_err());
        tokio::time::advance(LEFT_ALONE).await;
        assert!(oversized.check(&[b"a"]).is_ok());
        assert!(!oversized.any.load(Ordering::Relaxed));
        (0..2 * KEYS).for_each(|number| oversized.remember(number.to_string().as_bytes(), 1));
        assert_eq!(oversized.keys.lock().unwrap().len(), KEYS);
    }
}
