//! `bombard`: the article's 50 requests at once.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::load::{self, Sample, Target};
use crate::spread::{Milliseconds, Spread};

/// Bombards a page and prints each request's time; fails if any request did.
pub(crate) async fn run(target: &Target, count: usize) -> ExitCode {
    println!("{count} at once: GET {target}");
    let samples = load::at_once(target, count).await;
    for (number, sample) in samples.iter().enumerate() {
        println!("{}", line(number + 1, sample));
    }
    println!();
    if let Some(spread) = Spread::of(&samples) {
        println!("  {spread}");
    }
    println!("  status:  {}", counts(&samples, Sample::status));
    println!("  X-Cache: {}", counts(&samples, Sample::cache));
    verdict(&samples)
}

fn line(number: usize, sample: &Sample) -> String {
    let took = Milliseconds(sample.took);
    match &sample.outcome {
        Ok(_) => format!("  {number:>5} {took:>11}   {}   {}", sample.status(), sample.cache()),
        Err(fault) => format!("  {number:>5} {took:>11}   {fault}"),
    }
}

fn verdict(samples: &[Sample]) -> ExitCode {
    let failed = samples.iter().filter(|sample| sample.success().is_none()).count();
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    println!("  {failed} of {} failed", samples.len());
    ExitCode::FAILURE
}

/// How often each name comes: `49 x HIT, 1 x MISS`.
pub(crate) fn counts(samples: &[Sample], name: impl Fn(&Sample) -> String) -> String {
    let mut counts = BTreeMap::<_, usize>::new();
    for sample in samples {
        *counts.entry(name(sample)).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} x {name}")).collect();
    counts.join(", ")
}
