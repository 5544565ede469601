//! Figures of the traffic besides counts, for operators: the pages that are hit most, and the slowest answers of the origin.
//! Both have bounded memory, whatever clients ask for.

mod hottest;
mod slowest;

use std::time::Duration;

use server::PerWorker;
use tokio::time::Instant;

use crate::request::Question;
use hottest::HotPages;
pub(crate) use hottest::{HotPage, PageFreshness};
pub(crate) use slowest::SlowAnswer;
use slowest::SlowAnswers;

/// The most bytes of a URL that are kept.
const URL: usize = 512;

/// The most pages that operators see.
const SHOWN: usize = 20;

/// The traffic of all workers.
#[derive(Debug)]
pub(crate) struct Traffic {
    hottest: PerWorker<HotPages>,
    slowest: SlowAnswers,
}

impl Traffic {
    /// Figures without any traffic yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { hottest: PerWorker::new(|_| HotPages::new(now)), slowest: SlowAnswers::default() }
    }

    /// The sample of the calling worker's hits.
    pub(crate) fn own(&self) -> &HotPages {
        self.hottest.own()
    }

    /// The pages that are hit most, the hottest first.
    pub(crate) fn hottest(&self, now: Instant) -> Vec<HotPage> {
        let mut hottest = HotPages::merged(self.hottest.all(), now);
        hottest.truncate(SHOWN);
        hottest
    }

    /// The slowest answers of the last minutes.
    pub(crate) fn slowest(&self) -> &SlowAnswers {
        &self.slowest
    }
}

/// The pages that clients have recently had as hits, as far as each worker's sample has them.
#[derive(Debug)]
pub(crate) struct RecentPages(PerWorker<HotPages>);

impl RecentPages {
    /// Samples without any page yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self(PerWorker::new(|_| HotPages::new(now)))
    }

    /// Whether the sample counts a hit now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.0.own().is_due(now)
    }

    /// Counts a hit of a page.
    pub(crate) fn count(&self, url: String, now: Instant) {
        self.0.own().count(url, PageFreshness::default(), now);
    }

    /// The URLs of the pages that were hit within this time, the hottest first. URLs that are too long to be kept are missing.
    pub(crate) fn urls(&self, last: Duration, now: Instant) -> Vec<String> {
        let is_recent =
            |page: &HotPage| now.saturating_duration_since(page.seen) < last && page.url.len() < URL;
        let pages = HotPages::merged(self.0.all(), now).into_iter();
        pages.filter(is_recent).map(|page| page.url).collect()
    }
}

/// The URL of a request, for people to read.
pub(crate) fn shown_url(question: &Question<'_>, has_query: bool) -> String {
    let target = if has_query { question.target } else { question.path };
    let mut url = [question.scheme.as_bytes(), b"://", question.authority, target.as_bytes()].concat();
    url.truncate(URL);
    String::from_utf8_lossy(&url).into_owned()
}
