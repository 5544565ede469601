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
    absence: Mutex<Option<Absence>>,
    /// Bounds the lines about an origin that takes some connections and refuses others.
    log: Seldom,
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
        Self { origin, absence: Mutex::default(), log: Seldom::new() }
    }

    /// Whether the last connection failed.
    pub(super) fn is_away(&self) -> bool {
        self.absence.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Notes whether a connection succeeded.
    pub(super) fn note<T>(&self, connected: &Result<T, Cause>) {
        // A panic elsewhere leaves the absence consistent.
        let mut absence = self.absence.lock().unwrap_or_else(PoisonError::into_inner);
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
