//! The program `bench`: what is asked for, and its exit status.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is for the person at the terminal")]

mod args;
mod bombard;
mod compare;
mod demo;
mod load;
mod spread;

use std::process::ExitCode;

use crate::args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    match Args::of(std::env::args_os()).command {
        Command::Demo(args) => demo::run(&args).await,
        Command::Compare(args) => compare::run(args).await,
        Command::Yardstick { kind, listen, size } => compare::yardstick(kind, listen, size).await,
        Command::Bombard { url, number } => bombard::run(&url, number).await,
    }
}
