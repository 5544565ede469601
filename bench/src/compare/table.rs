//! The rows of the comparison, as a table and as JSON.

use serde::{Serialize, Serializer};

use super::case::Case;
use super::measure::{Idle, Measured};
use super::peer::{Entrant, Kind};

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
    pub(crate) runs: Vec<Measured>,
    pub(crate) idle: Option<Idle>,
}

fn as_text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

/// Prints the rows of one case. CPU, requests and the 99th percentile are also shown as ratios to nginx's.
pub(crate) fn show(rows: &[Row]) {
    println!(
        "{:<30}{:>8}{:>8}{:>13}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "", "CPU us", "ratio", "requests/s", "ratio", "p50 ms", "p99 ms", "ratio", "hits %", "MB"
    );
    let nginx = rows.iter().find(|row| row.peer.kind == Kind::Nginx).map(|row| row.measured);
    for Row { peer, measured, .. } in rows {
        let ratio = |of: fn(&Measured) -> f64| {
            nginx.map_or_else(String::new, |nginx| format!("{:.2}", of(measured) / of(&nginx)))
        };
        println!(
            "{peer:<30}{:>8.2}{:>8}{:>13.0}{:>8}{:>8.2}{:>8.2}{:>8}{:>8.1}{:>8.1}",
            measured.cpu_us,
            ratio(|of| of.cpu_us),
            measured.requests_per_second,
            ratio(|of| of.requests_per_second),
            measured.p50_us / 1e3,
            measured.p99_us / 1e3,
            ratio(|of| of.p99_us),
            measured.hits * 100.0,
            measured.memory_mb
        );
    }
}
