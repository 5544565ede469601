//! The health of an origin: how long its answers take, and whether it is left out for a while after failures.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When an origin that fails is left out, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ejection {
    /// The number of failures in a row.
    pub(crate) after: u32,
    /// The time of the first ejection; each further one takes twice as long.
    pub(crate) time: Duration,
}

/// The longest time for which an origin is left out.
const LONGEST: Duration = Duration::from_secs(60);

/// How long an answer influences the latency.
const MEMORY: Duration = Duration::from_secs(10);

/// For this long after a failure an origin counts as if it took this long to answer: failures come fast, and would attract
/// requests.
const PENALTY: Duration = Duration::from_secs(5);

/// The least latency that makes a difference.
const LEAST: f64 = 0.0001;

#[derive(Debug)]
pub(super) struct OriginHealth(Mutex<HealthState>);

#[derive(Debug)]
struct HealthState {
    /// In seconds: the time of the slowest recent answer. It fades.
    latency: f64,
    noted: Instant,
    /// The number of requests without an answer, and since when there have been some without any answer.
    waiting: usize,
    silent_since: Instant,
    /// Until when the last failure counts.
    penalty: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    /// Until when the origin is left out, and how many times in a row it was.
    out: Option<Instant>,
    times: u32,
    /// Whether a request is trying the origin.
    is_tried: bool,
}

/// Whether an origin gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    In,
    Out,
    /// The origin was left out long enough: one request may try it.
    Trial,
}

impl OriginHealth {
    pub(super) fn new(now: Instant) -> Self {
        let state = HealthState {
            latency: 0.0,
            noted: now,
            waiting: 0,
            silent_since: now,
            penalty: None,
            failures: 0,
            out: None,
            times: 0,
            is_tried: false,
        };
        Self(Mutex::new(state))
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let state = self.lock();
        match state.out {
            None => Standing::In,
            Some(until) if until <= now && !state.is_tried => Standing::Trial,
            Some(_) => Standing::Out,
        }
    }

    /// Takes the trial; false if another request was faster.
    pub(super) fn begin_trial(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let is_due = state.out.is_some_and(|until| until <= now) && !state.is_tried;
        state.is_tried |= is_due;
        is_due
    }

    /// The cost of one more request, if so many are under way.
    pub(super) fn cost(&self, in_flight: usize, weight: u32, now: Instant) -> f64 {
        let state = self.lock();
        let latency = match state.penalty {
            Some(until) if now < until => PENALTY.as_secs_f64(),
            _ => (state.latency * fading(now - state.noted)).max(state.silence(now)).max(LEAST),
        };
        latency * (in_flight + 1) as f64 / f64::from(weight)
    }

    /// Whether the origin's last failure still counts.
    pub(super) fn has_just_failed(&self, now: Instant) -> bool {
        self.lock().penalty.is_some_and(|until| now < until)
    }

    /// Notes that a request is sent to the origin.
    pub(super) fn asked(&self, now: Instant) {
        let mut state = self.lock();
        if state.waiting == 0 {
            state.silent_since = now;
        }
        state.waiting += 1;
    }

