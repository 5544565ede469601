//! `demo`: the article, played through on this machine, step by step.
//!
//! 1. The `laboratory` is set up: programs built, database filled, origin and proxy started.
//! 2. `walk` makes the article's requests; PostgreSQL and Redis say what they saw of them. Each `step` knows whether it
//!    was as the article says.
//! 3. Then it serves, until it is told to stop or one of its programs dies.

mod step;
mod walk;

use std::process::ExitCode;

use self::step::Steps;
use crate::args::DemoArgs;
use crate::laboratory::{LabError, Laboratory, Setup};
use crate::stop::Stop;

/// The article's ports, which its commands name: proxy and origin.
const PORTS: (u16, u16) = (8000, 8001);

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

async fn play(args: &DemoArgs) -> Result<(), LabError> {
    let mut stop = Stop::listen()?;
    let mut laboratory = stop.or(Laboratory::set_up(&setup(args))).await?;
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

fn setup(args: &DemoArgs) -> Setup {
    Setup {
        properties: args.properties,
        ports: PORTS,
        store: args.store,
        database_url: args.database_url.clone(),
        redis_url: args.redis_url.clone(),
        ..Setup::default()
    }
}

async fn walk_through(laboratory: &mut Laboratory) -> Result<Steps, LabError> {
    println!("Walking through the article.");
    let steps = walk::walk(laboratory).await;
    // Whatever a dead program made of the walk, its death is the news.
    laboratory.alive()?;
    steps
}
