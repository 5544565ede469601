//! The command line.

use std::ffi::OsString;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};

use crate::load::Target;

/// More need more ports than most machines have for one address.
const MAX_AT_ONCE: u64 = 20_000;

/// The walk asks for a full first page and for a second one.
const MIN_PROPERTIES: u64 = 21;

/// Past this the disk is demonstrated, not the cache.
const MAX_PROPERTIES: u64 = 10_000_000;

/// The laboratory: shows what the cache is worth, and measures it.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// Reads a command line. `cargo demo -- --check` comes as `demo -- --check`: the alias has its own `--` before
    /// that, so that both ways of writing mean the same.
    pub(crate) fn of(line: impl IntoIterator<Item = OsString>) -> Self {
        Self::parse_from(without_separator(line.into_iter().collect()))
    }
}

fn without_separator(mut line: Vec<OsString>) -> Vec<OsString> {
    if line.get(1..3).is_some_and(|words| words == ["demo", "--"]) {
        line.remove(2);
    }
    line
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),

    /// Send requests at once, and show each one's time
    ///
    /// All connections are made first; then all requests set out together. A time runs from there to the last byte of
    /// the answer. Exit status 1 if any request was not answered, or with a status of 400 or more.
    #[command(after_help = "Example, against the running demo:\n  \
                      bench bombard http://localhost:8000/api/properties/cached/")]
    Bombard {
        /// Page to ask for, http only
        url: Target,

        /// How many requests
        #[arg(short = 'n', long, value_name = "COUNT", default_value = "50", value_parser = between(1, MAX_AT_ONCE))]
        number: usize,
    },

    Compare(crate::compare::CompareArgs),

    /// Answer from memory, as a measure for `compare`
    #[command(hide = true)]
    Yardstick {
        kind: crate::compare::Kind,

        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,

        /// Of the body, in bytes
        #[arg(long, default_value = "14000")]
        size: usize,
    },
}

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

/// Where the proxy keeps pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StoreKind {
    Redis,
    Memory,
}

fn between(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_alias_takes_flags_with_and_without_a_separator() {
        for line in [&["bench", "demo", "--", "--check"][..], &["bench", "demo", "--check"]] {
            let Command::Demo(args) = Args::of(line.iter().map(OsString::from)).command else {
                panic!("{line:?}")
            };
            assert!(args.check, "{line:?}");
        }
    }
}
