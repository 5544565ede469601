//! What the demo and the tests run on: PostgreSQL and Redis, found or installed, and started privately.
//!
//! Each server runs on a free port in a folder of its own. Nothing is left behind, however this process ends: see
//! [`Program`].

mod find;
mod guard;
mod postgres;
mod redis;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use guard::{Launch, Program};
pub use postgres::Postgres;
pub use redis::Redis;

/// Why a part of the stack is not there.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A program is neither here nor could it be installed.
    #[error("{what} is not installed, and {why}. Install it with:\n  {command}")]
    Missing {
        /// What is missing, for people.
        what: &'static str,
        /// Why it was not installed here and now.
        why: String,
        /// What to type.
        command: &'static str,
    },
    /// A program could not be started at all.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which one.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program was started and did not get ready.
    #[error("{program} did not get ready: {why}\n{log}")]
    NotReady {
        /// Which one.
        program: String,
        /// What was seen.
        why: String,
        /// The last lines of its log.
        log: String,
    },
    /// A command of a client program failed.
    #[error("{command}: {output}")]
    Command {
        /// What was run.
        command: String,
        /// What it said.
        output: String,
    },
    /// A folder could not be made, or the like.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A port of the loopback that nobody listens on now, and that is given to nobody who does not ask for it by number: a
/// server takes it a moment later, and some take it again when they start anew.
pub fn free_port() -> io::Result<u16> {
    /// Below those that systems give to outgoing connections and to port 0: from 32,768 on in Linux, 49,152 elsewhere.
    const PORTS: std::ops::Range<u16> = 10_240..32_768;
    /// Of so many one is free, unless something else is wrong, which the last fault then says.
    const TRIES: usize = 100;
    let free = || {
        let port = rand::random_range(PORTS);
        TcpListener::bind(("127.0.0.1", port)).map(|_| port)
    };
    (1..TRIES).find_map(|_| free().ok()).map_or_else(free, Ok)
}

/// A new folder under the system's temporary one. Whoever gets it sees to its end.
pub fn new_folder() -> io::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("cachepage-").tempdir()?.keep())
}

/// Asks again and again until a program is ready, has ended, or took too long.
fn wait_until_ready(program: &mut Program, ready: impl Fn() -> bool) -> Result<(), StackError> {
    const PATIENCE: Duration = Duration::from_secs(60);
    const PAUSE: Duration = Duration::from_millis(20);
    let started = Instant::now();
    while !ready() {
        let why = match program.try_wait() {
            Some(status) => format!("it ended with {status}"),
            None if started.elapsed() > PATIENCE => format!("not within {} s", PATIENCE.as_secs()),
            None => {
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        return Err(StackError::NotReady {
            program: program.name().to_owned(),
            why,
            log: program.last_lines(20),
        });
    }
    Ok(())
}
