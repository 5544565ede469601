//! Log lines that a flood of the same fault cannot multiply.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The pause between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets one line of each kind through in a second, and counts the lines that are left out.
///
/// ```
/// # let (seldom, error) = (server::Seldom::new(), "refused");
/// if let Some(left_out) = seldom.turn("origin-connect") {
///     tracing::warn!(error, left_out, "origin failed");
/// }
/// ```
#[derive(Debug, Default)]
pub struct Seldom(Mutex<BTreeMap<&'static str, LastLine>>);

#[derive(Debug)]
struct LastLine {
    /// When it was let through.
    at: Instant,
    /// The lines that were left out since then.
    left_out: u64,
}

impl Seldom {
    /// Creates the state before the first line. A constant function, so that a `static` may hold it.
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether a line of this kind may be written now. If so, returns how many were left out since the last one.
    pub fn turn(&self, kind: &'static str) -> Option<u64> {
        let now = Instant::now();
        // A panic elsewhere leaves the counts consistent.
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some(known) if now < known.at + PAUSE => {
                known.left_out += 1;
                None
            }
            known => {
                let left_out = known.map_or(0, |known| known.left_out);
                kinds.insert(kind, LastLine { at: now, left_out: 0 });
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kind_has_one_line_a_second_which_counts_those_left_out() {
        static SELDOM: Seldom = Seldom::new();
        assert_eq!(SELDOM.turn("a"), Some(0));
        for _ in 0..3 {
            assert_eq!(SELDOM.turn("a"), None);
        }
        advance(PAUSE - Duration::from_millis(1)).await;
        assert_eq!(SELDOM.turn("a"), None);
        advance(Duration::from_millis(1)).await;
        assert_eq!(SELDOM.turn("a"), Some(4));
        assert_eq!(SELDOM.turn("a"), None);
        advance(PAUSE * 10).await;
        assert_eq!(SELDOM.turn("a"), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_do_not_wait_for_each_other() {
        let seldom = Seldom::new();
        assert_eq!((seldom.turn("a"), seldom.turn("b")), (Some(0), Some(0)));
        assert_eq!((seldom.turn("a"), seldom.turn("b")), (None, None));
    }
}
