//! `demo`: walks through the article on this machine, step by step.
//!
//! 1. The `laboratory` builds the programs, fills the database, and starts origin and proxy.
//! 2. `walk` makes the article's requests and reads what PostgreSQL and Redis saw of them. Each `step` records whether it
//!    matches the article. `changes` begins where the article ends: the page follows the database. On a cluster, `failover`
//!    kills a primary under load.
//! 3. Then the demo serves until it is told to stop or one of its programs dies.

mod changes;
mod failover;
mod step;
mod walk;

use std::io::{self, Write as _};
use std::process::{Command, ExitCode, Stdio};

use self::step::Steps;
use crate::args::DemoArgs;
use crate::laboratory::{LabError, Laboratory, Setup};
use crate::stop::Stop;

/// The article's ports, which its commands name: proxy and origin.
const PORTS: (u16, u16) = (8000, 8001);

/// The usual port of the admin listener.
const ADMIN: u16 = 8002;

/// Runs the demo, and prints errors on standard error.
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
    if let Some(page) = laboratory.admin_page().filter(|_| args.explore) {
        open(&page);
    }
    tokio::select! {
        dead = laboratory.death() => Err(dead),
        () = stop.recv() => {
            // If the terminal has closed, nobody reads this.
            let _ = writeln!(io::stdout(), "\nStopping.");
            Ok(())
        }
    }
}

/// Opens a page in the browser of this desktop, if there is one.
fn open(page: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut opener = Command::new(program);
    match opener.arg(page).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(_) => println!("Opening {page}"),
        Err(error) => println!("Open {page} yourself: {program} cannot be started ({error})"),
    }
}

fn setup(args: &DemoArgs) -> Setup {
    Setup {
        properties: args.properties,
        ports: PORTS,
        admin: Some(ADMIN),
        follows: true,
        store: args.store,
        database_url: args.database_url.clone(),
        redis_url: args.redis_url.clone(),
        ..Setup::default()
    }
}

async fn walk_through(laboratory: &mut Laboratory) -> Result<Steps, LabError> {
    println!("Walking through the article.");
    let steps = walk_and_fail_over(laboratory).await;
    // If a program died during the walk, the demo reports its death, and not the failed step.
    laboratory.alive()?;
    steps
}

async fn walk_and_fail_over(laboratory: &mut Laboratory) -> Result<Steps, LabError> {
    let Steps(mut steps) = walk::walk(laboratory).await?;
    steps.extend(failover::failover(laboratory).await?);
    Ok(Steps(steps))
}
