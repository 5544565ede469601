//! Compares the model with small fleets that run on this machine.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::plan::Plan;
use super::rates::Rates;
use super::real::{Counts, NODES, RealFleet};
use super::survey::short;
use crate::compare::client::Client;
use crate::compare::zipf::Zipf;
use crate::laboratory::{LabError, Programs};
use crate::load::{Arrival, Crowd, End, Load, Pace, Target};

/// The most proxies. More would compete for the cores of this machine.
pub(super) const MOST: usize = 6;

/// How long the fleet runs until it does the same work in each second. It is longer than the timeout.
const WARM: Duration = Duration::from_secs(5);

/// How long the work is counted.
const COUNTED: Duration = Duration::from_secs(8);

/// How far the model may be off.
const TOLERANCE: f64 = 0.25;

const USERS: usize = 24;

/// A small plan, so that a busy machine keeps up. Its timeout is short, so that everything happens in a few seconds.
const PLAN: Plan = Plan {
    proxies: 1.0,
    nodes: NODES as f64,
    pages: 500.0,
    requests: 400.0,
    changes: 20.0,
    timeout: 3.0,
    near: 500.0,
};

/// Runs fleets of up to `most` proxies, and prints their work beside the model's. Returns whether they agree and no request
/// has failed.
pub(super) async fn measure(most: usize) -> Result<bool, LabError> {
    let programs = Programs::build().await?;
    let (mut agrees, mut all_failed) = (true, 0);
    let mut table = String::new();
    for proxies in 1..=most.min(MOST) {
        let plan = Plan { proxies: proxies as f64, ..PLAN };
        let (seen, failed) = run(&programs, &plan).await?;
        all_failed += failed;
        agrees &= compare(&plan, seen, &mut table);
    }
    println!(
        "\n{:>8}  {:<16}{:>8}{:>8}{:>8}\n{table}\nOf {} requests/s for {} pages, {} changes/s. {all_failed} requests failed.",
        "proxies", "in a second", "model", "seen", "ratio", PLAN.requests, PLAN.pages, PLAN.changes
    );
    Ok(agrees && all_failed == 0)
}

/// Adds the rows of one fleet to the table. Returns whether the model was close enough.
fn compare(plan: &Plan, seen: Counts, table: &mut String) -> bool {
    let rates = Rates::of(plan);
    // A proxy hears of its own fills and purges directly, besides what it hears from Redis.
    let heard = rates.invalidations + rates.origin + rates.purges;
    let rows = [
        ("hits", rates.hits(), seen.hits),
        ("near hits", rates.near_hits, seen.near_hits),
        ("hits of a store", rates.store_hits, seen.hits - seen.near_hits),
        ("origin requests", rates.origin, seen.origin),
        ("purges", rates.purges, seen.purges),
        ("invalidations", heard, seen.invalidations),
    ];
    let mut agrees = true;
    for (name, model, seen) in rows {
        let ratio = seen / model;
        agrees &= (ratio - 1.0).abs() <= TOLERANCE;
        *table +=
            &format!("{:>8}  {name:<16}{:>8}{:>8}{ratio:>8.2}\n", plan.proxies, short(model), short(seen));
    }
    *table += &format!(
        "{:>8}  CPU of the proxies {:.0} ms, of the nodes {:.0} ms\n",
        plan.proxies,
        seen.proxies_cpu * 1e3,
        seen.nodes_cpu * 1e3
    );
    agrees
}

/// Runs a fleet under load, and returns what it did in a second, and how many requests failed.
async fn run(programs: &Programs, plan: &Plan) -> Result<(Counts, usize), LabError> {
    let fleet = RealFleet::start(programs, plan).await?;
    let (plan, address) = (*plan, fleet.address());
    let until = Instant::now() + WARM + COUNTED;
    let purging = spawn_blocking(move || purge(address, &plan, until));
    let load = load(address, &plan)?;
    let counting = async {
        sleep(WARM).await;
        let (began, before) = (Instant::now(), fleet.counts()?);
        sleep(COUNTED).await;
        Ok::<_, LabError>((fleet.counts()? - before).per_second(began.elapsed()))
    };
    let (samples, counts) = tokio::join!(load.run(), counting);
    purging.await??;
    let failed = samples.iter().filter(|sample| sample.failure().is_some()).count();
    println!("{} requests, {failed} failed.", samples.len());
    Ok((counts?, failed))
}

/// Users who ask for pages by Zipf's law.
fn load(address: SocketAddr, plan: &Plan) -> Result<Load, LabError> {
    /// More than the load uses, so that no user begins its list again.
    const DRAWS: usize = 20_000;
    let (zipf, mut random) = (Zipf::new(plan.pages as usize), StdRng::seed_from_u64(1));
    let target = |number: usize| format!("http://localhost:{}/page/{number}", address.port()).parse();
    let pages: Vec<Target> = (0..plan.pages as usize).map(target).collect::<Result<_, _>>()?;
    let targets: Arc<[Target]> = (0..DRAWS).map(|_| pages[zipf.draw(&mut random)].clone()).collect();
    let crowd = Crowd { targets, users: USERS, pace: Pace::Open { rate: plan.requests } };
    Ok(Load { crowds: vec![crowd], arrival: Arrival::Together, end: End::After(WARM + COUNTED) })
}

/// Purges a page for each change, at even distances.
fn purge(address: SocketAddr, plan: &Plan, until: Instant) -> io::Result<()> {
    let (mut client, mut random) = (Client::to(address), StdRng::seed_from_u64(2));
    let pause = Duration::from_secs_f64(1.0 / plan.changes);
    let mut due = Instant::now();
    while due < until {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let page = random.random_range(0..plan.pages as usize);
        client.ask(&format!("PURGE /page/{page} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", address.port()))?;
        due += pause;
    }
    Ok(())
}
