//! Whether the origin can be reached, for the log: one line when it is away, and one when it is back.

use std::sync::{Mutex, PoisonError};

use server::Seldom;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::Cause;
use super::sources;

/// Whether connections to the origin succeed. All workers share it.
#[derive(Debug)]
pub(super) struct Presence {
    /// The name in the log.
    origin: String,
    seen: Mutex<ConnectionsSeen>,
    /// Bounds the lines about an origin that takes some connections and refuses others.
    log: Seldom,
}

/// The connections so far.
#[derive(Debug, Default)]
struct ConnectionsSeen {
    absence: Option<Absence>,
    /// When the last connection succeeded.
    reached: Option<Instant>,
}

/// The time since connections began to fail.
#[derive(Debug)]
struct Absence {
    since: Instant,
    /// The number of connections that failed.
    failed: u64,
}

impl Presence {
    pub(super) fn new(origin: String) -> Self {
        Self { origin, seen: Mutex::default(), log: Seldom::new() }
    }

    /// Whether the last connection failed.
    pub(super) fn is_away(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).absence.is_some()
    }

    /// Notes whether a connection that was begun at this time succeeded.
    pub(super) fn note<T>(&self, connected: &Result<T, Cause>, began: Instant) {
        // A panic elsewhere leaves what was seen consistent.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let ConnectionsSeen { absence, reached } = &mut *seen;
        if connected.is_ok() {
            *reached = Some(Instant::now());
        } else if reached.is_some_and(|reached| began < reached) {
            // It began while the origin was away, and the origin has come back since.
            return;
        }
        match (connected, &mut *absence) {
            (Ok(_), None) => {}
            (Ok(_), Some(Absence { since, failed })) => {
                if let Some(left_out) = self.log.turn("back") {
                    let seconds = since.elapsed().as_secs();
                    info!(origin = self.origin, seconds, failed, left_out, "origin back");
                }
                *absence = None;
            }
            (Err(_), Some(absence)) => absence.failed += 1,
            (Err(error), None) => {
                if let Some(left_out) = self.log.turn("away") {
                    let causes: Vec<_> = sources(&**error).map(ToString::to_string).collect();
                    warn!(origin = self.origin, error = causes.join(": "), left_out, "origin away");
                }
                *absence = Some(Absence { since: Instant::now(), failed: 1 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_began_before_the_last_success_does_not_count() {
        let presence = Presence::new("http://origin".to_owned());
        let failed = || Err::<(), _>(Arc::new(std::io::Error::other("refused")) as Cause);
        let began = Instant::now();
        presence.note(&failed(), began);
        assert!(presence.is_away());
        advance(SECOND).await;
        presence.note(&Ok(()), Instant::now());
        advance(SECOND).await;
        presence.note(&failed(), began);
        assert!(!presence.is_away());
        presence.note(&failed(), Instant::now());
        assert!(presence.is_away());
    }
}
