//! The pages that are hit most, by a sample of a worker's hits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The pause between two samples. With up to a thousand hits a second, the sample has nearly all of them. With more hits, it
/// costs no more.
const PAUSE: Duration = Duration::from_millis(1);

/// The pages of a worker's sample.
const PAGES: usize = 128;

/// The time in which the weight of a hit halves.
const HALF_LIFE: Duration = Duration::from_secs(30);

/// A page that is hit often.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HotPage {
    pub(crate) url: String,
    /// The share of this page in all recent hits, from 0 to 1.
    pub(crate) share: f64,
    pub(crate) freshness: PageFreshness,
    /// When it was last hit, as far as the sample knows.
    pub(crate) seen: Instant,
}

/// The freshness of the page of a hit, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageFreshness {
    /// The age in seconds.
    pub(crate) age: Option<u64>,
    /// The seconds left; negative if the page has ended.
    pub(crate) ttl: Option<i64>,
}

/// The sample of one worker.
#[derive(Debug)]
pub(crate) struct HotPages {
    began: Instant,
    /// When the next sample is due, in microseconds after the beginning.
    due: AtomicU64,
    sample: Mutex<Sample>,
}

/// Counts of pages by the Space-Saving algorithm: a new page takes the place of the page with the fewest hits.
#[derive(Debug)]
struct Sample {
    halved: Instant,
    /// The hits of all pages, including pages that are not kept.
    hits: f64,
    pages: HashMap<String, PageHits>,
}

#[derive(Clone, Copy, Debug)]
struct PageHits {
    hits: f64,
    /// The hits of the pages that had this place before.
    inherited: f64,
    freshness: PageFreshness,
    seen: Instant,
}

impl HotPages {
    pub(super) fn new(now: Instant) -> Self {
        let sample = Sample { halved: now, hits: 0.0, pages: HashMap::new() };
        Self { began: now, due: AtomicU64::new(0), sample: Mutex::new(sample) }
    }

    /// Whether the sample counts a hit now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.began).as_micros() as u64;
        let is_due = now >= self.due.load(Relaxed);
        if is_due {
            self.due.store(now + PAUSE.as_micros() as u64, Relaxed);
        }
        is_due
    }

    /// Counts a hit of a page.
    pub(crate) fn count(&self, url: String, freshness: PageFreshness, now: Instant) {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).count(url, freshness, now);
    }

    /// The pages of several samples, the hottest first.
    pub(super) fn merged(samples: &[Self], now: Instant) -> Vec<HotPage> {
        let (mut all, mut pages) = (0.0, HashMap::<String, PageHits>::new());
        for sample in samples {
            let mut sample = sample.sample.lock().unwrap_or_else(PoisonError::into_inner);
            sample.halve(now);
            all += sample.hits;
            for (url, counted) in &sample.pages {
                pages.entry(url.clone()).and_modify(|known| known.add(counted)).or_insert(*counted);
            }
        }
        let mut hottest: Vec<_> =
            pages.into_iter().map(|(url, counted)| counted.page(url, all, now)).collect();
        hottest.sort_by(|one, other| other.share.total_cmp(&one.share).then_with(|| one.url.cmp(&other.url)));
        hottest
    }
}

impl Sample {
    fn count(&mut self, url: String, freshness: PageFreshness, now: Instant) {
        self.halve(now);
        self.hits += 1.0;
        let new = PageHits { hits: 1.0, inherited: 0.0, freshness, seen: now };
        if let Some(known) = self.pages.get_mut(&url) {
            known.add(&new);
            return;
        }
        let inherited = if self.pages.len() < PAGES { 0.0 } else { self.forget_coldest() };
        self.pages.insert(url, PageHits { hits: inherited + 1.0, inherited, ..new });
    }

    /// Forgets the page with the fewest hits, and returns their number.
    fn forget_coldest(&mut self) -> f64 {
        let coldest = self.pages.iter().min_by(|(_, one), (_, other)| one.hits.total_cmp(&other.hits));
        let coldest = coldest.map(|(url, _)| url.clone());
        coldest.and_then(|url| self.pages.remove(&url)).map_or(0.0, |counted| counted.hits)
    }

