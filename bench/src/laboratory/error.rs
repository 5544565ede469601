//! The errors of the laboratory.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use stack::{Program, StackError};
use tokio::task::JoinError;

use crate::load::TargetError;
use crate::run::RunError;

/// Why the laboratory failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabError {
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("cargo cannot be run: {0}")]
    NoCargo(io::Error),
    #[error("the programs could not be built (cargo: {0})")]
    Build(ExitStatus),
    #[error("{0} is missing; run bench by cargo, which builds it: cargo demo")]
    NotBuilt(String),
    #[error("the database could not be filled (seed: {0})")]
    Seed(ExitStatus),
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error("not a page that can be requested: {0}")]
    Target(#[from] TargetError),
    #[error("{program} {end}; the end of its log:\n{log}")]
    Died { program: String, end: String, log: String },
    #[error("{program} does not say that it is ready; the end of its log:\n{log}")]
    Silent { program: String, log: String },
    #[error("a task of bench ended early: {0}")]
    Broken(#[from] JoinError),
    #[error("not as the article says:\n{0}")]
    Unlike(String),
    #[error("{0} is not private; only private servers are measured")]
    Foreign(&'static str),
    #[error("PostgreSQL returned no plan: {0}")]
    Plan(String),
    #[error("{} has no Django; it needs: pip install {packages}", python.display())]
    NoDjango { python: PathBuf, packages: &'static str },
    #[error("the page has no property with a price")]
    NoPrice,
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("interrupted")]
    Interrupted,
}

impl LabError {
    /// The error for a program that died.
    pub(crate) fn died(program: &Program, status: ExitStatus) -> Self {
        let log = program.last_lines(20);
        let log = if log.is_empty() { "(none)".to_owned() } else { log };
        Self::Died { program: program.name().to_owned(), end: end(status), log }
    }
}

/// A shell reports a death by a signal as 128 and the signal's number.
fn end(status: ExitStatus) -> String {
    match status.code() {
        Some(code @ 129..) => format!("was ended by signal {}", code - 128),
        Some(code) => format!("ended with exit status {code}"),
        None => format!("ended: {status}"),
    }
}
