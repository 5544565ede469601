//! Runs a program under a guard, which ends the program when this process ends, even if this process is killed.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use super::StackError;
use super::find::User;

/// The guard starts the program and waits for it. When this process closes the guard's standard input or ends (even by
/// SIGKILL), the guard tells the program to end, kills it after 15 s, and removes its folder. Before that it writes the
/// end of the log to its standard output, so that errors can show it.
const GUARD: &str = r#"
signal=$1 folder=$2 log=$3; shift 3
exec 3<&0
"$@" </dev/null 3<&- >>"$log" 2>&1 &
program=$!
echo "$program"
{
    read -r _ <&3
    kill -s "$signal" "$program"
    tenths=0
    while kill -0 "$program" && [ "$tenths" -lt 150 ]; do sleep 0.1; tenths=$((tenths + 1)); done
    kill -s KILL "$program"
} >>/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$program"
status=$?
kill "$watcher" 2>/dev/null
tail -c 4000 "$log"
[ -z "$folder" ] || rm -rf "$folder"
exit "$status"
"#;

/// How to start a program.
#[derive(Debug)]
pub struct Launch {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    log: PathBuf,
    signal: &'static str,
    folder: Option<PathBuf>,
    user: Option<User>,
}

impl Launch {
    /// A program that writes its output to a log file and ends in order at SIGTERM.
    pub fn new(name: &str, program: &Path, log: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.to_owned(),
            signal: "TERM",
            folder: None,
            user: None,
        }
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn signal(self, signal: &'static str) -> Self {
        Self { signal, ..self }
    }

    /// Sets a folder that is removed when the program has ended.
    pub fn folder(self, folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..self }
    }

    pub(super) fn user(self, user: Option<User>) -> Self {
        Self { user, ..self }
    }

    /// Starts the program in its own process group, so that Ctrl-C on the terminal reaches only this process.
    pub fn start(self) -> Result<Program, StackError> {
        let fault = |source| StackError::Start { program: self.name.clone(), source };
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(GUARD).arg("guard").arg(self.signal);
        command
            .arg(self.folder.clone().unwrap_or_default())
            .arg(&self.log)
            .arg(&self.program)
            .args(&self.args);
        command.envs(self.env.iter().cloned()).process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        let mut guard = command.spawn().map_err(fault)?;
        let mut line = String::new();
        let output = guard.stdout.take().ok_or_else(|| fault(io::ErrorKind::BrokenPipe.into()))?;
        let mut output = BufReader::new(output);
        output.read_line(&mut line).map_err(fault)?;
        let pid = line.trim().parse().map_err(|_| fault(io::ErrorKind::InvalidData.into()))?;
        let (log, folder) = (self.log, self.folder);
        Ok(Program { name: self.name, guard, output, pid, log, folder, last_words: String::new() })
    }
}

/// A running program. It ends when this is dropped or when this process ends.
#[derive(Debug)]
pub struct Program {
    name: String,
    guard: Child,
    output: BufReader<ChildStdout>,
    pid: u32,
    log: PathBuf,
    folder: Option<PathBuf>,
    last_words: String,
}

impl Program {
    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id of the program itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status, if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.guard.try_wait().ok().flatten()?;
        self.hear_last_words();
        Some(status)
    }

    /// The last lines of its log.
    pub fn last_lines(&self, count: usize) -> String {
        // When the program has ended, its log is removed with the folder.
        let log = if self.last_words.is_empty() { read(&self.log) } else { self.last_words.clone() };
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Ends the program: in order if possible, otherwise by force.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        drop(self.guard.stdin.take());
        let status = self.guard.wait().ok();
        self.hear_last_words();
        if let Some(folder) = &self.folder {
            // The guard has mostly removed the folder. A program that runs as another user can empty its folder but not remove
            // it.
            let _ = std::fs::remove_dir(folder);
        }
        status
    }

    /// Reads the end of the log. Does not block once the guard has ended, since only the guard holds the pipe.
    fn hear_last_words(&mut self) {
        let mut words = Vec::new();
        if self.output.read_to_end(&mut words).is_ok() && !words.is_empty() {
            self.last_words = String::from_utf8_lossy(&words).into_owned();
        }
    }
}

fn read(log: &Path) -> String {
    std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}
