//! Comparison: the proxy and its peers side by side, in turn, in one run.
//!
//! A shared machine is noisy, so that only figures of one run tell anything of each other: all servers of one size of page
//! run at the same time, the load goes to each of them in turn, some seconds each, again and again, and the medians are
//! shown.

mod measure;
mod peer;
mod yardstick;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use stack::Redis;

use measure::{Idle, Load, Measured};
pub(crate) use peer::Kind as PeerKind;
use peer::{Absent, Ground, Peer};
pub(crate) use yardstick::Kind;

/// Compare the proxy with nginx, Varnish, Bloom and Django
///
/// Each is set up as it is best for this load (bench/peers); what is not installed is left out, and said. The load is
/// wrk's, with one thread. Shown are medians: CPU of the server a request, requests a second, latencies, memory.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// Sizes of the page, in bytes
    #[arg(long, value_delimiter = ',', default_value = "14000")]
    sizes: Vec<usize>,

    /// How many connections at a time
    #[arg(long, value_delimiter = ',', default_value = "64")]
    connections: Vec<usize>,

    /// Whom to compare
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = PeerKind::ALL)]
    peers: Vec<PeerKind>,

    /// How often each has its turn
    #[arg(long, default_value = "5")]
    rounds: usize,

    /// How long a turn is
    #[arg(long, default_value = "3")]
    seconds: u64,

    /// Also requests that pass through to the origin
    #[arg(long)]
    pass: bool,

    /// Also requests for pages that are not there yet: each is fetched, and stored
    #[arg(long)]
    misses: bool,

    /// Write all medians to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One line of the comparison.
#[derive(Debug, Serialize)]
struct Row {
    peer: String,
    case: &'static str,
    size: usize,
    connections: usize,
    #[serde(flatten)]
    measured: Measured,
    runs: Vec<Measured>,
    idle: Option<Idle>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    Hit,
    Pass,
    Miss,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Pass => "pass",
            Self::Miss => "miss",
        }
    }

    fn load(self) -> Load {
        match self {
            Self::Hit => Load::Page("/page"),
            Self::Pass => Load::Page("/pass"),
            Self::Miss => Load::NewPages,
        }
    }

    fn is_wanted(self, args: &CompareArgs) -> bool {
        match self {
            Self::Hit => true,
            Self::Pass => args.pass,
            Self::Miss => args.misses,
        }
    }

    fn concerns(self, kind: PeerKind) -> bool {
        match self {
            Self::Hit => true,
            Self::Pass => kind.passes(),
            Self::Miss => kind.fills(),
        }
    }
}

/// Runs the comparison.
pub(crate) async fn run(args: CompareArgs) -> ExitCode {
    match tokio::task::spawn_blocking(move || compare(&args)).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn compare(args: &CompareArgs) -> Result<(), Absent> {
    let wrk = peer::find("wrk")?;
    let redis = Redis::start()?;
    // What nginx may have, too: misses fill it, and the oldest goes.
    redis.cli(&["CONFIG", "SET", "maxmemory", "2gb"])?;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])?;
    let mut rows = Vec::new();
    for &size in &args.sizes {
        redis.cli(&["FLUSHALL"])?;
        let origin = Peer::origin(&redis, size)?;
        let peers = start(args, &Ground { redis: &redis, origin: origin.address, size });
        // Before the load: what that leaves behind would hide it.
        let idle = idle(&peers, size);
        for &connections in &args.connections {
            for case in [Case::Hit, Case::Pass, Case::Miss] {
                if case.is_wanted(args) {
                    println!("\n{}, {size} bytes, {connections} connections", case.name());
                    let new = turns(&wrk, args, &peers, case, size, connections);
                    show(&new);
                    rows.extend(new);
                }
            }
        }
        for row in rows.iter_mut().filter(|row| row.size == size) {
            row.idle = idle.iter().find(|(peer, _)| *peer == row.peer).map(|(_, idle)| *idle);
        }
    }
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&rows).map_err(io::Error::from)?)?;
    }
    Ok(())
}

/// All that are here. Who is not is named.
fn start(args: &CompareArgs, ground: &Ground<'_>) -> Vec<Peer> {
    let mut peers = Vec::new();
    for &kind in &args.peers {
        match Peer::start(kind, ground) {
            Ok(peer) => peers.push(peer),
            Err(absent) => println!("{kind} is left out: {absent}"),
        }
    }
    peers
}

/// What connections take that have had their answer and ask no more.
fn idle(peers: &[Peer], size: usize) -> Vec<(String, Idle)> {
    println!("\n{} idle connections, {size} bytes", measure::IDLE);
    println!("{:<18}{:>14}{:>10}", "", "bytes each", "MB in all");
    // Django here does not keep connections.
    let idle = peers.iter().filter(|peer| peer.kind != PeerKind::Django).filter_map(|peer| {
        let idle = measure::idle(peer, size).ok()?;
        println!("{:<18}{:>14}{:>10.1}", peer.kind, idle.bytes_each, idle.memory_mb);
        Some((peer.kind.to_string(), idle))
    });
    idle.collect()
}

fn turns(
    wrk: &std::path::Path,
    args: &CompareArgs,
    peers: &[Peer],
    case: Case,
    size: usize,
    connections: usize,
) -> Vec<Row> {
    let time = Duration::from_secs(args.seconds);
    let asked: Vec<_> = peers.iter().filter(|peer| case.concerns(peer.kind)).collect();
    let mut runs = vec![Vec::new(); asked.len()];
    // The first round fills the caches and is not counted.
    for round in 0..=args.rounds {
        let time = if round == 0 { Duration::from_secs(1) } else { time };
        for (peer, runs) in asked.iter().zip(&mut runs) {
            match measure::run(wrk, peer, case.load(), connections, time) {
                Ok(measured) if round > 0 => runs.push(measured),
                Ok(_) => {}
                Err(fault) => println!("{}: {fault}", peer.kind),
            }
        }
    }
    asked
        .iter()
        .zip(runs)
        .map(|(peer, runs)| Row {
            peer: peer.kind.to_string(),
            case: case.name(),
            size,
            connections,
            measured: Measured::medians(&runs),
            runs,
            idle: None,
        })
        .collect()
}

/// A table, with the CPU also as a share of nginx's.
fn show(rows: &[Row]) {
    let nginx = rows.iter().find(|row| row.peer == PeerKind::Nginx.to_string()).map(|row| row.measured);
    println!(
        "{:<18}{:>10}{:>10}{:>12}{:>10}{:>10}{:>10}",
        "", "CPU us", "of nginx", "requests/s", "p50 ms", "p99 ms", "MB"
    );
    for Row { peer, measured, .. } in rows {
        let share = nginx.map_or_else(String::new, |nginx| format!("{:.2}", measured.cpu_us / nginx.cpu_us));
        println!(
            "{peer:<18}{:>10.2}{share:>10}{:>12.0}{:>10.2}{:>10.2}{:>10.1}",
            measured.cpu_us,
            measured.requests_per_second,
            measured.p50_us / 1e3,
            measured.p99_us / 1e3,
            measured.memory_mb
        );
    }
}

/// Runs a yardstick.
pub(crate) async fn yardstick(kind: Kind, listen: SocketAddr, size: usize) -> ExitCode {
    let served = tokio::task::spawn_blocking(move || yardstick::serve(kind, listen, size)).await;
    match served.map_err(io::Error::other).and_then(|served| served) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
