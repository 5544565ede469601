//! The program `bench`: what is asked for, and its exit status.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is for the person at the terminal")]

mod args;
mod bombard;
mod demo;
mod laboratory;
mod load;
mod site;
mod spread;
mod stop;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    match Args::parse().command {
        Command::Demo(args) => demo::run(&args).await,
        Command::Bombard { url, number } => bombard::run(&url, number).await,
    }
}
