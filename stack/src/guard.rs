//! A program under guard: it ends when we do, however we end.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use super::StackError;
use super::find::User;

/// Starts the program and waits for it. When our end of its standard input closes, because we let go of it or because
/// we are no more (killed, even), it tells the program to end, kills it if it does not, and removes its folder. The log's
/// end comes to us before that, by its standard output: a program that died has last words.
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
    /// A program that writes its output to a log file and ends orderly at SIGTERM.
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

    /// With these arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn signal(self, signal: &'static str) -> Self {
        Self { signal, ..self }
    }

    /// The folder that ends with it.
    pub fn folder(self, folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..self }
    }

    pub(super) fn user(self, user: Option<User>) -> Self {
        Self { user, ..self }
    }

    /// Starts it, in a process group of its own: Ctrl-C on the terminal is for us, and we end it in order.
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

/// A running program, ended when this is dropped or when our process is no more.
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
    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process of the program itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.guard.try_wait().ok().flatten()?;
        self.hear_last_words();
        Some(status)
    }

    /// The end of its log.
    pub fn last_lines(&self, count: usize) -> String {
        // The log goes with the folder when it has ended.
        let log = if self.last_words.is_empty() { read(&self.log) } else { self.last_words.clone() };
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Ends it in order, and by force if it does not.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        drop(self.guard.stdin.take());
        let status = self.guard.wait().ok();
        self.hear_last_words();
        if let Some(folder) = &self.folder {
            // Gone already, but where a program of another user may empty its folder and not remove it.
            let _ = std::fs::remove_dir(folder);
        }
        status
    }

    /// Once the guard has ended: nobody else holds the pipe, so its end is there.
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
