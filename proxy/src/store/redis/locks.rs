//! Locks in Redis: a token under a key.

use std::time::Duration;

use bytes::Bytes;

use super::RedisStore;
use super::resp::RedisReply;
use crate::key::Key;
use crate::store::{Locks, StoreError, Values as _};

/// Changes the lifetime of a lock, if it still has the token. Without a lifetime, deletes the lock.
pub(super) const EXPIRE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";

impl Locks for RedisStore {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let ttl = milliseconds(ttl).to_string();
        let arguments: &[&[u8]] = &[key.as_bytes(), token, b"NX", b"PX", ttl.as_bytes()];
        Ok(matches!(self.write("SET", arguments).await?, RedisReply::Status))
    }

    async fn renew(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.expire(key, token, milliseconds(ttl)).await
    }

    async fn release(&self, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        self.expire(key, token, 0).await
    }
}

impl RedisStore {
    /// Gives a lock this lifetime in milliseconds, if it still has this token: another proxy may have claimed it meanwhile.
    /// Returns whether it had the token.
    async fn expire(&self, key: &Key, token: &Bytes, ttl: u64) -> Result<bool, StoreError> {
        let (key, ttl) = (key.as_bytes(), ttl.to_string());
        let script = self.write("EVAL", &[EXPIRE.as_bytes(), b"1", key, token, ttl.as_bytes()]).await;
        if !matches!(script, Err(StoreError::Refused(_))) {
            return Ok(matches!(script?, RedisReply::Number(1)));
        }
        // The user lacks EVAL or PEXPIRE. Another proxy may claim the lock between the two commands here, and fetch the page
        // once more.
        let [value] = self.get([key]).await?;
        if value.as_ref() != Some(token) {
            return Ok(false);
        }
        let expired = match self.write("PEXPIRE", &[key, ttl.as_bytes()]).await {
            Err(StoreError::Refused(_)) if ttl == "0" => self.write("DEL", &[key]).await,
            expired => expired,
        };
        Ok(matches!(expired?, RedisReply::Number(1)))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
