//! Batches the commands of many requests.
//!
//! A worker has one batch under way, and one that waits for it: requests that arrive meanwhile join the waiting batch. A batch
//! is closed before it is sent, and no request joins a closed batch, so no request sees an older value than it would have seen
//! alone. Equal reads are sent once. The busier the proxy, the more requests share the system calls, wake-ups and commands,
//! which are most of the cost of a hit. Redis has less work, too.
//!
//! A task runs the batches, so a client that leaves takes no connection with it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use server::in_time;
use tokio::sync::SetOnce;
use tokio::time::Instant;

use super::pool::{CommandOutcome, Commands, ConnectionPool, Outcomes};

/// How long a batch waits for the batch before it. Then it takes another connection.
const PATIENCE: Duration = Duration::from_millis(5);

/// Runs a batch of commands.
pub(super) trait RunCommands: Send + Sync + 'static {
    fn run(&self, commands: &Commands) -> impl Future<Output = Outcomes> + Send;
}

/// The batches of one worker.
#[derive(Debug)]
pub(super) struct Batches<R = ConnectionPool>(Arc<Shared<R>>);

#[derive(Debug)]
struct Shared<R> {
    connections: Arc<R>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The waiting batch, with its commands.
    open: Option<(Arc<Batch>, Commands)>,
    /// Whether a task will take the waiting batch.
    has_runner: bool,
    /// The memory of earlier commands, to be used again.
    spare: Option<Commands>,
}

/// The outcomes of commands that are sent together; `None` if their task has died.
#[derive(Debug, Default)]
struct Batch(SetOnce<Option<Outcomes>>);

/// One request's commands in a batch.
pub(super) struct BatchPart {
    batch: Arc<Batch>,
    first: usize,
    count: usize,
}

impl<R: RunCommands> Batches<R> {
    pub(super) fn new(connections: Arc<R>) -> Self {
        Self(Arc::new(Shared { connections, state: Mutex::default() }))
    }

    /// Adds a read to the batch that waits, unless it is there already.
    pub(super) fn read(&self, name: &'static str, arguments: &[&[u8]]) -> BatchPart {
        self.join(|commands| (commands.share(name, arguments), 1))
    }

    /// Adds commands to the batch that waits. `add` returns the index of the first and their number.
    pub(super) fn join(&self, add: impl FnOnce(&mut Commands) -> (usize, usize)) -> BatchPart {
        let mut locked = self.0.lock();
        let state = &mut *locked;
        let (batch, commands) =
            state.open.get_or_insert_with(|| (Arc::default(), state.spare.take().unwrap_or_default()));
        let (first, count) = add(commands);
        let part = BatchPart { batch: batch.clone(), first, count };
        let has_runner = std::mem::replace(&mut state.has_runner, true);
        // A runtime that ends drops the runner at once, which locks the state, too.
        drop(locked);
        if !has_runner {
            Runner::start(self.0.clone());
        }
        part
    }
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BatchPart {
    /// The outcomes of the commands; `None` if the task that ran them has died.
    pub(super) async fn outcomes(&self) -> Option<&[CommandOutcome]> {
        self.batch.0.wait().await.as_ref()?.get(self.first..self.first + self.count)
    }
}

/// The duty to take the waiting batch.
struct Runner<R: RunCommands> {
    shared: Arc<Shared<R>>,
    is_on_duty: bool,
}

/// A batch under way. Dropping it releases the requests that wait for it.
struct Closed(Arc<Batch>);

impl<R: RunCommands> Runner<R> {
    fn start(shared: Arc<Shared<R>>) {
        tokio::spawn(Self { shared, is_on_duty: true }.run());
    }

    /// Runs batches until none waits.
    async fn run(mut self) {
        while let Some((batch, mut commands)) = self.close() {
            self.send(batch, &commands).await;
            if !self.is_on_duty {
                return;
            }
            commands.clear();
            self.shared.lock().spare = Some(commands);
            // The requests that were just answered may ask again at once, and join the next batch.
            let_pass().await;
        }
    }

    /// Sends a batch. If it takes long, another task gets the duty meanwhile.
    async fn send(&mut self, batch: Closed, commands: &Commands) {
        let shared = self.shared.clone();
        let mut running = pin!(shared.connections.run(commands));
        if let Some(outcomes) = in_time(Instant::now() + PATIENCE, &mut running).await {
            return batch.answer(outcomes);
        }
        self.hand_over();
        batch.answer(running.await);
    }

    /// Takes the waiting batch. If there is none, the duty ends, and the next request starts a task.
    fn close(&mut self) -> Option<(Closed, Commands)> {
        let mut state = self.shared.lock();
        let open = state.open.take();
        (self.is_on_duty, state.has_runner) = (open.is_some(), open.is_some());
        open.map(|(batch, commands)| (Closed(batch), commands))
    }

