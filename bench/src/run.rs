//! A run of the laboratory: what was measured, on what, as it is kept in JSON.
//!
//! What a run does not have is empty: `mixed` writes one with its scenario alone.

mod figure;
mod machine;
mod series;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub(crate) use self::figure::{Figure, thousands};
pub(crate) use self::machine::Machine;
pub(crate) use self::series::{Series, Summary};
use crate::tables::Tables;

/// Of this kind of file. What changes the meaning of a field makes it another.
const FORMAT: u32 = 1;

/// What was measured in one go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) format: u32,
    /// The command.
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
    /// The load loop itself: as many requests as it can make.
    #[serde(default)]
    pub(crate) limits: Vec<Limit>,
    /// What Redis saw.
    #[serde(default)]
    pub(crate) redis: Option<RedisSight>,
}

impl Run {
    /// One that begins now, here.
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
            redis: None,
        }
    }

    /// Reads one that was saved.
    pub(crate) fn read(path: &Path) -> Result<Self, RunError> {
        let fault = |source| RunError::Read { path: path.to_owned(), source };
        let text = fs::read(path).map_err(fault)?;
        let run: Self = serde_json::from_slice(&text)
            .map_err(|source| RunError::Syntax { path: path.to_owned(), source })?;
        if run.format == FORMAT { Ok(run) } else { Err(RunError::Format { path: path.to_owned() }) }
    }

    /// Sees that one can be saved there, without touching what is there.
    pub(crate) fn prepare(path: &Path) -> Result<(), RunError> {
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let opened = folder.and_then(|()| fs::File::options().create(true).append(true).open(path));
        opened.map(drop).map_err(|source| RunError::Write { path: path.to_owned(), source })
    }

    /// Saves it, in place of what is there.
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
        let mut failures = BTreeMap::new();
        for summary in series.map(|series| &series.summary).chain(limits) {
            for (kind, count) in &summary.failures {
                *failures.entry(kind.as_str()).or_default() += count;
            }
        }
        failures
    }
}

/// How a page comes about.
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

/// Who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Site {
    Cachepage,
    Django,
}

/// One page, asked for again and again, by one reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Single {
    pub(crate) site: Site,
    pub(crate) way: Way,
    pub(crate) tables: Tables,
    /// Queries for one request, as PostgreSQL counted them.
    pub(crate) queries: Option<usize>,
    /// The time they took together, in the median, where the answer tells.
    pub(crate) database_ms: Option<f64>,
    pub(crate) series: Series,
}

/// What PostgreSQL does for the list query, as EXPLAIN ANALYZE says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) tables: Tables,
    /// How the table of properties is read: `Seq Scan`, `Index Scan`.
    pub(crate) scan: String,
    pub(crate) index: Option<String>,
    /// How many rows it reads to find the page's 20.
    pub(crate) rows: f64,
    /// The whole query, the median of a few.
    pub(crate) execution_ms: f64,
}

/// Requests at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bombardment {
    pub(crate) way: Way,
    pub(crate) tables: Tables,
    pub(crate) series: Series,
}

/// So many users, each at the same pace.
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
    /// Users a second, in the closed pace.
    pub(crate) spawn_rate: Option<f64>,
    /// Requests a second, in the open pace.
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) tables: Option<Tables>,
    /// One for each kind of users.
    pub(crate) series: Vec<Series>,
}

/// As many requests as a number of users can make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) users: usize,
    pub(crate) seconds: f64,
    pub(crate) summary: Summary,
}

/// What Redis saw of a miss and a hit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RedisSight {
    pub(crate) key: String,
    pub(crate) ttl_seconds: i64,
    /// Lines of MONITOR; the page itself is cut short.
    pub(crate) monitor: Vec<String>,
}

/// Why a run can be neither read nor written.
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
