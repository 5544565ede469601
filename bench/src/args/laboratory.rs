//! The commands that run a laboratory of their own, and those that show what was measured there.

use std::path::PathBuf;

use super::between;
use crate::laboratory::StoreKind;
use crate::tables::Indexes;

/// The walk asks for a full first page and for a second one.
const MIN_PROPERTIES: u64 = 21;

/// Past this the disk is demonstrated, not the cache.
const MAX_PROPERTIES: u64 = 10_000_000;

/// Where nobody commits it by mistake.
const DEFAULT_RUN: &str = "target/experiment.json";

/// Walk through the article, then serve until Ctrl-C
///
/// Builds origin, proxy and seed, finds or starts PostgreSQL and Redis, fills the database, and makes the article's
/// requests: naive and optimized, cache miss and hit, key and TTL in Redis, 50 at once. What was seen is printed as one
/// table, and whether it is what the article says. Then proxy and origin serve on the ports 8000 and 8001 (free ones,
/// if these are busy) until Ctrl-C or SIGTERM, which leaves nothing behind.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Servers of your own are used if their URLs are given: the database is filled anew by the seed, and in \
                  Redis only the article's own keys are touched.\n\n\
                  Examples:\n  \
                  cargo demo\n  \
                  cargo demo -- --check\n  \
                  DATABASE_URL=postgres://me@localhost/housing cargo demo"
)]
pub(crate) struct DemoArgs {
    /// Exit after the walk: status 0 if all was as the article says, or 1, naming what was not
    #[arg(long)]
    pub(crate) check: bool,

    /// How many properties to fill the database with
    #[arg(long, value_name = "COUNT", default_value = "5000", value_parser = between(MIN_PROPERTIES, MAX_PROPERTIES))]
    pub(crate) properties: usize,

    /// Where the proxy keeps pages: redis if it can be had, else memory
    #[arg(long, value_enum, value_name = "redis|memory")]
    pub(crate) store: Option<StoreKind>,

    /// Database to fill and to serve, instead of a private server
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// Redis to keep pages in, instead of a private server
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    pub(crate) redis_url: Option<String>,
}

/// Measure the whole article in one run, and write a report
///
/// On a private PostgreSQL and Redis, for each size of the table and each set of indexes: single requests (naive,
/// optimized, cache miss, cache hit) with their queries and the time in the database, the plan of the list query, and
/// 50 requests at once. On the first table also: more and more users, the article's mixed users, and the load loop
/// itself against a server of one prepared answer. Says first how long it will take.
///
/// All samples and their summary go to a JSON file, the report to an HTML file beside it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        cargo run --release --bin bench -- experiment --quick\n  \
                        cargo run --release --bin bench -- experiment --out measured.json\n  \
                        bench diff before.json measured.json")]
pub(crate) struct ExperimentArgs {
    /// Fewer tables and shorter loads: under 3 minutes on two cores
    #[arg(long)]
    pub(crate) quick: bool,

    /// Sizes of the table [default: 5000,50000,500000; with --quick 5000,50000,200000]
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', value_parser = between(MIN_PROPERTIES, MAX_PROPERTIES))]
    pub(crate) properties: Vec<usize>,

    /// Sets of indexes [default: none,django,optimized; with --quick none,optimized]
    #[arg(long, value_enum, value_name = "SETS", value_delimiter = ',')]
    pub(crate) indexes: Vec<Indexes>,

    /// How long the mixed users stay, in seconds [default: 60; with --quick 15]
    #[arg(long, value_name = "SECONDS", value_parser = between(1, 3_600))]
    pub(crate) seconds: Option<usize>,

    /// A Python with Django, Django REST Framework, psycopg and redis: real Django is measured beside [default: python3
    /// and python, if they have them]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: Option<PathBuf>,

    /// Where to write what was measured; the report comes beside it, as .html
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_RUN)]
    pub(crate) out: PathBuf,

    /// Exit with status 1 if any request failed
    #[arg(long)]
    pub(crate) fail_on_error: bool,
}

/// Make a report of what was measured: one HTML file, or what the README shows
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// What `experiment` or `mixed --json` has written
    #[arg(value_name = "FILE", default_value = DEFAULT_RUN)]
    pub(crate) run: PathBuf,

    /// Where to write the report [default: beside the FILE, as .html]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Print the README's table in Markdown instead, with this path of its chart
    #[arg(long, value_name = "CHART", num_args = 0..=1, default_missing_value = "docs/measurements/users.svg")]
    pub(crate) markdown: Option<String>,

    /// Print the main chart as SVG instead
    #[arg(long, conflicts_with = "markdown")]
    pub(crate) svg: bool,
}

/// Compare two runs, figure by figure
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// The one before
    pub(crate) before: PathBuf,

    /// The one after
    pub(crate) after: PathBuf,

    /// A change by less is called noise, in percent
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = between(0, 1000))]
    pub(crate) noise: usize,
}
