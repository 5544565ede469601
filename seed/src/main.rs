//! The program `seed`: settings, load, summary, exit status.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bb8_postgres::tokio_postgres::NoTls;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};
use seed::schema::{AGENT, LOCATION, OFFICE, PROPERTY, TABLES};
use seed::{Args, Config, Database, Error, Loaded, Progress, Rows};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// The exit status for a fault in the command line.
const USAGE: u8 = 2;

/// How long to try to cancel the running statement. Without it, the server notices later that the client is gone.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::parse(&Args::parse()) {
        Ok(config) => config,
        Err(faults) => return complain(&faults, ExitCode::from(USAGE)),
    };
    let mut stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => return complain(&error, ExitCode::FAILURE),
    };
    match seed(&config, &mut stop).await {
        Ok(summary) => {
            // A closed output is not an error.
            let _ = writeln!(io::stdout(), "{summary}");
            ExitCode::SUCCESS
        }
        Err(End::Failed(error)) => complain(&error, ExitCode::FAILURE),
        Err(End::Stopped(by, done)) => complain(&format!("{}: {done}", by.name), ExitCode::from(by.status)),
    }
}

/// Why there is no summary.
enum End {
    Failed(Error),
    Stopped(By, &'static str),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

async fn seed(config: &Config, stop: &mut Stop) -> Result<String, End> {
    const UNCHANGED: &str = "stopped; nothing was changed";
    let started = Instant::now();
    let connected = stop.or(Database::connect(&config.database)).await;
    let mut database = connected.map_err(|by| End::Stopped(by, UNCHANGED))??;
    let cancel = database.cancel_token();
    let rows = Rows::new(config.seed, config.properties);
    let bar = bar(&rows);
    let show = |progress| show(&bar, progress);
    let loaded = stop.or(database.load(&rows, config, show)).await;
    bar.finish_and_clear();
    match loaded {
        Ok(loaded) => {
            if let Loaded::Left(found) = loaded? {
                return Ok(left(config, &database, found));
            }
        }
        Err(by) => {
            let _ = timeout(CANCEL_TIMEOUT, cancel.cancel_query(NoTls)).await;
            return Err(End::Stopped(by, UNCHANGED));
        }
    }
    let analyzed = stop.or(database.analyze()).await;
    analyzed.map_err(|by| End::Stopped(by, "stopped after the load; ANALYZE is missing"))??;
    Ok(summary(config, &rows, &database, started.elapsed()))
}

fn summary(config: &Config, rows: &Rows, database: &Database, took: Duration) -> String {
    format!(
        "{}: {} properties, {} locations, {} agents, {} offices; seed {}, indexes {}{}; {:.1} s",
        database.target(),
        rows.count(&PROPERTY),
        rows.count(&LOCATION),
        rows.count(&AGENT),
        rows.count(&OFFICE),
        config.seed,
        config.indexes,
        if config.follow { ", changes are notified" } else { "" },
        took.as_secs_f64()
    )
}

fn left(config: &Config, database: &Database, found: [i64; TABLES.len()]) -> String {
    let rows: Vec<_> =
        TABLES.iter().zip(found).map(|(table, count)| format!("{} has {count} rows", table.name)).collect();
    let done = match config.follow {
        true => "only the triggers are new",
        false => "nothing was changed",
    };
    format!("{}: {}; {done} (--if-empty)", database.target(), rows.join(", "))
}

/// A progress bar, which is hidden unless standard error is a terminal.
fn bar(rows: &Rows) -> ProgressBar {
    let bar = ProgressBar::new(TABLES.iter().map(|table| rows.count(table)).sum());
    match ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} rows, {elapsed}  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Stage(stage) => bar.set_message(stage),
        Progress::Rows(count) => bar.inc(count),
    }
}

/// The signals that stop the program.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

/// The signal that stopped the program. The exit status is 128 plus its number, as in a shell.
struct By {
    name: &'static str,
    status: u8,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Runs a future to its end, or drops it at a signal.
    async fn or<T>(&mut self, task: impl Future<Output = T>) -> Result<T, By> {
        tokio::select! {
            done = task => Ok(done),
            _ = self.interrupt.recv() => Err(By { name: "SIGINT", status: 130 }),
            _ = self.terminate.recv() => Err(By { name: "SIGTERM", status: 143 }),
        }
    }
}

fn complain(message: &impl fmt::Display, status: ExitCode) -> ExitCode {
    for line in message.to_string().lines() {
        let _ = writeln!(io::stderr(), "error: {line}");
    }
    status
}
