//! Load: crowds of users that request pages. A request's time runs from when it was due to the last byte of its answer.
//!
//! There is one loop, [`User::ask_on`]. The [`Pace`] decides when a request is due, [`Load::start`] when a user starts.

mod pace;
mod sample;
mod target;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::HeaderMap;
use tokio::sync::Barrier;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(crate) use self::pace::Pace;
use self::pace::Schedule;
pub(crate) use self::sample::{Answer, Cache, Failure, Fault, Sample};
use self::target::Connection;
pub(crate) use self::target::{Target, TargetError};

/// Longer than any reader waits, but long enough for an overloaded origin.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the load waits at its end for answers under way. Dropping them would hide the slowest ones.
const GRACE: Duration = Duration::from_secs(10);

/// The pause of a user after a fault, so that a server that is down is not flooded.
const PAUSE: Duration = Duration::from_millis(100);

/// Users of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    /// The pages of one server. Each user asks for all of them in turn. Each user begins at a different page.
    pub(crate) targets: Arc<[Target]>,
    pub(crate) users: usize,
    pub(crate) pace: Pace,
}

impl Crowd {
    /// Users who all ask for the same page.
    pub(crate) fn of(target: Target, users: usize, pace: Pace) -> Self {
        Self { targets: Arc::new([target]), users, pace }
    }
}

/// How users start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    /// All connect first, then send together.
    Together,
    /// One after the other, at this rate per second, the kinds evenly mixed.
    Rate(f64),
}

/// When the load ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// When each user has sent one request.
    Once,
    /// No request is due after this time; the load waits for those under way.
    After(Duration),
}

/// The description of a load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) crowds: Vec<Crowd>,
    pub(crate) arrival: Arrival,
    pub(crate) end: End,
}

impl Load {
    /// `count` requests at once, each by its own user on its own connection, as with the article's curls.
    pub(crate) fn at_once(target: &Target, count: usize) -> Self {
        let pace = Pace::Closed { think: Duration::ZERO..=Duration::ZERO };
        let crowd = Crowd::of(target.clone(), count, pace);
        Self { crowds: vec![crowd], arrival: Arrival::Together, end: End::Once }
    }

    /// Starts the load.
    pub(crate) fn start(&self) -> Running {
        let begin = Instant::now();
        let end = match self.end {
            // The time to connect, and the time for the answer.
            End::Once => begin + 3 * DEADLINE,
            End::After(time) => begin + time,
        };
        let counts: Vec<_> = self.crowds.iter().map(|crowd| crowd.users).collect();
        let start = matches!(self.arrival, Arrival::Together)
            .then(|| Arc::new(Barrier::new(counts.iter().sum::<usize>())));
        let mut schedules: Vec<_> =
            self.crowds.iter().map(|crowd| Schedule::all(&crowd.pace, crowd.users, begin, end)).collect();
        let (samples, taken) = unbounded_channel();
        let mut users = JoinSet::new();
        for (number, crowd) in mixed(&counts).into_iter().enumerate() {
            let comes = begin + self.arrival.delay(number);
            // A user that would start after the end is left out.
            let Some(schedule) = schedules[crowd].pop().filter(|_| comes < end) else { continue };
            let Crowd { targets, users: all, .. } = &self.crowds[crowd];
            let user = User {
                crowd,
                targets: Arc::clone(targets),
                // Users of a crowd take their schedules from the last to the first.
                next: schedules[crowd].len() * targets.len() / all,
                schedule,
                comes,
                start: start.clone(),
                clock: Clock { begin, end, cut: end + GRACE, once: matches!(self.end, End::Once) },
                samples: samples.clone(),
            };
            users.spawn(user.ask_on());
        }
        Running { begin, users, samples: taken }
    }

    /// The duration of the load, in seconds; 0 for `End::Once`.
    pub(crate) fn seconds(&self) -> u64 {
        match self.end {
            End::Once => 0,
            End::After(time) => time.as_secs(),
        }
    }

    /// How many users have started by then.
    pub(crate) fn users_after(&self, elapsed: Duration) -> usize {
        let all = self.crowds.iter().map(|crowd| crowd.users).sum();
        match self.arrival {
            Arrival::Together => all,
            Arrival::Rate(rate) => all.min((elapsed.as_secs_f64() * rate) as usize + 1),
        }
    }

    /// Runs the load, and returns all samples in the order of their answers.
    pub(crate) async fn run(&self) -> Vec<Sample> {
        let mut running = self.start();
        let mut samples = Vec::new();
        while let Some(sample) = running.next().await {
            samples.push(sample);
        }
        samples
    }
}