    /// Notes the end of a request. A request that was given up says nothing about the origin; if it was a trial, the trial has
    /// no result.
    pub(super) fn ended(&self, is_answered: bool, now: Instant) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(1);
        match is_answered {
            true => state.silent_since = now,
            false => state.is_tried = false,
        }
    }

    /// Notes an answer.
    pub(super) fn succeeded(&self, took: Duration, now: Instant) {
        let mut state = self.lock();
        (state.failures, state.times, state.is_tried) = (0, 0, false);
        (state.out, state.penalty) = (None, None);
        state.sample(took, now);
    }

    /// Notes a failure. If there are too many, and `may_be_out` allows it, the origin is left out. Returns whether that begins
    /// now.
    pub(super) fn failed(&self, ejection: Ejection, now: Instant, may_be_out: bool) -> bool {
        let mut state = self.lock();
        state.failures += 1;
        state.penalty = Some(now + PENALTY);
        let was_tried = std::mem::take(&mut state.is_tried);
        let is_out = state.out.is_some();
        let is_enough = !is_out && state.failures >= ejection.after;
        if was_tried || (is_enough && may_be_out) {
            let time = ejection.time.saturating_mul(1 << state.times.min(16)).min(LONGEST);
            state.out = Some(now + time);
            state.times += 1;
            return true;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, HealthState> {
        // A panic elsewhere leaves the state consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthState {
    /// In seconds: the least time that the next answer takes, judged by the last one. An origin that hangs has no latency yet.
    fn silence(&self, now: Instant) -> f64 {
        let silence = (now - self.silent_since).as_secs_f64();
        if self.waiting > 0 { silence } else { 0.0 }
    }

    /// The latency rises at once and falls slowly.
    fn sample(&mut self, took: Duration, now: Instant) {
        let (took, left) = (took.as_secs_f64(), fading(now - self.noted));
        self.latency = took.max(took * (1.0 - left) + self.latency * left);
        self.noted = now;
    }
}

/// The part of a value that is left after this time.
fn fading(elapsed: Duration) -> f64 {
    (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EJECTION: Ejection = Ejection { after: 3, time: SECOND.saturating_mul(5) };
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn failures_in_a_row_leave_an_origin_out_and_trials_for_longer_and_longer() {
        let start = Instant::now();
        let health = OriginHealth::new(start);
        for _ in 0..2 {
            assert!(!health.failed(EJECTION, start, true));
        }
        health.succeeded(SECOND, start);
        for _ in 0..2 {
            assert!(!health.failed(EJECTION, start, true));
        }
        assert!(!health.failed(EJECTION, start, false), "too many are out");
        assert_eq!(health.standing(start), Standing::In);
        assert!(health.failed(EJECTION, start, true));
        let mut now = start;
        for seconds in [5, 10, 20, 40, 60, 60] {
            assert_eq!(health.standing(now + seconds * SECOND - SECOND / 1000), Standing::Out);
            now += seconds * SECOND;
            assert_eq!(health.standing(now), Standing::Trial);
            assert!(health.begin_trial(now) && !health.begin_trial(now));
            assert_eq!(health.standing(now), Standing::Out, "one request tries it");
            assert!(health.failed(EJECTION, now, false), "it stays out");
        }
        now += 60 * SECOND;
        assert!(health.begin_trial(now));
        health.asked(now);
        health.ended(false, now);
        assert!(health.begin_trial(now));
        health.succeeded(SECOND, now);
        assert_eq!(health.standing(now), Standing::In);
    }

    #[tokio::test]
    async fn an_origin_that_hangs_costs_more_from_moment_to_moment() {
        let start = Instant::now();
        let health = OriginHealth::new(start);
        let cost = |seconds: u32| health.cost(0, 1, start + seconds * SECOND);
        health.succeeded(SECOND / 1000, start);
        health.asked(start);
        health.asked(start + SECOND);
        assert!(cost(2) >= 2.0, "since the first of them");
        health.ended(false, start + SECOND);
        assert!(cost(2) >= 2.0, "a client that gives up is no answer");
        health.asked(start + SECOND);
        health.ended(true, start + 2 * SECOND);
        assert!((0.9..1.1).contains(&cost(3)), "since the last answer");
        health.ended(true, start + 3 * SECOND);
        assert!(cost(5) < 0.1, "it has nothing to answer");
    }

    #[tokio::test]
    async fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let start = Instant::now();
        let health = OriginHealth::new(start);
        let cost = |seconds: u64| health.cost(0, 1, start + Duration::from_secs(seconds));
        health.succeeded(SECOND, start);
        health.succeeded(SECOND / 1000, start);
        assert!(cost(0) > 0.9);
        assert!((0.3..0.5).contains(&cost(10)));
        assert!(cost(1000) < 0.001);
        assert_eq!(health.cost(3, 2, start), 2.0 * health.cost(0, 1, start));
        health.failed(EJECTION, start, true);
        assert!(cost(0) >= 5.0, "a fast failure attracts no requests");
        assert!(cost(5) < 1.0);
    }
}
