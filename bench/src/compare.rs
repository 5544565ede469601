//! Comparison: the proxy and its peers side by side, in turn, in one run.
//!
//! A shared machine is noisy, and figures of different runs don't compare. So all servers of a case run at the same time,
//! the load goes to each of them in turn for some seconds, again and again, and the table shows medians. A ratio is the
//! median of the ratios of all rounds.

mod case;
pub(crate) mod client;
mod entrant;
mod head;
mod load;
pub(crate) mod measure;
mod peer;
mod table;
mod yardstick;
pub(crate) mod zipf;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use stack::Redis;

use case::Case;
use entrant::Entrant;
pub(crate) use entrant::Kind as PeerKind;
pub(crate) use head::Cookies;
use load::Traffic;
pub(crate) use load::visits;
use measure::{Client, Fault, Idle, Measured};
use peer::{Absent, Ground, Peer};
use table::Row;
pub(crate) use yardstick::Kind;

/// Compare the proxy with nginx, Varnish, Bloom and Django under the load of a site
///
/// Each server has its best settings for this load (bench/peers); one that is not installed is left out, with a message.
/// Caches are filled first. Then wrk, with one thread, loads each server in turn, again and again. The table has medians:
/// the server's CPU time per request, requests per second, latencies, the share of hits, and memory, and ratios to nginx.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        bench compare --cases heads,pages-2000,varies --peers near,nginx\n  \
                        bench compare --pass --misses --json compare.json\n  \
                        bench compare --cases repeated --sizes 1000,14000,200000 --connections 1,64,1000")]
pub(crate) struct CompareArgs {
    /// Cases to measure
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Case::DEFAULT)]
    cases: Vec<Case>,

    /// Also measure the case `pass`
    #[arg(long)]
    pass: bool,

    /// Also measure the case `misses`
    #[arg(long)]
    misses: bool,

    /// Servers to compare, where they take part in a case
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = PeerKind::ALL)]
    peers: Vec<PeerKind>,

    /// Sizes of a page, in bytes
    #[arg(long, value_delimiter = ',', default_value = "14000")]
    sizes: Vec<usize>,

    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_value = "64")]
    connections: Vec<usize>,

    /// Turns of each server
    #[arg(long, default_value = "5")]
    rounds: usize,

    /// Length of a turn, in seconds
    #[arg(long, default_value = "3")]
    seconds: u64,

    /// Also measure the memory of idle connections
    #[arg(long)]
    idle: bool,

    /// The program to measure as the proxy [default: the one next to this program]
    #[arg(long, value_name = "PROGRAM")]
    proxy: Option<PathBuf>,

    /// Write all medians to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl CompareArgs {
    /// The cases to measure, each once.
    fn cases(&self) -> Vec<Case> {
        let mut cases = self.cases.clone();
        cases.extend(self.pass.then_some(Case::Pass));
        cases.extend(self.misses.then_some(Case::Misses));
        let mut seen = Vec::new();
        cases.retain(|case| {
            !seen.contains(case) && {
                seen.push(*case);
                true
            }
        });
        cases
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
    // nginx may use as much: misses fill Redis, and Redis evicts the oldest pages.
    redis.cli(&["CONFIG", "SET", "maxmemory", "2gb"])?;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])?;
    // Servers are started in another folder, so the path must be absolute.
    let proxy = args.proxy.as_ref().map(|program| program.canonicalize()).transpose()?;
    let mut rows = Vec::new();
    for &size in &args.sizes {
        let origin = Peer::origin(&redis, size)?;
        let ground = Ground { redis: &redis, origin: origin.address, size, proxy: proxy.as_deref() };
        for case in args.cases() {
            redis.cli(&["FLUSHALL"])?;
            rows.extend(measure_case(case, args, &ground, &wrk)?);
        }
    }
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&rows).map_err(io::Error::from)?)?;
    }
    Ok(())
}

