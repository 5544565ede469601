//! A run of the laboratory: the measurements and the machine, stored as JSON.
//!
//! A part that was not measured is empty: a run of `mixed` has only a scenario.

mod figure;
mod freshness;
mod machine;
mod series;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub(crate) use self::figure::{Figure, thousands};
pub(crate) use self::freshness::Freshness;
pub(crate) use self::machine::Machine;
pub(crate) use self::series::{Series, Summary};
use crate::tables::Tables;

/// The version of the file format. It changes when the meaning of a field changes.
const FORMAT: u32 = 1;

/// The measurements of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) format: u32,
    /// The command that made the run.
    pub(crate) command: String,
    /// When it began, in UTC.
    pub(crate) began: String,
    pub(crate) seconds: f64,
    pub(crate) machine: Machine,
    /// Single requests, one after the other.
    #[serde(default)]
    pub(crate) singles: Vec<Single>,
    /// Plans of the list query.
    #[serde(default)]
    pub(crate) plans: Vec<Plan>,
    /// Requests at once.
    #[serde(default)]
    pub(crate) bombardments: Vec<Bombardment>,
    /// More and more users.
    #[serde(default)]
    pub(crate) ladder: Vec<Rung>,
    /// Loads over time.
    #[serde(default)]
    pub(crate) scenarios: Vec<Scenario>,
    /// The limits: as many requests as the load loop can make.
    #[serde(default)]
    pub(crate) limits: Vec<Limit>,
    /// How old pages were while prices changed.
    #[serde(default)]
    pub(crate) freshness: Vec<Freshness>,
    /// The commands that Redis saw.
    #[serde(default)]
    pub(crate) redis: Option<RedisSight>,
}

impl Run {
    /// A run that begins now, on this machine.
    #[allow(clippy::disallowed_methods, reason = "the edge: when it began")]
    pub(crate) fn begin(command: &str) -> Self {
        Self {
            format: FORMAT,
            command: command.to_owned(),
            began: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            seconds: 0.0,
            machine: Machine::here(),
            singles: Vec::new(),
            plans: Vec::new(),
            bombardments: Vec::new(),
            ladder: Vec::new(),
            scenarios: Vec::new(),
            limits: Vec::new(),
            freshness: Vec::new(),
            redis: None,
        }
    }

    /// Reads a saved run.
    pub(crate) fn read(path: &Path) -> Result<Self, RunError> {
        let fault = |source| RunError::Read { path: path.to_owned(), source };
        let text = fs::read(path).map_err(fault)?;
        let run: Self = serde_json::from_slice(&text)
            .map_err(|source| RunError::Syntax { path: path.to_owned(), source })?;
        if run.format == FORMAT { Ok(run) } else { Err(RunError::Format { path: path.to_owned() }) }
    }

    /// Checks that a run can be saved at this path, without changing the file.
    pub(crate) fn prepare(path: &Path) -> Result<(), RunError> {
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let opened = folder.and_then(|()| fs::File::options().create(true).append(true).open(path));
        opened.map(drop).map_err(|source| RunError::Write { path: path.to_owned(), source })
    }

    /// Saves the run, and replaces the file if there is one.
    pub(crate) fn write(&self, path: &Path) -> Result<(), RunError> {
        let text = serde_json::to_string(self)
            .map_err(|source| RunError::Syntax { path: path.to_owned(), source })?;
        fs::write(path, text + "\n").map_err(|source| RunError::Write { path: path.to_owned(), source })
    }

    /// How many requests failed, by kind.
    pub(crate) fn failures(&self) -> BTreeMap<&str, usize> {
        let singles = self.singles.iter().map(|single| &single.series);
        let bombardments = self.bombardments.iter().map(|bombardment| &bombardment.series);
        let ladder = self.ladder.iter().map(|rung| &rung.series);
        let scenarios = self.scenarios.iter().flat_map(|scenario| &scenario.series);
        let series = singles.chain(bombardments).chain(ladder).chain(scenarios);
        let limits = self.limits.iter().map(|limit| &limit.summary);
        let freshness = self.freshness.iter().map(|page| &page.summary);
        let mut failures = BTreeMap::new();
        for summary in series.map(|series| &series.summary).chain(limits).chain(freshness) {
            for (kind, count) in &summary.failures {
                *failures.entry(kind.as_str()).or_default() += count;
            }
        }
        failures
    }
}

/// How a page is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// 62 queries, no cache.
    Naive,
    /// 2 queries, no cache.
    Optimized,
    /// The naive page through the cache, which does not have it.
    Miss,
    /// The naive page from the cache.
    Hit,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Optimized => "optimized",
            Self::Miss => "cached, miss",
            Self::Hit => "cached, hit",
        }
    }
}

/// The site that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Site {
    Cachepage,
    Django,
}

/// One page, requested repeatedly by one reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Single {
    pub(crate) site: Site,
    pub(crate) way: Way,
    pub(crate) tables: Tables,
    /// Queries for one request, as PostgreSQL counted them.
    pub(crate) queries: Option<usize>,
    /// The median of their total time, if the answer has it.
    pub(crate) database_ms: Option<f64>,
    pub(crate) series: Series,
}

/// How PostgreSQL runs the list query, from EXPLAIN ANALYZE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) tables: Tables,
    /// How the table of properties is read: `Seq Scan`, `Index Scan`.
    pub(crate) scan: String,
    pub(crate) index: Option<String>,
    /// How many rows it reads to find the page's 20.
    pub(crate) rows: f64,
    /// The time of the whole query, the median of several.
    pub(crate) execution_ms: f64,
}

/// Requests at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bombardment {
    pub(crate) way: Way,
    pub(crate) tables: Tables,
    pub(crate) series: Series,
}

/// A number of users, all at the same pace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rung {
    pub(crate) way: Way,
    pub(crate) users: usize,
    pub(crate) seconds: f64,
    pub(crate) series: Series,
}

/// A load over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) users: usize,
    /// Users that start each second, in the closed pace.
    pub(crate) spawn_rate: Option<f64>,
    /// Requests per second, in the open pace.
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) tables: Option<Tables>,
    /// The requests of each kind of users.
    pub(crate) series: Vec<Series>,
}

/// The most requests that a number of users can make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) users: usize,
    pub(crate) seconds: f64,
    pub(crate) summary: Summary,
}

/// The commands that Redis saw for a miss and a hit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RedisSight {
    pub(crate) key: String,
    pub(crate) ttl_seconds: i64,
    /// Lines of MONITOR, with the page truncated.
    pub(crate) monitor: Vec<String>,
}

/// Why a run cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no run of the laboratory: {source}", path.display())]
    Syntax { path: PathBuf, source: serde_json::Error },
    #[error("{} was written by another version of the laboratory", path.display())]
    Format { path: PathBuf },
}
