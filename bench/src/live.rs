//! Shows a load on the terminal while it runs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::interval;

use crate::failures::Failures;
use crate::load::{Load, Sample};
use crate::spread::{Milliseconds, Spread};

/// The period that the rate and the times on the line cover.
const WINDOW: Duration = Duration::from_secs(5);

/// Runs a load with a line of progress on the terminal. Returns the samples; if told to stop, those so far.
pub(crate) async fn watch(load: &Load, stop: impl Future<Output = ()>) -> Vec<Sample> {
    const TICK: Duration = Duration::from_millis(500);
    let mut running = load.start();
    let mut live = Live::new(load);
    let mut samples = Vec::new();
    let mut ticks = interval(TICK);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            sample = running.next() => match sample {
                Some(sample) => {
                    live.saw(&sample);
                    samples.push(sample);
                }
                None => break,
            },
            _ = ticks.tick() => live.show(load, running.begin.elapsed()),
            () = &mut stop => break,
        }
    }
    live.line.finish_and_clear();
    samples
}

struct Live {
    line: ProgressBar,
    /// When each recent answer came, and how long it took.
    recent: VecDeque<(Instant, Duration)>,
    failures: Failures,
}

impl Live {
    fn new(load: &Load) -> Self {
        // The line goes to standard error, and only if that is a terminal.
        let line = ProgressBar::with_draw_target(Some(load.seconds()), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("  {wide_bar} {pos}/{len} s  {msg}") {
            line.set_style(style);
        }
        Self { line, recent: VecDeque::new(), failures: Failures::default() }
    }

    fn saw(&mut self, sample: &Sample) {
        self.failures.count(sample);
        if sample.failure().is_none() {
            self.recent.push_back((Instant::now(), sample.took));
        }
    }

    fn show(&mut self, load: &Load, elapsed: Duration) {
        let oldest = Instant::now().checked_sub(WINDOW);
        while self.recent.front().is_some_and(|(answered, _)| Some(*answered) < oldest) {
            self.recent.pop_front();
        }
        self.line.set_position(elapsed.as_secs());
        self.line.set_message(self.text(load.users_after(elapsed), elapsed));
    }

    fn text(&self, users: usize, elapsed: Duration) -> String {
        let rate = self.recent.len() as f64 / elapsed.min(WINDOW).as_secs_f64().max(0.1);
        let times = Spread::of_times(self.recent.iter().map(|(_, took)| *took));
        let times = times.map_or("no answers".to_owned(), |times| {
            let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| Milliseconds(times.quantile(share)));
            format!("p50 {p50}, p95 {p95}, p99 {p99}")
        });
        format!("{users} users, {rate:.0}/s, {times}, {} failed", self.failures.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Answer;

    #[test]
    fn the_line_shows_users_rate_times_and_failures() {
        let load = Load::at_once(&"http://localhost/".parse().unwrap(), 1);
        let mut live = Live::new(&load);
        assert_eq!(live.text(0, Duration::ZERO), "0 users, 0/s, no answers, 0 failed");
        for status in [200, 200, 500] {
            let outcome = Ok(Answer { status: status.try_into().unwrap(), cache: None, read: None });
            live.saw(&Sample { crowd: 0, due: Duration::ZERO, took: Duration::from_millis(4), outcome });
        }
        let text = live.text(7, Duration::from_secs(1));
        assert_eq!(text, "7 users, 2/s, p50 4.00 ms, p95 4.00 ms, p99 4.00 ms, 1 failed");
    }
}
