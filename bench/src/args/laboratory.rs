//! The arguments of the commands that start their own servers, and of those that show the measurements.

use std::path::PathBuf;

use super::between;
use crate::laboratory::StoreKind;
use crate::tables::Indexes;

/// The walk needs a full first page (20 properties) and a second one.
const MIN_PROPERTIES: u64 = 21;

/// Larger tables would measure the disk, not the cache.
const MAX_PROPERTIES: u64 = 10_000_000;

/// The file is in `target`, where nobody commits it by mistake.
const DEFAULT_RUN: &str = "target/experiment.json";

/// Walk through the article, then serve until Ctrl-C
///
/// Builds origin, proxy and seed, finds or starts PostgreSQL and Redis, fills the database, and makes the article's
/// requests: naive and optimized, cache miss and hit, key and TTL in Redis, 50 at once. A table shows what was seen and
/// whether it matches the article. Then proxy and origin serve on the ports 8000 and 8001 (or free ones, if these are
/// busy) until Ctrl-C or SIGTERM, which leaves nothing behind.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Servers of your own are used if their URLs are given: the database is filled anew by the seed, and in \
                  Redis only the article's own keys are touched.\n\n\
                  Examples:\n  \
                  cargo demo\n  \
                  cargo demo -- --check\n  \
                  cargo demo -- --explore\n  \
                  cargo demo -- --store cluster\n  \
                  DATABASE_URL=postgres://me@localhost/housing cargo demo"
)]
pub(crate) struct DemoArgs {
    /// Exit after the walk: with status 0 if every step matches the article, else 1 and the names of the others
    #[arg(long)]
    pub(crate) check: bool,

    /// After the walk, open the proxy's own page in the browser
    #[arg(long, conflicts_with = "check")]
    pub(crate) explore: bool,

    /// How many properties to fill the database with
    #[arg(long, value_name = "COUNT", default_value = "5000", value_parser = between(MIN_PROPERTIES, MAX_PROPERTIES))]
    pub(crate) properties: usize,

    /// Where the proxy keeps pages [default: redis if it is available, else memory]. With `cluster`, three proxies share
    /// three primaries with a replica each, and a primary is killed under load
    #[arg(long, value_enum, value_name = "redis|memory|cluster")]
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
/// itself against a server of one prepared answer. Prints first how long it will take.
///
/// All samples and their summary go to a JSON file, the report to an HTML file next to it.
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

    /// How long the mixed users run, in seconds [default: 60; with --quick 15]
    #[arg(long, value_name = "SECONDS", value_parser = between(1, 3_600))]
    pub(crate) seconds: Option<usize>,

    /// A Python with Django, Django REST Framework, psycopg and redis, to measure real Django, too [default: python3 or
    /// python, if they have these packages]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: Option<PathBuf>,

    /// Where to write the run; the report goes next to it, as .html
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_RUN)]
    pub(crate) out: PathBuf,

    /// Exit with status 1 if any request failed
    #[arg(long)]
    pub(crate) fail_on_error: bool,
}

/// Make a report of a run: one HTML file, or the parts that docs/laboratory.md shows
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// A run, as written by `experiment` or `mixed --json`
    #[arg(value_name = "FILE", default_value = DEFAULT_RUN)]
    pub(crate) run: PathBuf,

    /// Where to write the report [default: next to FILE, as .html]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Print the table of docs/laboratory.md in Markdown instead, with CHART as the path of its chart
    #[arg(long, value_name = "CHART", num_args = 0..=1, default_missing_value = "measurements/users.svg")]
    pub(crate) markdown: Option<String>,

    /// Print the main chart as SVG instead
    #[arg(long, conflicts_with = "markdown")]
    pub(crate) svg: bool,
}

/// Compare two runs, figure by figure
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// The earlier run
    pub(crate) before: PathBuf,

    /// The later run
    pub(crate) after: PathBuf,

    /// A smaller change is called noise, in percent
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = between(0, 1000))]
    pub(crate) noise: usize,
}
