//! A private Redis, or a Valkey, which the tests treat like a Redis.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::find::{Package, REDIS, VALKEY};
use super::{Launch, Program, StackError, free_port, new_folder, wait_until_ready};

/// Which programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brand {
    /// `redis-server`.
    Redis,
    /// `valkey-server`.
    Valkey,
}

impl Brand {
    /// The brand of the tests: Valkey if `CACHEPAGE_TEST_BRAND` says `valkey`, otherwise Redis.
    pub fn chosen() -> Self {
        match std::env::var_os("CACHEPAGE_TEST_BRAND").is_some_and(|brand| brand == "valkey") {
            true => Self::Valkey,
            false => Self::Redis,
        }
    }

    fn package(self) -> &'static Package {
        match self {
            Self::Redis => &REDIS,
            Self::Valkey => &VALKEY,
        }
    }

    /// The path of one of its programs: `server` or `cli`.
    pub(super) fn program(self, name: &str) -> Result<PathBuf, StackError> {
        let brand = match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        };
        Ok(self.package().folder()?.join(format!("{brand}-{name}")))
    }
}

/// A private server. It is ended and removed when this is dropped or this process ends.
#[derive(Debug)]
pub struct Redis {
    program: Program,
    brand: Brand,
    port: u16,
    options: Vec<String>,
}

impl Redis {
    /// Starts an empty server of the chosen brand on a free port.
    pub fn start() -> Result<Self, StackError> {
        Self::start_as(Brand::chosen(), &[])
    }

    /// Starts an empty server of this brand, with further options.
    pub fn start_as(brand: Brand, options: &[&str]) -> Result<Self, StackError> {
        Self::start_at(free_port()?, brand, options)
    }

    pub(super) fn start_at(port: u16, brand: Brand, options: &[&str]) -> Result<Self, StackError> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        Ok(Self { program: launch(brand, port, &options)?, brand, port, options })
    }

    /// Whether the programs are installed; installs them if that is allowed.
    pub fn is_at_hand() -> bool {
        REDIS.folder().is_ok()
    }

    /// Ends the server, if it still runs, and starts an empty one on the same port.
    pub fn restart(&mut self) -> Result<(), StackError> {
        self.program.stop();
        self.program = launch(self.brand, self.port, &self.options)?;
        Ok(())
    }

    /// Ends the server.
    pub fn stop(&mut self) {
        self.program.stop();
    }

    /// The URL of database 1.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/1", self.port)
    }

    /// Whether it says that it is a primary.
    pub fn is_primary(&self) -> bool {
        self.cli(&["INFO", "replication"]).is_ok_and(|state| state.contains("role:master"))
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The program of the server, to watch it.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Runs `redis-cli` on database 1, or in a cluster on the node's only database, and returns its raw output.
    pub fn cli(&self, args: &[&str]) -> Result<String, StackError> {
        let database =
            if self.options.iter().any(|option| option == "--cluster-enabled") { "0" } else { "1" };
        cli(self.brand, &["-p", &self.port.to_string(), "-n", database, "--raw"], args)
    }

    /// The path of `redis-cli`.
    pub fn cli_program(&self) -> PathBuf {
        self.brand.program("cli").unwrap_or_else(|_| PathBuf::from("redis-cli"))
    }
}

fn launch(brand: Brand, port: u16, options: &[String]) -> Result<Program, StackError> {
    let folder = new_folder()?;
    let port_text = port.to_string();
    let mut program = Launch::new("Redis", &brand.program("server")?, &folder.join("redis.log"))
        .args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .args([folder.as_os_str()])
        .args(options)
        .folder(&folder)
        .start()?;
    wait_until_ready(&mut program, || is_ready(brand, port))?;
    Ok(program)
}

/// Starts a program of this brand from a file of settings in a folder that is removed with it.
pub(super) fn launch_from(
    brand: Brand,
    folder: &Path,
    file: &Path,
    port: u16,
) -> Result<Program, StackError> {
    let mut program = Launch::new("Sentinel", &brand.program("server")?, &folder.join("sentinel.log"))
        .args([file.as_os_str()])
        .args(["--sentinel"])
        .folder(folder)
        .start()?;
    wait_until_ready(&mut program, || is_ready(brand, port))?;
    Ok(program)
}

fn is_ready(brand: Brand, port: u16) -> bool {
    cli(brand, &["-p", &port.to_string(), "--raw"], &["PING"]).is_ok_and(|answer| answer == "PONG")
}

/// Runs the client program and returns its output.
pub(super) fn cli(brand: Brand, options: &[&str], args: &[&str]) -> Result<String, StackError> {
    let output = Command::new(brand.program("cli")?).args(options).args(args).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(StackError::Command {
        command: format!("redis-cli {}", args.join(" ")),
        output: text(&output.stderr),
    })
}
