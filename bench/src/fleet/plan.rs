//! The plan of a fleet, and its load.

/// A fleet and its load. Counts have a fraction, since the model only multiplies them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) proxies: f64,
    /// Primaries of the cluster; 1 is a single Redis.
    pub(crate) nodes: f64,
    pub(crate) pages: f64,
    /// Requests a second, of all clients. The pages are asked for by Zipf's law with exponent 1.
    pub(crate) requests: f64,
    /// Pages that change in a second, each of them purged by its URL. Every page changes as often as any other.
    pub(crate) changes: f64,
    /// How many seconds a page is stored.
    pub(crate) timeout: f64,
    /// How many pages the near cache of a proxy holds.
    pub(crate) near: f64,
}

impl Plan {
    /// The ranks of the pages in bands, from the most popular page on: each band is handled as one.
    pub(super) fn bands(&self) -> impl Iterator<Item = Band> {
        /// Popularity within a band differs by at most this factor.
        const WIDTH: f64 = 1.05;
        let (all, requests) = (harmonic(self.pages), self.requests);
        let last = self.pages;
        let mut first = 1.0;
        std::iter::from_fn(move || {
            if first > last {
                return None;
            }
            let next = (first * WIDTH).floor().max(first + 1.0).min(last + 1.0);
            let share = (harmonic(next - 1.0) - harmonic(first - 1.0)) / all;
            let band = Band { first, pages: next - first, requests: requests * share };
            first = next;
            Some(band)
        })
    }
}

/// Pages of about the same popularity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    /// The rank of its first page, from 1.
    pub(super) first: f64,
    pub(super) pages: f64,
    /// The requests for all its pages together.
    pub(super) requests: f64,
}

/// The harmonic number of `n`: the sum of 1/1 to 1/n.
fn harmonic(n: f64) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match n {
        n if n < 1.0 => 0.0,
        n if n < 32.0 => (1..=n as u32).map(|rank| 1.0 / f64::from(rank)).sum(),
        n => n.ln() + EULER + 1.0 / (2.0 * n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmonic_numbers_are_right_to_four_digits() {
        for (n, sum) in [(0.0, 0.0), (1.0, 1.0), (10.0, 2.928_968), (100.0, 5.187_377), (2000.0, 8.178_368)] {
            assert!((harmonic(n) - sum).abs() < 1e-4, "{n}: {}", harmonic(n));
        }
    }

    #[test]
    fn bands_hold_each_page_and_each_request_once() {
        for pages in [1.0, 24.0, 2000.0, 1e8] {
            let plan = Plan { pages, requests: 100.0, ..super::super::tests::SMALL };
            let bands: Vec<_> = plan.bands().collect();
            assert!((bands.iter().map(|band| band.pages).sum::<f64>() - pages).abs() < 0.5, "{pages}");
            assert!((bands.iter().map(|band| band.requests).sum::<f64>() - 100.0).abs() < 1e-6, "{pages}");
            assert!(bands.len() < 500, "{pages}: {}", bands.len());
        }
    }
}
