//! The program `bench`: runs a command and sets the exit status.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is for the person at the terminal")]

mod args;
mod bombard;
mod compare;
mod demo;
mod diff;
mod experiment;
mod failures;
mod fleet;
mod laboratory;
mod live;
mod load;
mod mixed;
mod report;
mod run;
mod server_timing;
mod site;
mod spread;
mod stop;
mod tables;
mod yardstick;

use std::process::ExitCode;

use crate::args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    match Args::of(std::env::args_os()).command {
        Command::Demo(args) => demo::run(&args).await,
        Command::Compare(args) => compare::run(args).await,
        Command::Bombard(args) => bombard::run(&args).await,
        Command::Mixed(args) => mixed::run(&args).await,
        Command::Experiment(args) => experiment::run(&args).await,
        Command::Report(args) => report::run(&args),
        Command::Fleet(args) => fleet::run(&args).await,
        Command::Diff(args) => diff::run(&args),
        Command::Yardstick(args) => yardstick::run(&args).await,
        Command::Floor { kind, listen, size } => compare::yardstick(kind, listen, size).await,
    }
}
