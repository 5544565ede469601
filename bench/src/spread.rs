//! The spread of times: minimum, median, 95th percentile and maximum.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::Sample;

/// The times of successful requests.
#[derive(Clone, Debug)]
pub(crate) struct Spread(Histogram<u64>);

impl Spread {
    /// The spread of the successful samples; `None` if there are none.
    pub(crate) fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Option<Self> {
        let answered = samples.into_iter().filter(|sample| sample.failure().is_none());
        Self::of_times(answered.map(|sample| sample.took))
    }

    /// The spread of these times; `None` if there are none.
    pub(crate) fn of_times(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        // Three significant digits of microseconds; the histogram grows as needed.
        let mut histogram = Histogram::new(3).ok()?;
        for time in times {
            histogram.record(u64::try_from(time.as_micros()).ok()?).ok()?;
        }
        (!histogram.is_empty()).then_some(Self(histogram))
    }

    pub(crate) fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// Minimum, median, 95th percentile and maximum.
    pub(crate) fn quartet(&self) -> [Duration; 4] {
        [0.0, 0.5, 0.95, 1.0].map(|share| self.quantile(share))
    }

    /// Whether there is only one time.
    pub(crate) fn is_of_one(&self) -> bool {
        self.0.len() == 1
    }

    /// The time that this share of the requests did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }
}
impl Display for Spread {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [min, median, p95, max] = self.quartet().map(Milliseconds);
        write!(f, "min {min}   median {median}   p95 {p95}   max {max}")
    }
}

/// A time for people: `0.42 ms`, `12.3 ms`, `1520 ms`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Milliseconds(pub(crate) Duration);

impl Display for Milliseconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_secs_f64() * 1000.0;
        let digits = match milliseconds {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{milliseconds:.digits$} ms"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_times_have_a_spread() {
        let spread = Spread::of_times((1..=100).map(Duration::from_millis)).unwrap();
        assert_eq!(spread.median().as_millis(), 50);
        assert_eq!(spread.to_string(), "min 1.00 ms   median 50.0 ms   p95 95.0 ms   max 100 ms");
    }

    #[test]
    fn no_times_have_no_spread() {
        assert!(Spread::of_times(std::iter::empty()).is_none());
    }

    #[test]
    fn milliseconds_keep_three_digits() {
        for (micros, text) in [(0, "0.00 ms"), (423, "0.42 ms"), (12_345, "12.3 ms"), (1_520_400, "1520 ms")]
        {
            assert_eq!(Milliseconds(Duration::from_micros(micros)).to_string(), text);
        }
    }
}
