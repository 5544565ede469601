//! The slowest answers of the origin in the last minutes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How many answers are kept.
const ANSWERS: usize = 20;

/// How long an answer is kept.
const WINDOW: Duration = Duration::from_secs(600);

/// An answer of the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlowAnswer {
    /// When its head arrived.
    pub(crate) time: SystemTime,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) status: u16,
    /// The time from the request to the head, including the wait for a slot.
    pub(crate) took: Duration,
}

/// The slowest answers, the slowest first.
#[derive(Debug, Default)]
pub(crate) struct SlowAnswers(Mutex<Vec<SlowAnswer>>);

impl SlowAnswers {
    /// Keeps an answer if it is one of the slowest. Each page has at most one.
    pub(crate) fn keep(&self, answer: SlowAnswer) {
        let mut slowest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |kept: &SlowAnswer| kept.url == answer.url && kept.method == answer.method;
        if slowest
            .iter()
            .any(|kept| is_same(kept) && is_recent(kept, answer.time) && kept.took >= answer.took)
        {
            return;
        }
        slowest.retain(|kept| !is_same(kept) && is_recent(kept, answer.time));
        let place = slowest.partition_point(|kept| kept.took >= answer.took);
        slowest.insert(place, answer);
        slowest.truncate(ANSWERS);
    }

    /// The slowest answers of the last minutes, the slowest first.
    pub(crate) fn all(&self, now: SystemTime) -> Vec<SlowAnswer> {
        let slowest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slowest.iter().filter(|kept| is_recent(kept, now)).cloned().collect()
    }
}

fn is_recent(answer: &SlowAnswer, now: SystemTime) -> bool {
    // A clock that was set back leaves times in the future.
    now.duration_since(answer.time).is_ok_and(|since| since < WINDOW)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn answer(second: u64, milliseconds: u64) -> SlowAnswer {
        SlowAnswer {
            time: UNIX_EPOCH + Duration::from_secs(second),
            method: "GET".to_owned(),
            url: format!("/{milliseconds}"),
            status: 200,
            took: Duration::from_millis(milliseconds),
        }
    }

    #[test]
    fn the_slowest_are_kept_in_order_until_they_are_old() {
        let slowest = SlowAnswers::default();
        for (second, milliseconds) in [(0, 900), (100, 5), (100, 70), (650, 20)] {
            slowest.keep(answer(second, milliseconds));
        }
        let now = UNIX_EPOCH + Duration::from_secs(650);
        let kept: Vec<_> = slowest.all(now).iter().map(|answer| answer.took.as_millis()).collect();
        assert_eq!(kept, [70, 20, 5]);
        assert_eq!(slowest.all(now + WINDOW), []);
    }

    #[test]
    fn of_a_page_the_slowest_answer_is_kept() {
        let slowest = SlowAnswers::default();
        for (second, milliseconds) in [(1, 20), (2, 50), (3, 30)] {
            slowest.keep(SlowAnswer { url: "/".to_owned(), ..answer(second, milliseconds) });
        }
        let kept = slowest.all(UNIX_EPOCH + Duration::from_secs(4));
        assert_eq!((kept.len(), kept[0].took.as_millis()), (1, 50));
    }

    #[test]
    fn no_more_than_the_slowest_are_kept() {
        let slowest = SlowAnswers::default();
        (0..10 * ANSWERS as u64).for_each(|milliseconds| slowest.keep(answer(1, milliseconds)));
        let kept = slowest.all(UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!((kept.len(), kept[0].took.as_millis()), (ANSWERS, 199));
    }
}
