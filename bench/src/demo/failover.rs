//! A primary of the cluster dies under load, and its replica takes its place.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stack::Cluster;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::step::Step;
use crate::bombard::counts;
use crate::laboratory::{LabError, Laboratory, Pages};
use crate::load::{self, Arrival, Crowd, End, Load, Pace, Sample, Target};
use crate::site::CACHED;

/// With this many pages, all primaries certainly have some.
const COPIES: usize = 24;

/// How often each page is asked for in a second, by two users together.
const RATE: f64 = 8.0;

/// How long the load lasts, and when the primary dies.
const LOAD: Duration = Duration::from_secs(6);
const CALM: Duration = Duration::from_secs(1);

/// The primary that dies. It is not the first, which has the purge log: without the log, all pages come from the origin for a
/// moment.
const VICTIM: usize = 2;

/// Asks for many pages, kills a primary, and reports what the clients saw.
pub(super) async fn failover(laboratory: &mut Laboratory) -> Result<Vec<Step>, LabError> {
    let path = |number| format!("{}?copy={number}", CACHED.path);
    let targets: Vec<Target> =
        (0..COPIES).map(|number| laboratory.target(&path(number))).collect::<Result<_, _>>()?;
    let Pages::Cluster(cluster) = &mut laboratory.pages else { return Ok(Vec::new()) };
    for target in &targets {
        load::one(target).await;
    }
    let pace = Pace::Open { rate: RATE };
    let crowds = targets.iter().map(|target| Crowd::of(target.clone(), 2, pace.clone())).collect();
    let load = Load { crowds, arrival: Arrival::Together, end: End::After(LOAD) };
    let (samples, killed) = tokio::join!(load.run(), kill_a_primary(cluster));
    let died = under_load(&samples, killed?);
    let after = afterwards(&targets).await;
    // Restarted, so that the user can try a whole cluster.
    block_in_place(|| cluster.nodes[VICTIM].restart())?;
    Ok(vec![died, after])
}

/// Kills a primary without warning. Returns the time since the beginning of the load.
async fn kill_a_primary(cluster: &Cluster) -> Result<Duration, LabError> {
    let began = Instant::now();
    sleep(CALM).await;
    let pid = i32::try_from(cluster.nodes[VICTIM].pid()).ok().and_then(Pid::from_raw);
    pid.map_or(Ok(()), |pid| kill_process(pid, Signal::KILL)).map_err(std::io::Error::from)?;
    Ok(began.elapsed())
}

/// The step of the requests under load. The crowd of a sample is the number of its page.
fn under_load(samples: &[Sample], killed: Duration) -> Step {
    let failed = samples.iter().filter(|sample| sample.failure().is_some()).count();
    let fetched: Vec<_> = samples.iter().filter(|sample| sample.cache() != "HIT").collect();
    let pages: BTreeSet<_> = fetched.iter().map(|sample| sample.crowd).collect();
    let last = fetched.iter().map(|sample| sample.due).max().unwrap_or(killed);
    let recovery = last.saturating_sub(killed).as_secs_f64();
    Step::timed("a primary killed under load", samples)
        .note(format!("{} requests", samples.len()))
        .expect(format!("{failed} failed"), "0 failed")
        .note(counts(samples, Sample::cache))
        .demand(pages.len() < COPIES, "hits of the pages on the other primaries")
        .because("The origin answers for the pages of that primary, until its replica takes its place.")
        .show([
            format!("{:.1} s: a primary is killed", killed.as_secs_f64()),
            format!(
                "{recovery:.1} s later: the last request for one of {} pages goes to the origin",
                pages.len()
            ),
        ])
}

/// The step after the failover: all pages are hits again once the replica serves.
async fn afterwards(targets: &[Target]) -> Step {
    const PATIENCE: Duration = Duration::from_secs(20);
    let began = Instant::now();
    loop {
        let mut samples = Vec::new();
        for target in targets {
            samples.push(load::one(target).await.sample);
        }
        let cache = counts(&samples, Sample::cache);
        let wanted = format!("{COPIES} x HIT");
        if cache == wanted || began.elapsed() > PATIENCE {
            return Step::timed("the same pages, afterwards", &samples)
                .expect(cache, &wanted)
                .because("The pages of the lost primary are stored on its replica now.");
        }
    }
}
