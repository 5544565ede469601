//! A timer for a connection, which sets a deadline for each request and hardly ever reaches one.
//!
//! tokio's own timer enters and leaves the runtime's wheel for each request, 0.4 us of 9. This one sets an alarm once
//! and lets it be: when it rings, mostly for a request that is long over, it is set to the deadline of the day.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// An alarm, for one deadline at a time.
#[derive(Default)]
pub(crate) struct Alarm(Option<Pin<Box<tokio::time::Sleep>>>);

impl Alarm {
    /// Ready from the deadline on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = deadline.into();
        let alarm = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
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

/// The deadlines that hyper sets for one connection.
#[derive(Clone, Default)]
pub(crate) struct LazyTimer(Arc<Mutex<Alarm>>);

struct LazySleep {
    timer: LazyTimer,
    deadline: Instant,
}

impl Timer for LazyTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(LazySleep { timer: self.clone(), deadline })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

impl Sleep for LazySleep {}

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
    async fn each_deadline_is_kept_whatever_the_alarm_was_set_to_before() {
        let timer = LazyTimer::default();
        let start = timer.now();
        for (set, seconds) in [(0, 10), (10, 20), (20, 23), (23, 24)] {
            assert_eq!(timer.now() - start, set * SECOND);
            // One that is over before its time leaves its alarm set.
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
