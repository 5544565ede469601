//! The command line.

mod fleet;
mod laboratory;
mod load;

use std::ffi::OsString;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};

pub(crate) use self::fleet::FleetArgs;
pub(crate) use self::laboratory::{DemoArgs, DiffArgs, ExperimentArgs, ReportArgs};
pub(crate) use self::load::{BombardArgs, MixedArgs, YardstickArgs};

/// The laboratory: shows and measures what the cache gains.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// Parses a command line. The alias `cargo demo` ends with its own `--`, so `cargo demo -- --check` arrives as
    /// `demo -- --check`. The extra `--` is dropped, so that both spellings mean the same.
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
    Bombard(BombardArgs),
    Mixed(MixedArgs),
    Experiment(ExperimentArgs),
    Report(ReportArgs),
    Diff(DiffArgs),
    Fleet(FleetArgs),
    Yardstick(YardstickArgs),

    Compare(crate::compare::CompareArgs),

    /// Serve prepared answers, as a yardstick for `compare`
    #[command(hide = true)]
    Floor {
        kind: crate::compare::Kind,

        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,

        /// Size of the body, in bytes
        #[arg(long, default_value = "14000")]
        size: usize,
    },
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
