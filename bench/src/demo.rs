//! `demo`: the article, played through on this machine, step by step.
//!
//! 1. `programs` builds origin, proxy and seed.
//! 2. `laboratory` finds or starts PostgreSQL (`database`) and Redis (`pages`), fills the database, and starts origin
//!    and proxy (`server`).
//! 3. `walk` makes the article's requests; `database` and `witness` say what PostgreSQL and Redis saw of them. Each
//!    `step` knows whether it was as the article says.
//! 4. Then it serves, until it is told to stop or one of its programs dies.
//!
//! Whatever ends it, dropping the laboratory ends its programs in order.

mod database;
mod error;
mod laboratory;
mod pages;
mod programs;
mod server;
mod step;
mod walk;
mod witness;

use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::error::DemoError;
use self::laboratory::Laboratory;
use self::step::Steps;
use crate::args::DemoArgs;

/// Plays the article through, and says on standard error what went wrong.
pub(crate) async fn run(args: &DemoArgs) -> ExitCode {
    match play(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(args: &DemoArgs) -> Result<(), DemoError> {
    let mut stop = Stop::listen()?;
    let mut laboratory = stop.or(Laboratory::set_up(args)).await?;
    let steps = stop.or(walk_through(&mut laboratory)).await?;
    println!("\n{steps}");
    if args.check {
        return steps.verdict();
    }
    println!("{}", laboratory.invitation());
    tokio::select! {
        dead = laboratory.death() => Err(dead),
        () = stop.recv() => {
            println!("\nStopping.");
            Ok(())
        }
    }
}

async fn walk_through(laboratory: &mut Laboratory) -> Result<Steps, DemoError> {
    println!("Walking through the article.");
    let steps = walk::walk(laboratory).await;
    // Whatever a dead program made of the walk, its death is the news.
    laboratory.alive()?;
    steps
}

/// Ctrl-C or SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn recv(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => (), _ = self.terminate.recv() => () }
    }

    /// Does the work, unless we are told to stop first: then the work is dropped, and what it started ends.
    async fn or<T>(&mut self, work: impl Future<Output = Result<T, DemoError>>) -> Result<T, DemoError> {
        tokio::select! {
            done = work => done,
            () = self.recv() => Err(DemoError::Interrupted),
        }
    }
}
