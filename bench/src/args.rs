//! The command line.

mod laboratory;
mod load;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};

pub(crate) use self::laboratory::{DemoArgs, DiffArgs, ExperimentArgs, ReportArgs};
pub(crate) use self::load::{BombardArgs, MixedArgs, YardstickArgs};

/// The laboratory: shows what the cache is worth, and measures it.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Bombard(BombardArgs),
    Mixed(MixedArgs),
    Experiment(ExperimentArgs),
    Report(ReportArgs),
    Diff(DiffArgs),
    Yardstick(YardstickArgs),
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
}
