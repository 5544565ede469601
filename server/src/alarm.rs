//! Deadlines of requests. Each request sets some of them, and hardly ever reaches one.
//!
//! tokio's own timer enters and leaves the runtime's wheel for each request, which takes 0.4 us of 9. If it is the first timer
//! that is due, as a store's deadline is, it also wakes the runtime by a system call. An alarm is set once and left set. When
//! it rings, mostly for a request that is long over, it is set to the deadline of the task's present request.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt::{Sleep as HyperSleep, Timer};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep, sleep_until};

/// How many alarms a thread keeps for the next that need one.
const SPARE: usize = 1024;

thread_local! {
    static ALARMS: RefCell<Spare> = const { RefCell::new(Spare { runtime: None, alarms: Vec::new() }) };
}

/// Alarms that are still set, and the runtime that they belong to: tests have several runtimes on one thread.
struct Spare {
    runtime: Option<Id>,
    alarms: Vec<Pin<Box<Sleep>>>,
}

/// An alarm. It serves one deadline of one task at a time.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready from the deadline on.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let alarm = self.0.get_or_insert_with(|| spare().unwrap_or_else(|| Box::pin(sleep_until(deadline))));
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() == deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let (Some(alarm), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        // A thread that ends keeps none.
        let _ = ALARMS.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.runtime != Some(runtime.id()) {
                *spare = Spare { runtime: Some(runtime.id()), alarms: Vec::new() };
            }
            if spare.alarms.len() < SPARE {
                spare.alarms.push(alarm);
            }
        });
    }
}

/// A spare alarm that another task has left.
fn spare() -> Option<Pin<Box<Sleep>>> {
    ALARMS.with_borrow_mut(|spare| {
        let runtime = spare.runtime;
        spare.alarms.pop_if(|_| runtime == Some(Handle::current().id()))
    })
}

/// The output of a future, if it is ready before the deadline.
pub async fn in_time<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let (mut future, mut alarm) = (pin!(future), Alarm::default());
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => alarm.poll(cx, deadline).map(|()| None),
    })
    .await
}

/// The deadlines that hyper sets for one connection.
#[derive(Clone, Default)]
pub(crate) struct LazyTimer(Arc<Mutex<Alarm>>);

struct LazySleep {
    timer: LazyTimer,
    deadline: Instant,
}

impl Timer for LazyTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn HyperSleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn HyperSleep>> {
        Box::pin(LazySleep { timer: self.clone(), deadline: deadline.into() })
    }

    fn now(&self) -> StdInstant {
        Instant::now().into()
    }
}

impl HyperSleep for LazySleep {}

impl Future for LazySleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.0.lock().unwrap_or_else(PoisonError::into_inner).poll(cx, self.deadline)
    }
}

impl fmt::Debug for LazyTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LazyTimer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_alarm_is_left_to_the_next_and_rings_at_its_deadline_alone() {
        let start = Instant::now();
        for (set, seconds) in [(0, 10), (10, 12), (12, 13)] {
            assert_eq!(start.elapsed(), set * SECOND);
            assert_eq!(in_time(start + 20 * SECOND, tokio::task::yield_now()).await, Some(()));
            assert_eq!(in_time(start + seconds * SECOND, std::future::pending::<()>()).await, None);
            assert_eq!(start.elapsed(), seconds * SECOND);
            // Two alarms at a time are two.
            let both = tokio::join!(
                in_time(start + seconds * SECOND, std::future::pending::<()>()),
                in_time(start + seconds * SECOND, std::future::ready(())),
            );
            assert_eq!(both, (None, Some(())));
        }
        ALARMS.with_borrow(|spare| assert_eq!(spare.alarms.len(), 1));
    }

    #[test]
    fn alarms_of_a_runtime_that_is_gone_are_not_used_again() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let soon = Instant::now() + Duration::from_millis(1);
                assert_eq!(in_time(soon, std::future::pending::<()>()).await, None);
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whatever_the_alarm_was_set_to_before() {
        let timer = LazyTimer::default();
        let start = timer.now();
        for (set, seconds) in [(0, 10), (10, 20), (20, 23), (23, 24)] {
            assert_eq!(timer.now() - start, set * SECOND);
            // A sleep that ends early leaves its alarm set.
            let mut early = timer.sleep(30 * SECOND);
            assert!(std::future::poll_fn(|cx| Poll::Ready(early.as_mut().poll(cx))).await.is_pending());
            drop(early);
            timer.sleep_until(start + seconds * SECOND).await;
            assert_eq!(timer.now() - start, seconds * SECOND);
        }
        let mut late = timer.sleep(SECOND);
        assert!(std::future::poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx))).await.is_pending());
        drop(late);
        timer.sleep(5 * SECOND).await;
        assert_eq!(timer.now() - start, 29 * SECOND, "an alarm that rings too early is set anew");
    }
}
