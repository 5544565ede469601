//! Chaos: the real program under load while what it depends on fails. Every request is answered, and answered right.
//!
//! The tests assert counts and print times. Each scenario takes about two seconds; `CACHEPAGE_CHAOS_SECONDS=30 cargo test
//! --release -p proxy --test chaos -- --nocapture` makes them as long as figures want.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]
#![allow(clippy::print_stdout, reason = "the figures are for people")]

mod crowd;
mod load;
mod origin;
mod origin_fails;
mod program;
mod redis;
mod restart;
mod signals;

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

/// No test waits longer than this for anything: it is a failure then, not a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a scenario runs.
pub(crate) fn scenario_length() -> Duration {
    let seconds = std::env::var("CACHEPAGE_CHAOS_SECONDS").ok().map(|text| text.parse().unwrap());
    Duration::from_secs_f64(seconds.unwrap_or(2.0))
}

/// One scenario at a time: the figures of each are its own.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
