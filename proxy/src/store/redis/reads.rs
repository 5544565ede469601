//! Batches the reads of many requests.
//!
//! A worker has one batch of reads under way, and one that waits for it: requests that arrive meanwhile join the waiting
//! batch. A batch is closed before it is sent, and a closed batch is never joined, so that no request sees an older value
//! than it would have seen alone. Requests for the same keys share a read. The busier the proxy, the more requests share
//! the system calls, wake-ups and commands, which are most of the cost of a hit; Redis has less work, too.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use server::in_time;
use smallvec::{SmallVec, smallvec};
use tokio::sync::SetOnce;
use tokio::time::Instant;

use crate::key::Key;
use crate::store::StoreError;

/// The keys of one read.
pub(super) type KeyList = SmallVec<[Key; 2]>;

/// The reads of a batch. A small batch needs no allocation.
pub(super) type ReadList = SmallVec<[KeyList; 4]>;

/// The values of a read, in the order of its keys.
pub(super) type ReadOutcome = Result<SmallVec<[Option<Bytes>; 2]>, StoreError>;

/// The outcomes of a batch, in the order of its reads.
pub(super) type Outcomes = SmallVec<[ReadOutcome; 1]>;

/// The reads of one worker. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads(Arc<Mutex<Batches>>);

#[derive(Debug, Default)]
struct Batches {
    /// The batch under way.
    closed: Option<Arc<Batch>>,
    /// The waiting batch, with its reads.
    open: Option<(Arc<Batch>, ReadList)>,
}

/// The outcomes of reads that are sent together; `None` if the leader was dropped.
#[derive(Debug, Default)]
pub(super) struct Batch(SetOnce<Option<Outcomes>>);

/// A read in a batch.
pub(super) struct Part {
    batch: Arc<Batch>,
    index: usize,
    /// The right to send the batch; only the read that opened it has it.
    pub(super) leader: Option<ReadLeader>,
}

/// The right to send a batch, and the duty to pass its outcomes to the other requests.
pub(super) struct ReadLeader {
    all: Reads,
    batch: Arc<Batch>,
    /// The batch that was under way when this one was opened.
    before: Option<Arc<Batch>>,
}

impl Reads {
    /// Joins the open batch, or opens one.
    pub(super) fn join(&self, keys: KeyList) -> Part {
        let batches = &mut *self.lock();
        if let Some((batch, reads)) = &mut batches.open {
            let index = reads.iter().position(|other| *other == keys).unwrap_or_else(|| {
                reads.push(keys);
                reads.len() - 1
            });
            return Part { batch: batch.clone(), index, leader: None };
        }
        let batch = Arc::new(Batch::default());
        batches.open = Some((batch.clone(), smallvec![keys]));
        let leader = ReadLeader { all: self.clone(), batch: batch.clone(), before: batches.closed.clone() };
        Part { batch, index: 0, leader: Some(leader) }
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// The outcome of the read; `None` if the leader was dropped first.
    pub(super) async fn outcome(&self) -> Option<&ReadOutcome> {
        self.batch.0.wait().await.as_ref()?.get(self.index)
    }
}

impl ReadLeader {
    /// Lets other requests join, then closes the batch and returns its reads. Waits for the batch under way to end or, if
    /// there is none, for the tasks that are ready to run. Returns `None` at the deadline.
    pub(super) async fn close(&mut self, deadline: Instant) -> Option<ReadList> {
        match self.before.take() {
            Some(before) => drop(in_time(deadline, before.0.wait()).await?),
            None => let_pass().await,
        }
        let mut batches = self.all.lock();
        let (batch, reads) = batches.open.take()?;
        batches.closed = Some(batch);
        Some(reads)
    }

    /// Passes the outcomes to all requests of the batch.
    pub(super) fn answer(self, outcomes: Outcomes) {
        // This cannot fail: only the leader sets the outcomes, once.
        let _ = self.batch.0.set(Some(outcomes));
    }
}

impl Drop for ReadLeader {
    fn drop(&mut self) {
        let mut batches = self.all.lock();
        batches.closed.take_if(|batch| Arc::ptr_eq(batch, &self.batch));
        batches.open.take_if(|(batch, _)| Arc::ptr_eq(batch, &self.batch));
        drop(batches);
        // Has no effect if the leader has answered.
        let _ = self.batch.0.set(None);
    }
}

/// Lets the tasks run that are ready now. [`tokio::task::yield_now`] would also poll for new events, which is a system
/// call.
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
    use std::time::Duration;

    use super::*;

    fn join(reads: &Reads, key: &str) -> Part {
        reads.join(smallvec![Key::new(key)])
    }

    async fn close(part: &mut Part) -> Option<ReadList> {
        let leader = part.leader.as_mut().expect("the part has opened the batch");
        leader.close(Instant::now() + Duration::from_secs(5)).await
    }

    fn answer(part: &mut Part, texts: &[&'static str]) {
        let outcomes = texts.iter().map(|text| Ok(smallvec![Some(Bytes::from_static(text.as_bytes()))]));
        part.leader.take().unwrap().answer(outcomes.collect());
    }

    async fn got(part: &Part) -> Option<Bytes> {
        part.outcome().await.map(|outcome| outcome.clone().unwrap()[0].clone().unwrap())
    }

    #[tokio::test]
    async fn requests_that_arrive_before_a_batch_is_sent_share_it_and_equal_requests_share_a_read() {
        let reads = Reads::default();
        let mut first = join(&reads, "a");
        let (same, other) = (join(&reads, "a"), join(&reads, "b"));
        assert!(same.leader.is_none() && other.leader.is_none());
        let keys = close(&mut first).await.unwrap();
        assert_eq!(keys.into_iter().flatten().collect::<Vec<_>>(), [Key::new("a"), Key::new("b")]);
        answer(&mut first, &["page a", "page b"]);
        for (part, text) in [(&first, "page a"), (&same, "page a"), (&other, "page b")] {
            assert_eq!(got(part).await.unwrap(), text);
        }
        let batches = reads.lock();
        assert!(batches.open.is_none() && batches.closed.is_none());
    }

    #[tokio::test]
    async fn a_batch_that_was_sent_is_not_joined_and_the_next_waits_for_it() {
        let reads = Reads::default();
        let mut sent = join(&reads, "a");
        close(&mut sent).await.unwrap();
        let mut next = join(&reads, "a");
        let waiting = tokio::spawn(async move {
            close(&mut next).await.unwrap();
            next
        });
        tokio::task::yield_now().await;
        let joined = join(&reads, "a");
        assert!(joined.leader.is_none() && !waiting.is_finished());
        answer(&mut sent, &["old"]);
        let mut next = waiting.await.unwrap();
        answer(&mut next, &["new"]);
        assert_eq!(got(&joined).await.unwrap(), "new");
        assert_eq!(got(&sent).await.unwrap(), "old");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_waits_no_longer_than_its_deadline_for_the_batch_under_way() {
        let reads = Reads::default();
        let mut sent = join(&reads, "a");
        close(&mut sent).await.unwrap();
        let mut next = join(&reads, "a");
        let joined = join(&reads, "a");
        assert!(close(&mut next).await.is_none());
        drop(next);
        assert!(got(&joined).await.is_none());
        assert!(join(&reads, "a").leader.is_some());
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_releases_the_requests_that_joined() {
        let reads = Reads::default();
        for is_sent in [false, true] {
            let mut first = join(&reads, "a");
            let joined = join(&reads, "b");
            if is_sent {
                close(&mut first).await.unwrap();
            }
            drop(first);
            assert!(got(&joined).await.is_none());
        }
    }
}
