//! How old a page from the cache was while prices changed.

use serde::{Deserialize, Serialize};

use super::Summary;

/// The answers of one page while prices changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Freshness {
    /// How the page is kept, in words.
    pub(crate) name: String,
    /// The time between two changes.
    pub(crate) every_seconds: f64,
    pub(crate) changes: usize,
    pub(crate) seconds: f64,
    /// The queries that PostgreSQL saw, without those of the changes.
    pub(crate) queries: usize,
    pub(crate) summary: Summary,
    /// When each answer was asked for, in milliseconds from the beginning.
    pub(crate) asked_ms: Vec<u64>,
    /// The time since the first change that the answer does not show, in microseconds, when the answer was asked for; 0 if the
    /// answer shows the newest price.
    pub(crate) age_us: Vec<u64>,
}

impl Freshness {
    /// The percentage of the requests that were hits.
    pub(crate) fn hit_ratio(&self) -> f64 {
        100.0 * self.summary.hits as f64 / self.summary.requests.max(1) as f64
    }

    /// The percentage of the answers that showed an old price.
    pub(crate) fn old_ratio(&self) -> f64 {
        let old = self.age_us.iter().filter(|age| **age > 0).count();
        100.0 * old as f64 / self.age_us.len().max(1) as f64
    }

    /// The age that half of the answers did not exceed, in milliseconds.
    pub(crate) fn median_age_ms(&self) -> f64 {
        let mut ages = self.age_us.clone();
        ages.sort_unstable();
        ages.get(ages.len() / 2).map_or(0.0, |age| *age as f64 / 1e3)
    }

    /// The greatest age, in milliseconds.
    pub(crate) fn greatest_age_ms(&self) -> f64 {
        self.age_us.iter().max().map_or(0.0, |age| *age as f64 / 1e3)
    }

    /// When each answer was asked for, and how old it was, in seconds.
    pub(crate) fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.asked_ms.iter().zip(&self.age_us).map(|(asked, age)| (*asked as f64 / 1e3, *age as f64 / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_median_and_a_greatest_one() {
        let summary = Summary { requests: 4, hits: 3, ..Summary::default() };
        let page = Freshness {
            name: "page".to_owned(),
            every_seconds: 1.0,
            changes: 1,
            seconds: 4.0,
            queries: 62,
            summary,
            asked_ms: vec![0, 1000, 2000, 3000],
            age_us: vec![0, 3000, 1000, 0],
        };
        assert_eq!((page.hit_ratio(), page.old_ratio()), (75.0, 50.0));
        assert_eq!((page.median_age_ms(), page.greatest_age_ms()), (1.0, 3.0));
        assert_eq!(page.points().nth(1), Some((1.0, 0.003)));
    }
}
