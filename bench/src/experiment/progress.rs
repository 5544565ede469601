//! The progress of an experiment.

use std::time::{Duration, Instant};

/// Prints each step when it begins, with the elapsed and the expected time.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    expected: Duration,
    steps: usize,
    done: usize,
}

impl Progress {
    pub(super) fn new(steps: usize, expected: Duration) -> Self {
        Self { began: Instant::now(), expected, steps, done: 0 }
    }

    pub(super) fn step(&mut self, what: &str) {
        self.done += 1;
        println!("{}", self.line(self.began.elapsed(), what));
    }

    /// The time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn line(&self, elapsed: Duration, what: &str) -> String {
        let Self { steps, done, .. } = self;
        format!("[{done:>2}/{steps}] {} of about {}  {what}", clock(elapsed), clock(self.expected))
    }
}

/// Minutes and seconds: `1:05`.
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_printed_with_the_time() {
        let progress = Progress { done: 3, ..Progress::new(12, Duration::from_secs(150)) };
        let line = progress.line(Duration::from_secs(65), "50 at once");
        assert_eq!(line, "[ 3/12] 1:05 of about 2:30  50 at once");
    }
}
