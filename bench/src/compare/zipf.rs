//! Zipf's law: the second page is requested half as often as the first, the third page a third as often.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// The law for a number of pages, with exponent 1.
#[derive(Debug)]
pub(crate) struct Zipf {
    /// At index `n`, the weight of all pages up to `n`.
    cumulated: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(pages: usize) -> Self {
        let weights = (1..=pages).map(|rank| 1.0 / rank as f64);
        let cumulated = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { cumulated: cumulated.collect() }
    }

    /// Draws a page. 0 is the most popular.
    pub(crate) fn draw(&self, random: &mut StdRng) -> usize {
        let all = self.cumulated.last().copied().unwrap_or_default();
        let point = random.random::<f64>() * all;
        self.cumulated.partition_point(|&weight| weight <= point).min(self.cumulated.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_page_is_drawn_as_often_as_its_rank_says() {
        const DRAWS: usize = 200_000;
        let (zipf, mut random) = (Zipf::new(2000), StdRng::seed_from_u64(1));
        let mut count = vec![0; 2000];
        (0..DRAWS).for_each(|_| count[zipf.draw(&mut random)] += 1);
        // The 2,000th harmonic number is 8.178.
        for rank in [1, 2, 10] {
            let (share, wanted) = (f64::from(count[rank - 1]) / DRAWS as f64, 1.0 / 8.178 / rank as f64);
            assert!((share / wanted - 1.0).abs() < 0.05, "rank {rank}: {share} and not {wanted}");
        }
        assert!(count[1000..].iter().sum::<i32>() > 0);
    }

    #[test]
    fn one_page_is_always_drawn() {
        let mut random = StdRng::seed_from_u64(1);
        assert!((0..1000).all(|_| Zipf::new(1).draw(&mut random) == 0));
    }
}
