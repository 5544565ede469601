//! A private Redis.

use std::path::PathBuf;
use std::process::Command;

use super::find::REDIS;
use super::{Launch, Program, StackError, free_port, new_folder, wait_until_ready};

/// A private server. It is ended and removed when this is dropped or this process ends.
#[derive(Debug)]
pub struct Redis {
    program: Program,
    programs: PathBuf,
    port: u16,
}

impl Redis {
    /// Starts an empty server on a free port.
    pub fn start() -> Result<Self, StackError> {
        let programs = REDIS.folder()?;
        let port = free_port()?;
        let program = launch(&programs, port)?;
        Ok(Self { program, programs, port })
    }

    /// Whether the programs are installed; installs them if that is allowed.
    pub fn is_at_hand() -> bool {
        REDIS.folder().is_ok()
    }

    /// Ends the server, if it still runs, and starts an empty one on the same port.
    pub fn restart(&mut self) -> Result<(), StackError> {
        self.program.stop();
        self.program = launch(&self.programs, self.port)?;
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

    /// Runs `redis-cli` on database 1 and returns its raw output.
    pub fn cli(&self, args: &[&str]) -> Result<String, StackError> {
        cli(&self.programs, self.port, args)
    }

    /// The path of `redis-cli`.
    pub fn cli_program(&self) -> PathBuf {
        self.programs.join("redis-cli")
    }
}

fn launch(programs: &std::path::Path, port: u16) -> Result<Program, StackError> {
    let folder = new_folder()?;
    let port_text = port.to_string();
    let mut program = Launch::new("Redis", &programs.join("redis-server"), &folder.join("redis.log"))
        .args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .args([folder.as_os_str()])
        .folder(&folder)
        .start()?;
    wait_until_ready(&mut program, || cli(programs, port, &["PING"]).is_ok_and(|answer| answer == "PONG"))?;
    Ok(program)
}

fn cli(programs: &std::path::Path, port: u16, args: &[&str]) -> Result<String, StackError> {
    let port = port.to_string();
    let output = Command::new(programs.join("redis-cli"))
        .args(["-p", &port, "-n", "1", "--raw"])
        .args(args)
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(StackError::Command {
        command: format!("redis-cli {}", args.join(" ")),
        output: text(&output.stderr),
    })
}
