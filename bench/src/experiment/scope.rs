//! The scope of an experiment: its measurements, and how long they will take.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::loads::LIMITS;
use crate::args::ExperimentArgs;
use crate::mixed::Mixed;
use crate::tables::{Indexes, Tables};

/// The parts of an experiment.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) quick: bool,
    /// The first tables are the article's. All loads over time run on them.
    pub(super) tables: Vec<Tables>,
    /// For each page, the largest number of single requests and the longest time for them.
    pub(super) rounds: usize,
    pub(super) patience: Duration,
    /// The number of users on each rung of the ladder, and the time of a rung.
    pub(super) rungs: Vec<usize>,
    pub(super) rung_seconds: u64,
    pub(super) scenarios: Vec<Mixed>,
    /// How long each limit is measured.
    pub(super) limit_seconds: u64,
    /// The number of pages of the limit with many pages.
    pub(super) pages: usize,
    pub(super) changes: Changes,
}

/// How prices change while readers read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changes {
    /// How many seconds the page is kept if it does not follow the database.
    pub(super) kept: u32,
    /// The time between two changes.
    pub(super) every: Duration,
}

impl Changes {
    fn new(kept: u32) -> Self {
        // With a short pause, most of the time would go into starting psql.
        let every = Duration::from_secs(kept.into()) / 12;
        Self { kept, every: every.max(Duration::from_millis(250)) }
    }

    /// How long readers read: the page that does not follow the database is fetched twice in this time.
    pub(super) fn time(&self) -> Duration {
        2 * Duration::from_secs(self.kept.into())
    }
}

impl Scope {
    pub(super) fn of(args: &ExperimentArgs) -> Self {
        let quick = args.quick;
        let sizes = or(&args.properties, &[5_000, 50_000, if quick { 200_000 } else { 500_000 }]);
        let usual: &[_] = match quick {
            true => &[Indexes::None, Indexes::Optimized],
            false => &[Indexes::None, Indexes::Django, Indexes::Optimized],
        };
        let indexes = or(&args.indexes, usual);
        let tables = |properties| indexes.iter().map(move |indexes| Tables { properties, indexes: *indexes });
        let seconds = args.seconds.unwrap_or(if quick { 15 } else { 60 });
        Self {
            quick,
            tables: sizes.into_iter().flat_map(tables).collect(),
            rounds: if quick { 40 } else { 100 },
            patience: Duration::from_secs(if quick { 2 } else { 10 }),
            rungs: if quick { vec![1, 50, 100, 200] } else { vec![1, 25, 50, 100, 200, 300] },
            // No longer than the mixed users run.
            rung_seconds: (if quick { 3 } else { 6 }).min(seconds as u64),
            scenarios: scenarios(quick, seconds),
            limit_seconds: (if quick { 3 } else { 10 }).min(seconds as u64),
            // Fetching the pages one by one before the measurement must not take longer than the measurement.
            pages: if quick { 200 } else { 2_000 }.min(40 * seconds),
            // The article's time, if the mixed users run that long.
            changes: Changes::new(if quick { 12 } else { 60 }.min(seconds as u32)),
        }
    }

    /// The expected time, from measurements on two cores of 2024; other machines may be slower.
    pub(super) fn expected(&self) -> Duration {
        let tables: f64 = self.tables.iter().map(|tables| self.expected_of(*tables)).sum();
        // The naive and the cached page have a ladder each. The arrival before each measurement takes a quarter more.
        let ladder = 2 * self.rungs.len() as u64 * self.rung_seconds * 5 / 4;
        let scenarios: usize = self.scenarios.iter().map(|mixed| mixed.seconds).sum();
        let limits = LIMITS as u64 * self.limit_seconds + self.pages as u64 / 150;
        let changes = self.changes.time().as_secs() + 8;
        Duration::from_secs(tables as u64 + ladder + scenarios as u64 + limits + changes + 10)
    }

    /// The seconds to fill the tables, for the single requests, and for 50 at once.
    fn expected_of(&self, tables: Tables) -> f64 {
        let properties = tables.properties as f64;
        let naive_seconds = 0.01 + properties * 4e-7;
        let rounds = (self.rounds as f64 * 3.0 * naive_seconds).min(self.patience.as_secs_f64());
        1.0 + properties * 1.6e-5 + rounds + 3.0 * 50.0 * naive_seconds
    }
}

fn or<T: Clone>(given: &[T], usual: &[T]) -> Vec<T> {
    if given.is_empty() { usual } else { given }.to_vec()
}

/// The article's users; in a full run also the same number of requests at an open pace.
fn scenarios(quick: bool, seconds: usize) -> Vec<Mixed> {
    let closed = Mixed { users: 100, spawn_rate: 10.0, seconds, rate: None };
    let open = Mixed { seconds: seconds.div_ceil(2), rate: Some(200.0), ..closed };
    if quick { vec![closed] } else { vec![closed, open] }
}

impl Display for Scope {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.quick { "A quick" } else { "A full" };
        let tables: Vec<_> = self.tables.iter().map(Tables::to_string).collect();
        let (minutes, seconds) = (self.expected().as_secs() / 60, self.expected().as_secs() % 60);
        writeln!(f, "{kind} experiment on {}.", tables.join("; "))?;
        write!(f, "It will take about {minutes} min {seconds} s; Ctrl-C ends it, and leaves nothing behind.")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn scope(flags: &[&str]) -> Scope {
        let command = ["bench", "experiment"].iter().chain(flags);
        match Args::parse_from(command).command {
            Command::Experiment(args) => Scope::of(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_quick_experiment_takes_less_than_three_minutes() {
        assert!(scope(&["--quick"]).expected() < Duration::from_secs(180));
        assert!(scope(&["--quick"]).to_string().ends_with("s; Ctrl-C ends it, and leaves nothing behind."));
    }

    #[test]
    fn a_full_experiment_takes_less_than_ten_minutes_and_keeps_a_page_as_long_as_the_article() {
        let full = scope(&[]);
        assert!(full.expected() < Duration::from_secs(600), "{:?}", full.expected());
        assert_eq!((full.changes.kept, full.changes.every), (60, Duration::from_secs(5)));
        assert_eq!(full.pages, 2_000);
    }

    #[test]
    fn a_full_experiment_has_each_size_with_each_set_of_indexes() {
        let full = scope(&[]);
        assert_eq!((full.tables.len(), full.scenarios.len()), (9, 2));
        assert_eq!(full.tables[0], Tables { properties: 5000, indexes: Indexes::None });
    }

    #[test]
    fn flags_shorten_the_experiment() {
        let short = scope(&["--properties", "100,200", "--indexes", "django", "--seconds", "1"]);
        let tables = [100, 200].map(|properties| Tables { properties, indexes: Indexes::Django });
        assert_eq!((&short.tables[..], short.rung_seconds, short.scenarios[0].seconds), (&tables[..], 1, 1));
    }
}
