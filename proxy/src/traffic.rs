//! The traffic beyond its counts, for operators: the pages that are hit most, and the slowest answers of the origin. Both are
//! bounded in memory, whatever is asked for.

mod hottest;
mod slowest;

use server::PerWorker;
use tokio::time::Instant;

use crate::request::Question;
use hottest::HotPages;
pub(crate) use hottest::{HotPage, PageFreshness};
pub(crate) use slowest::SlowAnswer;
use slowest::SlowAnswers;

/// A URL is kept up to so many bytes.
const URL: usize = 512;

/// The traffic of all workers.
#[derive(Debug)]
pub(crate) struct Traffic {
    hottest: PerWorker<HotPages>,
    slowest: SlowAnswers,
}

impl Traffic {
    /// None yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { hottest: PerWorker::new(|_| HotPages::new(now)), slowest: SlowAnswers::default() }
    }

    /// The sample of the calling worker's hits.
    pub(crate) fn own(&self) -> &HotPages {
        self.hottest.own()
    }

    /// The pages that are hit most, the hottest first.
    pub(crate) fn hottest(&self, now: Instant) -> Vec<HotPage> {
        HotPages::merged(self.hottest.all(), now)
    }

    /// The slowest answers of the last minutes.
    pub(crate) fn slowest(&self) -> &SlowAnswers {
        &self.slowest
    }
}

/// The URL of a request, for people to read.
pub(crate) fn url_of(question: &Question<'_>, has_query: bool) -> String {
    let target = if has_query { question.target } else { question.path };
    let mut url = [question.scheme.as_bytes(), b"://", question.authority, target.as_bytes()].concat();
    url.truncate(URL);
    String::from_utf8_lossy(&url).into_owned()
}