    /// Halves all weights, once for each half-life that has passed.
    fn halve(&mut self, now: Instant) {
        let times = now.saturating_duration_since(self.halved).as_secs() / HALF_LIFE.as_secs();
        if times == 0 {
            return;
        }
        self.halved += HALF_LIFE * u32::try_from(times).unwrap_or(u32::MAX);
        let factor = 0.5_f64.powf(times as f64);
        self.hits *= factor;
        for counted in self.pages.values_mut() {
            counted.hits *= factor;
            counted.inherited *= factor;
        }
        // A page that was hit once is forgotten after two and a half minutes.
        self.pages.retain(|_, counted| counted.hits > 0.05);
    }
}

impl PageHits {
    /// Adds further hits of the same page. The freshness of the later hit counts.
    fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.inherited += other.inherited;
        if other.seen >= self.seen {
            (self.freshness, self.seen) = (other.freshness, other.seen);
        }
    }

    /// The page at this moment, with its share of `all` hits.
    fn page(self, url: String, all: f64, now: Instant) -> HotPage {
        let since = now.saturating_duration_since(self.seen).as_secs();
        let freshness = PageFreshness {
            age: self.freshness.age.map(|age| age.saturating_add(since)),
            ttl: self.freshness.ttl.map(|ttl| ttl.saturating_sub_unsigned(since)),
        };
        let share = if all > 0.0 { (self.hits - self.inherited) / all } else { 0.0 };
        HotPage { url, share, freshness, seen: self.seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(now: Instant) -> HotPages {
        HotPages::new(now)
    }

    fn shares(pages: &[HotPage]) -> Vec<(&str, f64)> {
        pages.iter().map(|page| (page.url.as_str(), page.share)).collect()
    }

    #[test]
    fn the_hottest_page_of_all_workers_comes_first() {
        let now = Instant::now();
        let samples = [sample(now), sample(now)];
        for (worker, url, hits) in [(0, "/a", 1), (0, "/b", 3), (1, "/a", 4), (1, "/c", 2)] {
            for _ in 0..hits {
                samples[worker].count(url.to_owned(), PageFreshness::default(), now);
            }
        }
        let merged = HotPages::merged(&samples, now);
        assert_eq!(shares(&merged), [("/a", 0.5), ("/b", 0.3), ("/c", 0.2)]);
    }

    #[test]
    fn a_page_is_known_among_any_number_of_others() {
        let now = Instant::now();
        let pages = sample(now);
        for other in 0..10 * PAGES {
            pages.count("/hot".to_owned(), PageFreshness::default(), now);
            pages.count(format!("/{other}"), PageFreshness::default(), now);
        }
        let merged = HotPages::merged(&[pages], now);
        assert_eq!((merged.len(), merged[0].url.as_str(), merged[0].share), (PAGES, "/hot", 0.5));
        // The other pages were hit once each; hits of earlier pages in their places do not count.
        assert!(merged[1].share <= 1.0 / (20 * PAGES) as f64, "{}", merged[1].share);
    }

    #[test]
    fn a_page_that_is_no_longer_hit_is_forgotten() {
        let now = Instant::now();
        let pages = sample(now);
        pages.count("/old".to_owned(), PageFreshness::default(), now);
        let later = now + HALF_LIFE;
        pages.count("/new".to_owned(), PageFreshness::default(), later);
        let merged = HotPages::merged(&[pages], later);
        assert_eq!(shares(&merged), [("/new", 1.0 / 1.5), ("/old", 0.5 / 1.5)]);
        let pages = sample(now);
        pages.count("/old".to_owned(), PageFreshness::default(), now);
        assert_eq!(HotPages::merged(&[pages], now + 5 * HALF_LIFE), []);
    }

    #[test]
    fn age_and_ttl_go_on_after_the_last_hit() {
        let now = Instant::now();
        let pages = sample(now);
        pages.count("/a".to_owned(), PageFreshness { age: Some(10), ttl: Some(5) }, now);
        let merged = HotPages::merged(&[pages], now + Duration::from_secs(7));
        assert_eq!(merged[0].freshness, PageFreshness { age: Some(17), ttl: Some(-2) });
    }

    #[test]
    fn one_hit_a_millisecond_is_sampled() {
        let now = Instant::now();
        let pages = sample(now);
        let due: Vec<_> = [0, 999, 1_000, 1_500, 2_000, 9_000, 9_001]
            .into_iter()
            .filter(|&after| pages.is_due(now + Duration::from_micros(after)))
            .collect();
        assert_eq!(due, [0, 1_000, 2_000, 9_000]);
    }
}
