//! The log of a program, on standard error, and its level, which may change for a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

/// The filter of the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogFilter {
    handle: reload::Handle<Targets, Registry>,
    /// The filter of the start.
    usual: Targets,
    /// Counts the changes, so that only the last one is taken back.
    changes: Arc<AtomicU64>,
}

/// Logs to standard error, filtered by RUST_LOG (`debug`, `proxy=debug,hyper=info`). A text that is no filter counts as
/// `info`.
pub fn start_log() -> LogFilter {
    let wanted = std::env::var("RUST_LOG").ok();
    let usual = wanted.as_deref().and_then(parse).unwrap_or_else(|| parse("info").unwrap_or_default());
    let (filter, handle) = reload::Layer::new(usual.clone());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    LogFilter { handle, usual, changes: Arc::default() }
}

impl LogFilter {
    /// Filters by this text, written as RUST_LOG is, for a time. A task on the calling runtime takes it back.
    pub fn set_for(&self, text: &str, time: Duration) -> Result<(), String> {
        let filter = filter(text).ok_or_else(|| format!("{text:?} is not a level like debug"))?;
        let change = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        self.handle.reload(filter).map_err(|error| error.to_string())?;
        info!(filter = text, seconds = time.as_secs(), "log level changed");
        let this = self.clone();
        tokio::spawn(async move {
            sleep(time).await;
            if this.changes.load(Ordering::Relaxed) == change
                && this.handle.reload(this.usual.clone()).is_ok()
            {
                info!(filter = %this.usual, "log level as before");
            }
        });
        Ok(())
    }
}

/// The filter that a text describes. A single word is a level, and not the name of a part of the program.
fn filter(text: &str) -> Option<Targets> {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_known = |part: &str| part.contains('=') || is_level(part.trim());
    text.split(',').all(is_known).then(|| parse(text))?
}

/// Parses a filter. h2 warns of each odd frame of a client: only a text that names h2 lets these warnings through.
fn parse(text: &str) -> Option<Targets> {
    let filter: Targets = text.parse().ok()?;
    Some(if text.contains("h2") || text == "off" {
        filter
    } else {
        filter.with_target("h2", LevelFilter::ERROR)
    })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_is_levels_for_all_or_for_parts() {
        for text in ["debug", "warn,proxy=debug", "proxy::store=trace", "off"] {
            assert!(filter(text).is_some(), "{text}");
        }
        for text in ["", "loud", "debug,proxy", "proxy=loud"] {
            assert!(filter(text).is_none(), "{text}");
        }
    }

    #[test]
    fn odd_frames_of_clients_are_logged_only_for_somebody_who_asks_for_them() {
        let warns = |text| parse(text).unwrap().would_enable("h2::proto::ping_pong", &Level::WARN);
        assert!(!warns("info") && !warns("debug,proxy=trace") && warns("info,h2=warn") && !warns("off"));
    }
}
