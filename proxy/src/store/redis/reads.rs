//! Reads of a page that many ask for, sent as few.
//!
//! Of each page a worker has one read under way, and one that waits for it: whoever comes meanwhile joins that one. It is
//! sent after each of them came, so that none sees an older value than it would have seen alone; one that was sent is never
//! joined. The more requests there are, the more share a read: under load it is commands, replies, and copies of the page
//! that a hit costs most for, and Redis has less to do, too.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use quick_cache::DefaultHashBuilder;
use server::in_time;
use smallvec::SmallVec;
use tokio::sync::SetOnce;
use tokio::time::Instant;

use crate::key::Key;
use crate::store::StoreError;

/// The keys of one read.
pub(super) type KeyList = SmallVec<[Key; 2]>;

/// What a read brought, for each who asked for it: the values in the order of the keys.
pub(super) type Outcome = Result<Vec<Option<Bytes>>, StoreError>;

/// The reads of one worker. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads(Arc<Mutex<HashMap<KeyList, KeyReads, DefaultHashBuilder>>>);

/// The reads of some keys.
#[derive(Debug, Default)]
struct KeyReads {
    sent: Option<Arc<SharedRead>>,
    /// Not yet sent.
    open: Option<Arc<SharedRead>>,
}

/// A read, and what has come of it: nothing, if its reader left.
#[derive(Debug, Default)]
pub(super) struct SharedRead(SetOnce<Option<Outcome>>);

/// What to do about a read.
pub(super) enum Part {
    /// Send it.
    Lead(ReadLeader),
    /// Wait for who does.
    Join(Arc<SharedRead>),
}

/// The right to send a read, and the duty to tell who joined it.
pub(super) struct ReadLeader {
    all: Reads,
    keys: KeyList,
    read: Arc<SharedRead>,
    /// The one that is under way.
    before: Option<Arc<SharedRead>>,
}

impl Reads {
    /// Joins the open read of the same keys, or opens one.
    pub(super) fn part(&self, keys: KeyList) -> Part {
        let mut reads = self.reads();
        if let Some(KeyReads { open: Some(read), .. }) = reads.get(&keys) {
            return Part::Join(read.clone());
        }
        let read = Arc::new(SharedRead::default());
        let KeyReads { sent, open } = reads.entry(keys.clone()).or_default();
        *open = Some(read.clone());
        Part::Lead(ReadLeader { all: self.clone(), keys, read, before: sent.clone() })
    }

    fn reads(&self) -> MutexGuard<'_, HashMap<KeyList, KeyReads, DefaultHashBuilder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedRead {
    /// What it brought; nothing, if its reader left before that.
    pub(super) async fn outcome(&self) -> Option<&Outcome> {
        self.0.wait().await.as_ref()
    }
}

impl ReadLeader {
    /// Lets others join until the read may be sent: while another is under way, or else those that are at hand. Whether
    /// that was before the deadline.
    pub(super) async fn close(&mut self, deadline: Instant) -> bool {
        match self.before.take() {
            Some(before) if in_time(deadline, before.outcome()).await.is_none() => return false,
            Some(_) => {}
            None => let_pass().await,
        }
        if let Some(reads) = self.all.reads().get_mut(&self.keys) {
            reads.sent = reads.open.take();
        }
        true
    }

    /// Tells all who joined.
    pub(super) fn answer(self, outcome: Outcome) {
        // It is this one's to say, and it has not.
        let _ = self.read.0.set(Some(outcome));
    }
}

impl Drop for ReadLeader {
    fn drop(&mut self) {
        let mut all = self.all.reads();
        if let Some(reads) = all.get_mut(&self.keys) {
            for read in [&mut reads.sent, &mut reads.open] {
                read.take_if(|read| Arc::ptr_eq(read, &self.read));
            }
            if reads.sent.is_none() && reads.open.is_none() {
                all.remove(&self.keys);
            }
        }
        drop(all);
        let _ = self.read.0.set(None);
    }
}

/// Lets the tasks go on that are ready to. Unlike [`tokio::task::yield_now`] it does not look for more of them, which is
/// a system call.
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

    fn part(turn: &Reads, key: &str) -> Part {
        turn.part(smallvec::smallvec![Key::new(key)])
    }

    fn lead(turn: &Reads, key: &str) -> ReadLeader {
        match part(turn, key) {
            Part::Lead(lead) => lead,
            Part::Join(_) => panic!("there is a read to join"),
        }
    }

    fn join(turn: &Reads, key: &str) -> Arc<SharedRead> {
        match part(turn, key) {
            Part::Join(read) => read,
            Part::Lead(_) => panic!("there is no read to join"),
        }
    }

    async fn close(lead: &mut ReadLeader) -> bool {
        lead.close(Instant::now() + Duration::from_secs(5)).await
    }

    fn page(text: &'static str) -> Outcome {
        Ok(vec![Some(text.into())])
    }

    async fn got(read: &SharedRead) -> Option<Outcome> {
        read.outcome().await.cloned()
    }

    #[tokio::test]
    async fn all_who_ask_before_it_is_sent_share_a_read() {
        let turn = Reads::default();
        let mut first = lead(&turn, "a");
        let other = lead(&turn, "b");
        let joined = [join(&turn, "a"), join(&turn, "a")];
        assert!(close(&mut first).await);
        first.answer(page("page"));
        for joined in joined {
            assert_eq!(got(&joined).await.unwrap().unwrap(), page("page").unwrap());
        }
        drop(other);
        assert!(turn.reads().is_empty());
    }

    #[tokio::test]
    async fn a_read_that_was_sent_is_not_joined_and_the_next_waits_for_it() {
        let turn = Reads::default();
        let mut sent = lead(&turn, "a");
        assert!(close(&mut sent).await);
        let mut next = lead(&turn, "a");
        let waiting = tokio::spawn(async move { close(&mut next).await.then_some(next) });
        tokio::task::yield_now().await;
        let joined = join(&turn, "a");
        assert!(!waiting.is_finished());
        sent.answer(page("old"));
        let next = waiting.await.unwrap().unwrap();
        let third = lead(&turn, "a");
        next.answer(page("new"));
        assert_eq!(got(&joined).await.unwrap().unwrap(), page("new").unwrap());
        drop(third);
        assert!(turn.reads().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_past_a_deadline_for_one_that_is_under_way() {
        let turn = Reads::default();
        let mut sent = lead(&turn, "a");
        assert!(close(&mut sent).await);
        let mut next = lead(&turn, "a");
        assert!(!close(&mut next).await);
        let joined = join(&turn, "a");
        drop(next);
        assert!(got(&joined).await.is_none());
        drop(sent);
        assert!(turn.reads().is_empty());
    }

    #[tokio::test]
    async fn who_joined_a_reader_that_left_is_told_so_and_the_next_may_go() {
        for was_sent in [false, true] {
            let turn = Reads::default();
            let mut first = lead(&turn, "a");
            let joined = join(&turn, "a");
            if was_sent {
                assert!(close(&mut first).await);
                let mut next = lead(&turn, "a");
                drop(first);
                assert!(close(&mut next).await);
                next.answer(page("page"));
            } else {
                drop(first);
            }
            assert!(got(&joined).await.is_none());
            assert!(turn.reads().is_empty());
        }
    }
}
