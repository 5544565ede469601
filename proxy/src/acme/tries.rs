//! The failures of a name, which a restart and the other proxies of a fleet keep to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Challenge;

/// The failures in a row, and when the next try is due.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    pub(super) failures: u32,
    /// In seconds since 1970.
    next_try: u64,
    /// Another way of validation is tried at once.
    challenge: String,
    pub(super) error: String,
}

impl Tries {
    pub(super) fn new(failures: u32, next_try: SystemTime, challenge: Challenge, error: &str) -> Self {
        let next_try = next_try.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { failures, next_try, challenge: challenge.name().to_owned(), error: error.to_owned() }
    }

    /// Reads what was written; `None` if it does not count for this challenge.
    pub(super) fn read(bytes: &[u8], challenge: Challenge) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|tries: &Self| tries.challenge == challenge.name())
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// When the next try is due. A clock that was far ahead holds nothing up for longer than any pause.
    pub(super) fn next_try(&self, now: SystemTime) -> SystemTime {
        let longest = now + super::schedule::LONGEST;
        UNIX_EPOCH.checked_add(Duration::from_secs(self.next_try)).map_or(longest, |time| time.min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_count_for_their_challenge_and_no_longer_than_any_pause() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let tries = Tries::new(3, at(1000), Challenge::Http01, "refused");
        let read = Tries::read(&tries.write(), Challenge::Http01).unwrap();
        assert_eq!((&read, read.next_try(at(900))), (&tries, at(1000)));
        assert_eq!(Tries::read(&tries.write(), Challenge::TlsAlpn01), None);
        assert_eq!(Tries::read(b"{}", Challenge::Http01), None);
        let far = Tries::new(3, at(1 << 40), Challenge::Http01, "refused");
        assert_eq!(far.next_try(at(0)), at(24 * 60 * 60));
    }
}
