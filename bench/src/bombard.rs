//! `bombard`: the article's 50 requests at once.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::BombardArgs;
use crate::failures::Failures;
use crate::load::{End, Load, Sample};
use crate::spread::{Milliseconds, Spread};

/// Bombards a page, and prints the time of each request, or the rate if the load is repeated.
pub(crate) async fn run(args: &BombardArgs) -> ExitCode {
    let mut load = Load::at_once(&args.url, args.number);
    let samples = match args.duration {
        Some(seconds) => {
            println!("{} at once, again and again for {seconds} s: GET {}", args.number, args.url);
            load.end = End::After(Duration::from_secs(seconds as u64));
            let samples = load.run().await;
            println!("  {:.0} requests/s", samples.len() as f64 / seconds as f64);
            samples
        }
        None => {
            println!("{} at once: GET {}", args.number, args.url);
            let samples = load.run().await;
            for (number, sample) in samples.iter().enumerate() {
                println!("{}", line(number + 1, sample));
            }
            println!();
            samples
        }
    };
    if let Some(spread) = Spread::of(&samples) {
        println!("  {spread}");
    }
    println!("  status:  {}", counts(&samples, Sample::status));
    println!("  X-Cache: {}", counts(&samples, Sample::cache));
    Failures::of(&samples).verdict(args.fail_on_error)
}

fn line(number: usize, sample: &Sample) -> String {
    let took = Milliseconds(sample.took);
    match &sample.outcome {
        Ok(_) => format!("  {number:>5} {took:>11}   {}   {}", sample.status(), sample.cache()),
        Err(fault) => format!("  {number:>5} {took:>11}   {fault}"),
    }
}

/// How often each name occurs: `49 x HIT, 1 x MISS`.
pub(crate) fn counts(samples: &[Sample], name: impl Fn(&Sample) -> String) -> String {
    let mut counts = BTreeMap::<_, usize>::new();
    for sample in samples {
        *counts.entry(name(sample)).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} x {name}")).collect();
    counts.join(", ")
}