/// Starts the servers of a case, fills them, and loads them.
fn measure_case(case: Case, args: &CompareArgs, ground: &Ground<'_>, wrk: &Path) -> Result<Vec<Row>, Absent> {
    let (load, entrants) = case.plan();
    let traffic = Traffic::new(load)?;
    let mut peers = start(entrants.iter().filter(|entrant| args.peers.contains(&entrant.kind)), ground);
    // Measured before the load, which leaves memory behind that would hide the growth.
    let idle = if args.idle { idle(&peers, ground.size) } else { Vec::new() };
    peers.retain(|peer| is_filled(peer, &traffic));
    let mut rows = Vec::new();
    for &connections in &args.connections {
        println!("\n{case}, {} bytes, {connections} connections", ground.size);
        let client = Client { wrk, connections, origin: ground.origin };
        let turns = turns(&peers, |peer, time| client.run(peer, &traffic, time), args);
        let row = |(peer, runs): (&Peer, Vec<Option<Measured>>)| Row {
            peer: peer.entrant,
            case,
            size: ground.size,
            connections,
            measured: Measured::medians(&runs.iter().flatten().copied().collect::<Vec<_>>()),
            of_nginx: None,
            runs,
            idle: idle.iter().find(|(of, _)| *of == peer.entrant).map(|(_, idle)| *idle),
        };
        let mut new: Vec<_> = turns.into_iter().map(row).collect();
        table::compare_with_nginx(&mut new);
        table::show(&new);
        rows.extend(new);
    }
    Ok(rows)
}

/// Starts the servers that are installed, and names the others.
fn start<'a>(entrants: impl Iterator<Item = &'a Entrant>, ground: &Ground<'_>) -> Vec<Peer> {
    let start = |&entrant: &Entrant| {
        Peer::start(entrant, ground).map_err(|absent| println!("{entrant} is left out: {absent}")).ok()
    };
    entrants.filter_map(start).collect()
}

fn is_filled(peer: &Peer, traffic: &Traffic) -> bool {
    let filled = client::fill(peer.address, &traffic.pages);
    filled.map_err(|error| println!("{} is left out: it could not be filled: {error}", peer.entrant)).is_ok()
}

/// Measures the memory of connections that are idle after an answer.
fn idle(peers: &[Peer], size: usize) -> Vec<(Entrant, Idle)> {
    println!("\n{} idle connections, {size} bytes", measure::IDLE);
    println!("{:<30}{:>14}{:>10}", "", "bytes each", "MB in all");
    // Django under gunicorn closes each connection, so none is idle.
    let idle = peers.iter().filter(|peer| peer.entrant.kind != PeerKind::Django).filter_map(|peer| {
        let idle = measure::idle(peer, size).ok()?;
        println!("{:<30}{:>14}{:>10.1}", peer.entrant, idle.bytes_each, idle.memory_mb);
        Some((peer.entrant, idle))
    });
    idle.collect()
}

/// Loads each server in turn, again and again. The result leaves out servers whose every turn failed.
fn turns<'a>(
    peers: &'a [Peer],
    run: impl Fn(&Peer, Duration) -> Result<Measured, Fault>,
    args: &CompareArgs,
) -> Vec<(&'a Peer, Vec<Option<Measured>>)> {
    let turn = |peer: &Peer, seconds| {
        let fault = |fault| println!("{}: {fault}", peer.entrant);
        run(peer, Duration::from_secs(seconds)).map_err(fault).ok()
    };
    // In their first turns, servers open files and grow buffers.
    for peer in peers {
        let _ = turn(peer, 1);
    }
    let mut turns: Vec<_> = peers.iter().map(|peer| (peer, Vec::new())).collect();
    for _ in 0..args.rounds {
        for (peer, runs) in &mut turns {
            runs.push(turn(peer, args.seconds));
        }
    }
    turns.retain(|(_, runs)| runs.iter().any(Option::is_some));
    turns
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn cases(line: &str) -> Vec<Case> {
        Line::parse_from(std::iter::once("compare").chain(line.split_whitespace())).args.cases()
    }

    #[test]
    fn flags_add_cases_and_none_is_measured_twice() {
        assert_eq!(cases("--cases varies,heads --misses"), [Case::Varies, Case::Heads, Case::Misses]);
        assert_eq!(cases("--cases pass,heads,pass --pass"), [Case::Pass, Case::Heads]);
        assert_eq!(cases(""), Case::DEFAULT);
    }
}
