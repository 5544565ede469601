//! Workers: a runtime a core, each on a thread of its own.
//!
//! A request is read, answered and written on one thread, and its connection to Redis lives there, too, so no step of it wakes
//! another core. On the work-stealing runtime a hit cost a sixth more (15.6 us of CPU for 13.3).

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

thread_local! {
    /// Which worker this thread is. Threads of other runtimes, as in tests, count as the first.
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// Runtimes that take connections in turn.
///
/// SO_REUSEPORT is not used: its hash may well give 64 connections to two cores as 38 and 26, and on macOS it does not spread
/// them at all.
#[derive(Debug)]
pub struct Workers {
    runtimes: Vec<Handle>,
    turn: AtomicUsize,
    threads: Vec<Thread>,
}

/// A thread with a runtime that ends when this is dropped.
#[derive(Debug)]
struct Thread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// The calling runtime alone, whatever it is.
    pub fn here() -> Self {
        Self { runtimes: vec![Handle::current()], turn: AtomicUsize::new(0), threads: Vec::new() }
    }

    /// One worker for each core. The calling runtime is the first one and should have one thread.
    pub fn one_a_core() -> io::Result<Self> {
        let mut workers = Self::here();
        for index in 1..cores() {
            workers.start(index)?;
        }
        Ok(workers)
    }

    fn start(&mut self, index: usize) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        self.runtimes.push(runtime.handle().clone());
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            WORKER.set(index);
            // The sender is dropped to stop the worker.
            let _ = runtime.block_on(stopped);
            // A worker that ends does not wait for the lookup of a name.
            runtime.shutdown_background();
        })?;
        self.threads.push(Thread { stop: Some(stop), thread: Some(thread) });
        Ok(())
    }

    /// The number of workers.
    pub fn count(&self) -> usize {
        self.runtimes.len()
    }

    /// Runs a task on each worker, and waits for all of them.
    pub async fn each<F>(&self, mut task: impl FnMut() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks: Vec<_> = self.runtimes.iter().map(|runtime| runtime.spawn(task())).collect();
        for task in tasks {
            // A task that panicked has logged it.
            let _ = task.await;
        }
    }

    /// The worker whose turn it is.
    pub fn next(&self) -> &Handle {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.runtimes[turn % self.runtimes.len()]
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has logged it.
            let _ = thread.join();
        }
    }
}

/// One value for each worker, so that workers share no lock and no connection.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[T]>);

impl<T> PerWorker<T> {
    /// Makes the value of each worker.
    pub fn new(make: impl FnMut(usize) -> T) -> Self {
        Self((0..cores()).map(make).collect())
    }

    /// The values of all workers.
    pub fn all(&self) -> &[T] {
        &self.0
    }

    /// The calling worker's own.
    pub fn own(&self) -> &T {
        &self.0[WORKER.get() % self.0.len()]
    }
}

/// The number of cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_worker_waits_for_no_lookup() {
        let mut workers = Workers::here();
        workers.start(1).unwrap();
        let (answer, asked) = mpsc::channel::<()>();
        let lookup = async { drop(tokio::task::spawn_blocking(move || asked.recv())) };
        workers.runtimes[1].spawn(lookup).await.unwrap();
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            drop(workers);
            ended.send(()).unwrap();
        });
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(()));
        drop(answer);
    }

    #[tokio::test]
    async fn each_worker_has_its_own_and_its_turn() {
        let workers = Workers::one_a_core().unwrap();
        let own = std::sync::Arc::new(PerWorker::new(|index| index));
        for round in 0..2 * cores() {
            let own = own.clone();
            let seen = workers.next().spawn(async move { *own.own() }).await.unwrap();
            assert_eq!(seen, round % cores());
        }
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        workers
            .each(|| {
                let (own, seen) = (own.clone(), seen.clone());
                async move { seen.lock().unwrap().push(*own.own()) }
            })
            .await;
        seen.lock().unwrap().sort_unstable();
        assert_eq!(*seen.lock().unwrap(), (0..cores()).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_worker_ends_with_its_tasks() {
        let (sender, receiver) = oneshot::channel::<()>();
        let mut workers = Workers::here();
        workers.start(1).unwrap();
        workers.runtimes[1].spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        drop(workers);
        assert!(receiver.await.is_err());
    }
}
