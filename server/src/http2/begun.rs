//! Runs the streams that hyper hands over. Most are answered at once, and cost no task.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::Executor;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The streams that have begun since the last [`run`](BegunStreams::run).
#[derive(Clone, Default)]
pub(super) struct BegunStreams(Arc<Mutex<Vec<Stream>>>);

impl BegunStreams {
    /// Runs each stream until it first waits. Streams that wait go on as tasks. Returns whether there were any.
    pub(super) fn run(&self, cx: &mut Context<'_>) -> bool {
        let begun = mem::take(&mut *self.lock());
        let were_any = !begun.is_empty();
        for mut stream in begun {
            // As in a task, a panic ends its own stream only.
            let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(cx)));
            if matches!(polled, Ok(Poll::Pending)) {
                tokio::spawn(stream);
            }
        }
        were_any
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        // A panic elsewhere leaves whole streams.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for BegunStreams {
    fn execute(&self, stream: F) {
        self.lock().push(Box::pin(stream));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::runtime::Handle;
    use tokio::sync::oneshot;

    use super::*;

    async fn run(begun: &BegunStreams) -> bool {
        poll_fn(|cx| Poll::Ready(begun.run(cx))).await
    }

    #[tokio::test]
    async fn a_stream_that_is_answered_at_once_costs_no_task() {
        let (begun, tasks) = (BegunStreams::default(), || Handle::current().metrics().num_alive_tasks());
        let before = tasks();
        let (answered, mut answer) = oneshot::channel();
        begun.execute(async { answered.send(()).unwrap() });
        answer.try_recv().unwrap_err();
        assert!(run(&begun).await);
        answer.try_recv().unwrap();
        assert_eq!(tasks(), before);
        assert!(!run(&begun).await);
    }

    #[tokio::test]
    async fn a_stream_that_panics_ends_alone() {
        let begun = BegunStreams::default();
        let (answered, mut answer) = oneshot::channel();
        begun.execute(async { panic!("a stream of the test") });
        begun.execute(async { answered.send(()).unwrap() });
        assert!(run(&begun).await);
        answer.try_recv().unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_waits_goes_on_without_its_connection() {
        let begun = BegunStreams::default();
        let (page, waits) = oneshot::channel();
        let (answered, answer) = oneshot::channel();
        begun.execute(async {
            waits.await.unwrap();
            answered.send(()).unwrap();
        });
        assert!(run(&begun).await);
        drop(begun);
        page.send(()).unwrap();
        answer.await.unwrap();
    }
}
