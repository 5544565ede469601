//! Locks in Redis: a token under a key.

use std::time::Duration;

use bytes::Bytes;

use super::RedisStore;
use super::resp::RedisReply;
use crate::key::Key;
use crate::store::{Locks, StoreError, Values as _};

/// For a lock that still has the token.
pub(super) const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A change of a lock that only the holder of its token may make: another proxy may have claimed it meanwhile.
struct Held {
    script: &'static str,
    /// The command in the script.
    command: &'static str,
    /// In milliseconds.
    ttl: u64,
}

impl Locks for RedisStore {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let ttl = milliseconds(ttl).to_string();
        let arguments: &[&[u8]] = &[key.as_bytes(), token, b"NX", b"PX", ttl.as_bytes()];
        Ok(matches!(self.write("SET", arguments).await?, RedisReply::Status))
    }

    async fn renew(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let held = Held { script: RENEW, command: "PEXPIRE", ttl: milliseconds(ttl) };
        self.if_held(&held, key, token).await
    }

    async fn release(&self, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        self.if_held(&Held { script: RELEASE, command: "DEL", ttl: 0 }, key, token).await
    }
}

impl RedisStore {
    /// Runs a script on a lock if it has this token. Returns whether it had.
    async fn if_held(&self, held: &Held, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        let (key, ttl) = (key.as_bytes(), held.ttl.to_string());
        let script = self.write("EVAL", &[held.script.as_bytes(), b"1", key, token, ttl.as_bytes()]).await;
        if !matches!(script, Err(StoreError::Refused(_))) {
            return Ok(matches!(script?, RedisReply::Number(1)));
        }
        // A user without EVAL: another proxy may claim the lock between the two commands, and fetch the page once more.
        let [value] = self.get([key]).await?;
        if value.as_ref() != Some(token) {
            return Ok(false);
        }
        let arguments: &[&[u8]] = if held.command == "DEL" { &[key] } else { &[key, ttl.as_bytes()] };
        Ok(matches!(self.write(held.command, arguments).await?, RedisReply::Number(1)))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