    /// Leaves the waiting batch to another task.
    fn hand_over(&mut self) {
        let mut state = self.shared.lock();
        self.is_on_duty = false;
        state.has_runner = state.open.is_some();
        if state.has_runner {
            Self::start(self.shared.clone());
        }
    }
}

impl<R: RunCommands> Drop for Runner<R> {
    fn drop(&mut self) {
        if !self.is_on_duty {
            return;
        }
        // The runtime is ending. Requests of another runtime will join a new batch.
        let mut state = self.shared.lock();
        state.has_runner = false;
        drop(state.open.take().map(|(batch, _)| Closed(batch)));
    }
}

impl Closed {
    fn answer(self, outcomes: Outcomes) {
        // This cannot fail: only the task that has closed the batch sets its outcomes, once.
        let _ = self.0.0.set(Some(outcomes));
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        // Has no effect if the batch was answered.
        let _ = self.0.0.set(None);
    }
}

/// Runs the tasks that are ready now. [`tokio::task::yield_now`] would also poll for new events, which is a system call.
async fn let_pass() {
    let mut has_passed = false;
    poll_fn(|cx| match std::mem::replace(&mut has_passed, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use smallvec::smallvec;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;
    use crate::store::redis::resp::RedisReply;

    /// A Redis that notes how many commands come together, and answers when it is allowed to.
    struct Scripted {
        sent: mpsc::UnboundedSender<usize>,
        allowed: Semaphore,
    }

    impl RunCommands for Scripted {
        async fn run(&self, commands: &Commands) -> Outcomes {
            self.sent.send(commands.len()).unwrap();
            self.allowed.acquire().await.unwrap().forget();
            let value =
                |index: usize| Ok(RedisReply::Values(smallvec![Some(Bytes::from(index.to_string()))]));
            (0..commands.len()).map(value).collect()
        }
    }

    fn batches(allowed: usize) -> (Batches<Scripted>, mpsc::UnboundedReceiver<usize>) {
        let (sent, sizes) = mpsc::unbounded_channel();
        (Batches::new(Arc::new(Scripted { sent, allowed: Semaphore::new(allowed) })), sizes)
    }

    fn read(batches: &Batches<Scripted>, key: &str) -> BatchPart {
        batches.read("GET", &[key.as_bytes()])
    }

    async fn got(part: &BatchPart) -> Option<Bytes> {
        let [Ok(RedisReply::Values(values))] = part.outcomes().await? else { panic!("one value") };
        values[0].clone()
    }

    #[tokio::test]
    async fn requests_that_arrive_before_a_batch_is_sent_share_it_and_equal_reads_are_one() {
        let (batches, mut sizes) = batches(1);
        let parts = ["a", "a", "b"].map(|key| read(&batches, key));
        for (part, value) in parts.iter().zip(["0", "0", "1"]) {
            assert_eq!(got(part).await.unwrap(), value);
        }
        assert_eq!(sizes.recv().await, Some(2));
        tokio::task::yield_now().await;
        let state = batches.0.lock();
        assert!(state.open.is_none() && !state.has_runner);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_was_sent_is_not_joined_and_the_next_waits_for_it_but_not_for_long() {
        let (batches, mut sizes) = batches(0);
        let sent = read(&batches, "a");
        assert_eq!(sizes.recv().await, Some(1));
        let began = Instant::now();
        let next = ["a", "b", "c"].map(|key| read(&batches, key));
        assert_eq!(sizes.recv().await, Some(3));
        assert_eq!(began.elapsed(), PATIENCE);
        batches.0.connections.allowed.add_permits(2);
        assert_eq!(got(&sent).await.unwrap(), "0");
        for (part, value) in next.iter().zip(["0", "1", "2"]) {
            assert_eq!(got(part).await.unwrap(), value);
        }
    }

    #[tokio::test]
    async fn a_request_that_leaves_takes_nothing_with_it() {
        let (batches, mut sizes) = batches(0);
        drop(read(&batches, "a"));
        let stays = read(&batches, "b");
        assert_eq!(sizes.recv().await, Some(2));
        batches.0.connections.allowed.add_permits(1);
        assert_eq!(got(&stays).await.unwrap(), "1");
    }

    #[test]
    fn a_runtime_that_ends_releases_its_requests_and_the_next_serves() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (batches, mut sizes) = batches(0);
        let first = runtime();
        let (sent, waiting) = first.block_on(async {
            let sent = read(&batches, "a");
            sizes.recv().await;
            (sent, read(&batches, "b"))
        });
        drop(first);
        batches.0.connections.allowed.add_permits(1);
        runtime().block_on(async {
            assert!(got(&sent).await.is_none() && got(&waiting).await.is_none());
            assert_eq!(got(&read(&batches, "c")).await.unwrap(), "0");
        });
    }

    #[tokio::test]
    async fn a_request_on_a_runtime_that_has_ended_gets_nothing() {
        let (batches, _sizes) = batches(1);
        let other = batches.0.clone();
        let late = std::thread::spawn(|| {
            let ended = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let handle = ended.handle().clone();
            drop(ended);
            let _on_it = handle.enter();
            read(&Batches(other), "a")
        });
        assert!(got(&late.join().unwrap()).await.is_none());
    }
}
