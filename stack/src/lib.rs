//! PostgreSQL and Redis for the demo and the tests: found or installed, and started privately.
//!
//! Each server runs on a free port in its own folder. Nothing is left behind, however this process ends: see [`Program`].

mod cluster;
mod find;
mod guard;
mod postgres;
mod redis;
mod sentinel;
mod slot_move;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use cluster::Cluster;
pub use guard::{Launch, Program};
pub use postgres::Postgres;
pub use redis::{Brand, Redis};
pub use sentinel::Watched;
pub use slot_move::SlotMove;

/// Why a part of the stack could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A program was not found and could not be installed.
    #[error("{what} is not installed, and {why}. Install it with: {command}")]
    Missing {
        /// The name of the missing part, for messages.
        what: &'static str,
        /// Why it was not installed automatically.
        why: String,
        /// The command to install it.
        command: &'static str,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Its name.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A program was started and did not become ready.
    #[error("{program} did not become ready: {why}\n{log}")]
    NotReady {
        /// Its name.
        program: String,
        /// The failure.
        why: String,
        /// The last lines of its log.
        log: String,
    },
    /// A command of a client program failed.
    #[error("{command}: {output}")]
    Command {
        /// The command.
        command: String,
        /// Its error output.
        output: String,
    },
    /// Another I/O error, for example while a folder is made.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A free port of the loopback, outside of the range that the system assigns by itself: a server takes the port a moment
/// later, and some servers take it again after a restart.
pub fn free_port() -> io::Result<u16> {
    /// Below the range that the system assigns to outgoing connections and port 0: from 32,768 in Linux, 49,152 elsewhere.
    const PORTS: std::ops::Range<u16> = 10_240..32_768;
    /// How many ports are tried. If none of so many is free, something else is wrong, and the last error says so.
    const TRIES: usize = 100;
    let free = || {
        let port = rand::random_range(PORTS);
        TcpListener::bind(("127.0.0.1", port)).map(|_| port)
    };
    (1..TRIES).find_map(|_| free().ok()).map_or_else(free, Ok)
}

/// Makes a folder in the system's temporary folder. The caller removes it.
pub fn new_folder() -> io::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("cachepage-").tempdir()?.keep())
}

/// Polls until a program is ready, has ended, or took too long.
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