impl Arrival {
    fn delay(self, number: usize) -> Duration {
        match self {
            Self::Together => Duration::ZERO,
            Self::Rate(rate) => Duration::from_secs_f64(number as f64 / rate),
        }
    }
}

/// A running load. Dropping it ends the load at once.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) begin: Instant,
    users: JoinSet<()>,
    samples: UnboundedReceiver<Sample>,
}

impl Running {
    /// The next sample; `None` when all users are done.
    pub(crate) async fn next(&mut self) -> Option<Sample> {
        let sample = self.samples.recv().await;
        if sample.is_none() {
            while let Some(user) = self.users.join_next().await {
                // A panic in a user is a bug here, and must not look like requests that were never made.
                user.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            }
        }
        sample
    }
}

/// Instants that all users share.
#[derive(Clone, Copy, Debug)]
struct Clock {
    begin: Instant,
    end: Instant,
    /// From this instant on, no user waits for an answer.
    cut: Instant,
    once: bool,
}

/// One user.
struct User {
    crowd: usize,
    targets: Arc<[Target]>,
    /// The index of the target of the next request.
    next: usize,
    schedule: Schedule,
    comes: Instant,
    start: Option<Arc<Barrier>>,
    clock: Clock,
    samples: UnboundedSender<Sample>,
}

impl User {
    /// Sends each request when it is due, until the end.
    async fn ask_on(mut self) {
        sleep(self.comes.saturating_duration_since(Instant::now())).await;
        let (mut connection, mut fault) = match in_time(DEADLINE, self.targets[0].connect()).await {
            Ok(open) => (Some(open), None),
            Err(fault) => (None, Some(fault)),
        };
        if let Some(start) = &self.start {
            // A user that could not connect waits here, too: otherwise the others would wait for ever.
            start.wait().await;
        }
        while let Some(due) = self.schedule.next(self.clock.end).await {
            let outcome = match fault.take() {
                Some(fault) => Err(fault),
                None => self.ask(&mut connection).await,
            };
            let pause = outcome.is_err() && self.schedule.is_closed();
            let sample =
                Sample { crowd: self.crowd, due: due - self.clock.begin, took: due.elapsed(), outcome };
            if self.samples.send(sample).is_err() || self.clock.once {
                return;
            }
            if pause {
                sleep(PAUSE).await;
            }
        }
    }

    async fn ask(&mut self, connection: &mut Option<Connection>) -> Result<Answer, Fault> {
        let target = &self.targets[self.next];
        self.next = (self.next + 1) % self.targets.len();
        let left = self.clock.cut.saturating_duration_since(Instant::now());
        let whole = in_time(DEADLINE.min(left), target.ask(connection)).await;
        if whole.is_err() {
            // A late answer must not be taken for the answer to the next request.
            *connection = None;
        }
        Ok(whole?.answer)
    }
}

/// A single request and its whole answer; headers and body are empty if there is none.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) sample: Sample,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Sends one request, on a connection that is made before its time begins.
pub(crate) async fn one(target: &Target) -> Visit {
    let connected = in_time(DEADLINE, target.connect()).await;
    let due = Instant::now();
    let whole = match connected {
        Ok(open) => in_time(DEADLINE, target.ask(&mut Some(open))).await,
        Err(fault) => Err(fault),
    };
    let took = due.elapsed();
    let (outcome, headers, body) = match whole {
        Ok(whole) => (Ok(whole.answer), whole.headers, whole.body),
        Err(fault) => (Err(fault), HeaderMap::new(), Bytes::new()),
    };
    Visit { sample: Sample { crowd: 0, due: Duration::ZERO, took, outcome }, headers, body }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(limit, work).await.unwrap_or(Err(Fault::Deadline))
}

/// The order in which users start: at any time, the kinds are as evenly mixed as possible.
fn mixed(counts: &[usize]) -> Vec<usize> {
    let total: usize = counts.iter().sum();
    let mut there = vec![0; counts.len()];
    (1..=total)
        .map(|number| {
            let lack = |kind: usize| (counts[kind] * number).saturating_sub(there[kind] * total);
            // Of equal kinds, this takes the first.
            let next = (0..counts.len()).rev().max_by_key(|kind| lack(*kind)).unwrap_or(0);
            there[next] += 1;
            next
        })
        .collect()
}

#[cfg(test)]
mod tests;
