//! Refusals: errors that Redis replies to commands. Each kind is logged once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bb8_redis::redis::RedisError;
use tracing::warn;

use super::resp::RedisReply;
use crate::store::{RefusedCommand, StoreError};

/// The most kinds of refusals that are remembered. Redis has fewer.
const KINDS: usize = 64;

/// A command, and the first word of the error that it got.
type Refusal = (&'static str, Box<str>);

/// The refusals of all nodes.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The reply of Redis, for each command and first word of the reply.
    replies: Mutex<BTreeMap<Refusal, String>>,
}

impl Refusals {
    /// Returns a reply that is no error. Notes an error.
    pub(super) fn accept(&self, command: &'static str, reply: RedisReply) -> Result<RedisReply, StoreError> {
        let RedisReply::Error(text) = reply else { return Ok(reply) };
        self.note(command, &text);
        Err(StoreError::Refused(format!("{command}: {text}")))
    }

    /// Notes an error reply. It is logged once for each command and first word.
    pub(super) fn note(&self, command: &'static str, text: &str) {
        let mut replies = self.lock();
        let kind = (command, Box::from(text.split(' ').next().unwrap_or_default()));
        if replies.len() < KINDS && !replies.contains_key(&kind) {
            warn!(command, reply = text, "Redis refuses a command");
            replies.insert(kind, text.to_owned());
        }
    }

    /// Notes an error on a connection of the library, with Redis' own words.
    pub(super) fn note_error(&self, command: &'static str, error: &RedisError) {
        match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => self.note(command, &format!("{code} {detail}")),
            _ => self.note(command, &error.to_string()),
        }
    }

    /// Passes an outcome on a connection of the library through. Notes if Redis refuses the command for good.
    pub(super) fn noted<T>(
        &self,
        command: &'static str,
        outcome: Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        outcome.inspect_err(|error| {
            if is_refusal(error) {
                self.note_error(command, error);
            }
        })
    }

    /// The commands that were refused so far.
    pub(super) fn all(&self) -> Vec<RefusedCommand> {
        self.lock()
            .iter()
            .map(|((command, _), reply)| RefusedCommand { command, reply: reply.clone() })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Refusal, String>> {
        // A panic elsewhere cannot leave the map half-changed.
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether Redis refuses a command for good.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") || is_for_good(&error.to_string())
}

/// Whether the text of an error is a refusal for good.
pub(super) fn is_for_good(text: &str) -> bool {
    text.starts_with("NOPERM") || text.contains("unknown command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_refusals_is_bounded() {
        let refusals = Refusals::default();
        for number in 0..10_000 {
            refusals.note("GET", &format!("E{number} x"));
        }
        assert_eq!(refusals.all().len(), KINDS);
    }

    #[test]
    fn each_command_and_first_word_is_one_kind() {
        let refusals = Refusals::default();
        for (command, text) in [("GET", "A x"), ("GET", "A y"), ("GET", "B x"), ("SETEX", "A x")] {
            let refused = refusals.accept(command, RedisReply::Error(text.to_owned()));
            assert_eq!(refused.unwrap_err().to_string(), format!("the store refused: {command}: {text}"));
        }
        assert_eq!(refusals.accept("GET", RedisReply::Status).unwrap(), RedisReply::Status);
        assert_eq!(refusals.all().len(), 3);
    }
}
