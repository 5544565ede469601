//! `experiment`: all measurements of the article, in one run.
//!
//! 1. `scope` decides what is measured, and estimates the time.
//! 2. On each of the tables, `pages` measures single requests and 50 at once, and `plan` has PostgreSQL explain the list
//!    query.
//! 3. `django` measures single requests to real Django on the first tables, if Python has it.
//! 4. `loads` runs users on the first tables: more and more of them, the article's mixed users, and as many requests as
//!    possible. `changes` lets prices change while users read.
//! 5. The run is saved, and the report is made from it.

mod changes;
mod django;
mod loads;
mod pages;
mod plan;
mod progress;
mod scope;

use std::process::ExitCode;

use self::django::Django;
use self::progress::Progress;
use self::scope::Scope;
use crate::args::ExperimentArgs;
use crate::laboratory::{LabError, Laboratory, Setup, StoreKind};
use crate::report;
use crate::run::Run;
use crate::stop::Stop;
use crate::tables::Tables;

/// Measures, saves and reports; prints errors on standard error.
pub(crate) async fn run(args: &ExperimentArgs) -> ExitCode {
    match measure(args).await {
        Ok(failed) if failed > 0 && args.fail_on_error => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many requests failed.
async fn measure(args: &ExperimentArgs) -> Result<usize, LabError> {
    let scope = Scope::of(args);
    println!("{scope}");
    // This comes before the measurements: a run that cannot be saved would be in vain.
    Run::prepare(&args.out)?;
    let mut stop = Stop::listen()?;
    let django = Django::find(args.python.as_deref()).await?;
    let laboratory = stop.or(Laboratory::set_up(&setup(&scope))).await?;
    let mut experiment = Experiment::new(laboratory, scope, django);
    stop.or(experiment.conduct()).await?;
    let run = experiment.finish();
    run.write(&args.out)?;
    println!("\n{}", report::text(&run));
    let html = args.out.with_extension("html");
    report::write(&run, &html)?;
    println!("Saved as {}; the report is {}.", args.out.display(), html.display());
    Ok(run.failures().values().sum())
}

fn setup(scope: &Scope) -> Setup {
    let first = scope.tables[0];
    let store = Some(StoreKind::Redis);
    Setup { properties: first.properties, indexes: first.indexes, store, ..Setup::default() }
}

/// A running experiment.
#[derive(Debug)]
struct Experiment {
    laboratory: Laboratory,
    scope: Scope,
    django: Option<Django>,
    progress: Progress,
    run: Run,
}

impl Experiment {
    fn new(laboratory: Laboratory, scope: Scope, django: Option<Django>) -> Self {
        let progress = Progress::new(steps(&scope) + usize::from(django.is_some()), scope.expected());
        let run = Run::begin(if scope.quick { "bench experiment --quick" } else { "bench experiment" });
        Self { laboratory, scope, django, progress, run }
    }

    async fn conduct(&mut self) -> Result<(), LabError> {
        self.run.machine.postgres = self.laboratory.database.version()?;
        self.run.machine.redis = self.laboratory.pages.version()?;
        self.run.machine.django =
            self.django.as_ref().map(|django| django.version.clone()).unwrap_or_default();
        for (number, tables) in self.scope.tables.clone().into_iter().enumerate() {
            if number > 0 {
                self.progress.step(&format!("{tables}: filling the database"));
                self.laboratory.seed(tables.properties, tables.indexes).await?;
            }
            self.pages(tables).await?;
            if number == 0 {
                self.django(tables).await?;
                self.loads(tables).await?;
                self.changes(tables).await?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Run {
        self.run.seconds = self.progress.elapsed().as_secs_f64();
        self.run
    }
}

/// The number of steps that `conduct` takes.
fn steps(scope: &Scope) -> usize {
    let first_tables = 1;
    let pages = scope.tables.len() * pages::STEPS;
    let fillings = scope.tables.len() - first_tables;
    let changes = 1;
    pages + fillings + scope.rungs.len() + scope.scenarios.len() + loads::LIMITS + changes
}
