//! One run of load on one server, and its cost for the server.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::client;
use super::head::SITE;
use super::load::Traffic;
use super::peer::Peer;

/// The least share of hits. A run of hits with a smaller share does not count.
const HITS: f64 = 0.99;

/// The figures of one run, or the medians of several.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// User and system time of the server's processes, in microseconds per request.
    pub(crate) cpu_us: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The share of requests that did not reach the origin.
    pub(crate) hits: f64,
    /// The memory of the server's processes, shared pages counted once.
    pub(crate) memory_mb: f64,
}

/// Why a run has no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("wrk's output cannot be parsed: {0}")]
    Unreadable(String),
    #[error("wrk reports failed requests: {0}")]
    Errors(String),
    #[error("{0:.1}% of the requests reached the origin and should have been hits")]
    Misses(f64),
}

impl Measured {
    /// The median of each figure.
    pub(crate) fn medians(runs: &[Self]) -> Self {
        let median = |of: fn(&Self) -> f64| median(runs.iter().map(of));
        Self {
            cpu_us: median(|run| run.cpu_us),
            requests_per_second: median(|run| run.requests_per_second),
            p50_us: median(|run| run.p50_us),
            p99_us: median(|run| run.p99_us),
            hits: median(|run| run.hits),
            memory_mb: median(|run| run.memory_mb),
        }
    }
}

/// The median: of an even number of values the greater of the two in the middle, of no values 0.
pub(crate) fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<_> = of.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Loads servers with wrk, one thread.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub(crate) wrk: &'a Path,
    pub(crate) connections: usize,
    /// The origin of all servers.
    pub(crate) origin: SocketAddr,
}

impl Client<'_> {
    /// Loads a server for some seconds.
    pub(crate) fn run(&self, peer: &Peer, traffic: &Traffic, time: Duration) -> Result<Measured, Fault> {
        let processes = family(peer.pid());
        let mut command = Command::new(self.wrk);
        command
            .args(["--threads", "1", "--latency", "--timeout", "10s"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{}s", time.as_secs().max(1))]);
        traffic.tell(&mut command, peer.address);
        let (cpu_before, asked_before) = (cpu(&processes), client::count(self.origin)?);
        let output = command.output()?;
        // If a process of the server died meanwhile, its CPU time is gone.
        let spent = cpu(&processes).saturating_sub(cpu_before);
        let asked = client::count(self.origin)? - asked_before;
        let said = answered_well(&String::from_utf8_lossy(&output.stdout))?;
        // The origin also counts requests whose answers wrk did not wait for.
        let hits = (1.0 - asked as f64 / said.requests).max(0.0);
        if traffic.load().has_hits() && hits < HITS {
            return Err(Fault::Misses(100.0 * (1.0 - hits)));
        }
        Ok(Measured {
            cpu_us: spent.as_secs_f64() * 1e6 / said.requests,
            requests_per_second: said.rate,
            p50_us: said.p50,
            p99_us: said.p99,
            hits,
            memory_mb: memory(&processes) as f64 / 1e6,
        })
    }
}

/// How many connections are idle at a time.
pub(crate) const IDLE: usize = 4000;

/// The memory of idle connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Idle {
    /// The growth of the server's processes for each connection.
    pub(crate) bytes_each: u64,
    /// The memory of the server's processes with all connections.
    pub(crate) memory_mb: f64,
}

/// Measures the memory of connections that are idle after an answer.
pub(crate) fn idle(peer: &Peer, size: usize) -> io::Result<Idle> {
    /// The first connections are not counted: they include what a server sets up once.
    const FIRST: usize = 100;
    const PATIENCE: Duration = Duration::from_secs(5);
    let ask = |_| {
        let mut stream = TcpStream::connect(peer.address)?;
        // A server may drop one of so many connections: the read must not wait for ever.
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /page HTTP/1.1\r\nHost: {SITE}\r\n\r\n")?;
        // Head and body are longer than this. The rest may stay unread.
        stream.read_exact(&mut vec![0; size])?;
        Ok(stream)
    };
    let _first = (0..FIRST).map(ask).collect::<io::Result<Vec<_>>>()?;
    let before = memory(&family(peer.pid()));
    let _idle = (0..IDLE).map(ask).collect::<io::Result<Vec<_>>>()?;
    let after = memory(&family(peer.pid()));
    Ok(Idle { bytes_each: after.saturating_sub(before) / IDLE as u64, memory_mb: after as f64 / 1e6 })
}

struct Said {
    requests: f64,
    rate: f64,
    p50: f64,
    p99: f64,
}

/// Parses the output of wrk; fails if wrk counted errors.
fn answered_well(text: &str) -> Result<Said, Fault> {
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        return Err(Fault::Errors(line.trim().to_owned()));
    }
    said(text).filter(|said| said.requests > 0.0).ok_or_else(|| Fault::Unreadable(text.to_owned()))
}

fn said(text: &str) -> Option<Said> {
    let after = |start: &str| {
        text.lines().find_map(|line| line.trim().strip_prefix(start)).map(|rest| rest.trim().to_owned())
    };
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "))?.0;
    Some(Said {
        requests: requests.parse().ok()?,
        rate: after("Requests/sec:")?.parse().ok()?,
        p50: microseconds(&after("50%")?)?,
        p99: microseconds(&after("99%")?)?,
    })
}

/// Parses times such as `812.00us`, `1.23ms` and `2.00s`.
fn microseconds(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, stat(process)?.1.parse().ok()?)))
        .collect();
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(process, _)| process));
        at += 1;
    }
    family
}

/// State, parent, and the further fields of `/proc/PID/stat`.
fn stat(pid: u32) -> Option<(String, String, Vec<String>)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
    Some((fields.next()?, fields.next()?, fields.collect()))
}

/// The user and system time of processes so far.
pub(crate) fn cpu(processes: &[u32]) -> Duration {
    let ticks = processes.iter().filter_map(|&process| {
        let (_, _, fields) = stat(process)?;
        // Fields 14 and 15 of proc(5); state, parent and the name before them were split off.
        let of = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(of(9)? + of(10)?)
    });
    Duration::from_secs_f64(ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn memory(processes: &[u32]) -> u64 {
    let kilobytes = processes.iter().filter_map(|process| {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    kilobytes.sum::<u64>() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_wrk_is_parsed() {
        let said = said(
            "Running 3s test @ http://127.0.0.1:1/page\n  Latency Distribution\n     50%  812.00us\n     75%    0.95ms\n     \
             99%    2.31ms\n  147201 requests in 3.00s, 1.94GB read\nRequests/sec:  49067.31\nTransfer/sec:    662.30MB\n",
        )
        .unwrap();
        assert_eq!((said.requests, said.rate, said.p50, said.p99), (147_201.0, 49_067.31, 812.0, 2310.0));
        assert!(said_nothing("").is_none() && microseconds("1.0h").is_none());
    }

    fn said_nothing(text: &str) -> Option<Said> {
        said(text)
    }

    #[test]
    fn the_cpu_and_the_memory_of_a_process_are_seen() {
        let own = family(std::process::id());
        assert!(own.contains(&std::process::id()) && memory(&own) > 100_000);
        let before = cpu(&own);
        while cpu(&own) == before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
    }

    #[test]
    fn medians_are_of_each_figure() {
        let run = |cpu_us, p99_us| Measured { cpu_us, p99_us, ..Measured::default() };
        let medians = Measured::medians(&[run(3.0, 1.0), run(1.0, 2.0), run(2.0, 9.0)]);
        assert_eq!((medians.cpu_us, medians.p99_us), (2.0, 2.0));
    }
}
