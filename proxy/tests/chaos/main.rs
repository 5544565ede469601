//! Chaos: the real program under load while its store, its origin or the proxy itself fails. Every request must get the
//! right answer.
//!
//! The tests assert counts and print times. Each scenario takes about two seconds. For meaningful figures run
//! `CACHEPAGE_CHAOS_SECONDS=30 cargo test --release -p proxy --test chaos -- --nocapture`. With
//! `CACHEPAGE_TEST_TLS=1` clients speak HTTP/1.1 over TLS, and with `CACHEPAGE_TEST_TLS=h2` HTTP/2.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]
#![allow(clippy::print_stdout, reason = "the figures are for people")]

/// That of the scenes. redis.rs, log_fails.rs and odd_redis.rs are about one Redis, failover.rs about the other kinds.
#[allow(dead_code, reason = "the scenes use more of it")]
#[path = "../scenes/backend.rs"]
mod backend;
mod crowd;
mod failover;
mod heads;
mod link;
mod load;
mod log_fails;
mod memory;
mod odd_redis;
mod origin;
mod origin_fails;
mod over;
mod program;
mod redis;
mod restart;
mod signals;
#[allow(dead_code, reason = "the scenes use more of it")]
#[path = "../scenes/tunnel.rs"]
mod tunnel;

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

/// The longest wait of any test. After it the test fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The length of a scenario.
pub(crate) fn scenario_length() -> Duration {
    let seconds = std::env::var("CACHEPAGE_CHAOS_SECONDS").ok().map(|text| text.parse().unwrap());
    Duration::from_secs_f64(seconds.unwrap_or(2.0))
}

/// Lets one scenario run at a time, so that scenarios do not disturb each other's figures.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
