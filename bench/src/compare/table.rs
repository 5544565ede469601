//! The rows of the comparison, as a table and as JSON.

use serde::{Serialize, Serializer};

use super::case::Case;
use super::entrant::{Entrant, Kind};
use super::measure::{Idle, Measured, median};

/// One line of the comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(serialize_with = "as_text")]
    pub(crate) peer: Entrant,
    #[serde(serialize_with = "as_text")]
    pub(crate) case: Case,
    pub(crate) size: usize,
    pub(crate) connections: usize,
    #[serde(flatten)]
    pub(crate) measured: Measured,
    pub(crate) of_nginx: Option<Ratios>,
    /// The figures of each round; `None` if the round failed.
    pub(crate) runs: Vec<Option<Measured>>,
    pub(crate) idle: Option<Idle>,
}

/// The figures of a server as ratios to nginx's.
///
/// Each is the median of the ratios of all rounds: within a round, other load of the machine affects both servers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratios {
    cpu: f64,
    requests_per_second: f64,
    p99: f64,
}

impl Ratios {
    /// The ratios; `None` if no round has figures of both servers.
    fn new(runs: &[Option<Measured>], nginx: &[Option<Measured>]) -> Option<Self> {
        let rounds: Vec<_> = runs.iter().zip(nginx).filter_map(|(run, nginx)| run.zip(*nginx)).collect();
        let ratio = |of: fn(&Measured) -> f64| median(rounds.iter().map(|(run, nginx)| of(run) / of(nginx)));
        (!rounds.is_empty()).then(|| Self {
            cpu: ratio(|of| of.cpu_us),
            requests_per_second: ratio(|of| of.requests_per_second),
            p99: ratio(|of| of.p99_us),
        })
    }
}

fn as_text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

/// Adds the ratios to nginx to the rows of one case, if nginx is among them.
pub(crate) fn compare_with_nginx(rows: &mut [Row]) {
    let nginx = rows.iter().find(|row| row.peer.kind == Kind::Nginx).map(|row| row.runs.clone());
    for row in rows {
        row.of_nginx = nginx.as_ref().and_then(|nginx| Ratios::new(&row.runs, nginx));
    }
}

/// Prints the rows of one case.
pub(crate) fn show(rows: &[Row]) {
    println!(
        "{:<30}{:>8}{:>8}{:>13}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "", "CPU us", "ratio", "requests/s", "ratio", "p50 ms", "p99 ms", "ratio", "hits %", "MB"
    );
    for Row { peer, measured, of_nginx, .. } in rows {
        let ratio =
            |of: fn(&Ratios) -> f64| of_nginx.map_or_else(String::new, |all| format!("{:.2}", of(&all)));
        println!(
            "{peer:<30}{:>8.2}{:>8}{:>13.0}{:>8}{:>8.2}{:>8.2}{:>8}{:>8.1}{:>8.1}",
            measured.cpu_us,
            ratio(|of| of.cpu),
            measured.requests_per_second,
            ratio(|of| of.requests_per_second),
            measured.p50_us / 1e3,
            measured.p99_us / 1e3,
            ratio(|of| of.p99),
            measured.hits * 100.0,
            measured.memory_mb
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_that_both_have() {
        let run = |cpu_us| Some(Measured { cpu_us, ..Measured::default() });
        let nginx = [run(10.0), run(20.0), run(40.0), None];
        let ratios = Ratios::new(&[run(10.0), run(10.0), run(80.0), run(1.0)], &nginx).unwrap();
        assert_eq!(ratios.cpu, 1.0);
        assert_eq!(Ratios::new(&[None, None, None, run(1.0)], &nginx), None);
    }
}
