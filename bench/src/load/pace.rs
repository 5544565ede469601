//! When requests are due.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// When requests are due.
#[derive(Clone, Debug)]
pub(crate) enum Pace {
    /// Each user waits for its answer, pauses for a time in this range, and sends the next request: a slow server gets
    /// fewer requests.
    Closed { think: RangeInclusive<Duration> },
    /// Requests are due at a fixed rate (per second, for all users together), even while users still wait for answers.
    /// Times count from when a request was due, so they include the wait for a free user.
    Open { rate: f64 },
}

/// The instants at which the requests of one user are due.
pub(super) enum Schedule {
    Closed { think: RangeInclusive<Duration>, asked: bool },
    Open(Tickets),
}

/// The due instants of a crowd: a user that is free takes the next one.
pub(super) type Tickets = Arc<Mutex<UnboundedReceiver<Instant>>>;

impl Schedule {
    /// A schedule for each user of a crowd. The first request is due at `begin`, the last before `end`.
    pub(super) fn all(pace: &Pace, users: usize, begin: Instant, end: Instant) -> Vec<Self> {
        match pace {
            Pace::Closed { think } => {
                (0..users).map(|_| Self::Closed { think: think.clone(), asked: false }).collect()
            }
            Pace::Open { rate } => {
                let tickets = Arc::new(Mutex::new(metronome(*rate, begin, end)));
                (0..users).map(|_| Self::Open(Arc::clone(&tickets))).collect()
            }
        }
    }

    /// Whether a request is due only after the answer to the one before.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Waits until the next request is due, and returns that instant, which may be past; `None` at the end.
    pub(super) async fn next(&mut self, end: Instant) -> Option<Instant> {
        match self {
            Self::Closed { think, asked } => {
                if *asked && !think.end().is_zero() {
                    let think = rand::rng().random_range(think.clone());
                    tokio::time::sleep(think).await;
                }
                *asked = true;
                // The request is due when the user wakes: a late timer is not the server's fault.
                Some(Instant::now()).filter(|now| *now < end)
            }
            Self::Open(tickets) => tickets.lock().await.recv().await,
        }
    }
}

/// A thread that sends the due instants: tokio's timer counts in whole milliseconds, and a hit takes less than one.
fn metronome(rate: f64, begin: Instant, end: Instant) -> UnboundedReceiver<Instant> {
    let (tickets, taken) = unbounded_channel();
    std::thread::spawn(move || tick(rate, begin, end, &tickets));
    taken
}

fn tick(rate: f64, begin: Instant, end: Instant, tickets: &UnboundedSender<Instant>) {
    for number in 0u32.. {
        let due = begin + Duration::from_secs_f64(f64::from(number) / rate);
        if due >= end {
            return;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if tickets.send(due).is_err() {
            // The load was stopped, so nobody receives the instants.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_pace_is_due_at_even_distances() {
        let begin = Instant::now() - Duration::from_secs(1);
        let end = begin + Duration::from_millis(500);
        let mut schedules = Schedule::all(&Pace::Open { rate: 10.0 }, 2, begin, end);
        let mut due = Vec::new();
        while let Some(instant) = schedules[due.len() % 2].next(end).await {
            due.push((instant - begin).as_millis());
        }
        assert_eq!(due, [0, 100, 200, 300, 400]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_pauses_between_its_requests_but_not_before_the_first() {
        let think = Duration::from_secs(1)..=Duration::from_secs(2);
        let end = Instant::now() + Duration::from_secs(60);
        let mut schedule = Schedule::all(&Pace::Closed { think }, 1, Instant::now(), end).remove(0);
        let started = tokio::time::Instant::now();
        schedule.next(end).await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO);
        schedule.next(end).await.unwrap();
        assert!((1.0..=2.01).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
    }
}
