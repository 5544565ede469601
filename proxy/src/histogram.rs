//! Durations, counted in buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The bounds of the buckets, in microseconds. From 5 ms on they are those of OpenTelemetry. The lower ones tell hits apart.
pub(crate) const BOUNDS: [u64; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000,
    750_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Durations as they are counted.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// One bucket for each bound, and one for longer durations.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

/// The durations so far, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Durations {
    /// One bucket for each bound, and one for longer durations. No bucket includes another.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    pub(crate) microseconds: u64,
}

impl Histogram {
    pub(crate) fn count(&self, took: Duration) {
        let microseconds = took.as_micros() as u64;
        // The search begins with the lowest bound, since most requests are hits.
        let bucket = BOUNDS.iter().position(|bound| microseconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.microseconds.fetch_add(microseconds, Relaxed);
    }

    /// The counts so far.
    pub(crate) fn durations(&self) -> Durations {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
        Durations { buckets, microseconds: self.microseconds.load(Relaxed) }
    }
}

impl Durations {
    pub(crate) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, added)| *sum += added);
        self.microseconds += other.microseconds;
    }

    /// The number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for microseconds in [0, 50, 51, 20_000_000] {
            histogram.count(Duration::from_micros(microseconds));
        }
        let mut twice = histogram.durations();
        twice.add(&histogram.durations());
        assert_eq!((twice.buckets[0], twice.buckets[1], twice.buckets[BOUNDS.len()]), (4, 2, 2));
        assert_eq!((twice.count(), twice.microseconds), (8, 40_000_202));
    }
}
