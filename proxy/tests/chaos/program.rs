//! The program under test and its log.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::PATIENCE;
use crate::over::Over;

const PROGRAM: &str = env!("CARGO_BIN_EXE_proxy");

/// A running proxy. Dropping it kills it.
pub(crate) struct Proxy {
    child: Child,
    /// The address for clients.
    pub(crate) address: SocketAddr,
    /// The address that it listens on. Only with `CACHEPAGE_TEST_TLS` it is another one.
    pub(crate) listens: SocketAddr,
    /// Its certificate, if it has one.
    _over: Option<Over>,
    log: Arc<Log>,
    _settings: NamedTempFile,
}

/// The standard error of the program. A thread reads it all the time, because a full pipe would block the program.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Proxy {
    /// Starts the program with a file of these settings.
    pub(crate) fn start(settings: &str) -> Self {
        Self::start_by(Command::new(PROGRAM), settings)
    }

    /// Starts the program with a limit on file descriptors.
    pub(crate) fn start_limited(files: u32, settings: &str) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), PROGRAM]);
        Self::start_by(shell, settings)
    }

    fn start_by(mut command: Command, settings: &str) -> Self {
        let over = Over::chosen();
        let settings = over.as_ref().map_or_else(|| settings.to_owned(), |over| over.settings(settings));
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(settings.as_bytes()).unwrap();
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PROXY_")) {
            command.env_remove(name);
        }
        command.env_remove("REDIS_URL").env("RUST_LOG", "info").arg("--config").arg(file.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Log>::default();
        let (lines, heard) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| heard.add(&line)));
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let listens = line.trim().strip_prefix("proxy listening on ").and_then(|url| url.split_once("://"));
        let listens = listens.unwrap_or_else(|| panic!("{}", log.text())).1.parse().unwrap();
        let address = over.as_ref().map_or(listens, |over| over.leading_to(listens));
        Self { child, address, listens, log, _over: over, _settings: file }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// The memory of the program, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the log contains these words, after the words of the last call.
    pub(crate) fn says(&self, words: &str) {
        let has_not = |text: &mut String| !text.contains(words);
        let text = self.log.text.lock().unwrap();
        let (mut text, waited) = self.log.grown.wait_timeout_while(text, PATIENCE, has_not).unwrap();
        assert!(!waited.timed_out(), "{words:?} is not in\n{text}");
        text.clear();
    }

    /// Waits for the program to end, and returns its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the program does not end: {}", self.log.text());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Log {
    /// Adds a line. Old lines are dropped if the log grows beyond 1 MiB.
    fn add(&self, line: &str) {
        const ENOUGH: usize = 1 << 20;
        let mut text = self.text.lock().unwrap();
        if text.len() > ENOUGH {
            text.drain(..ENOUGH / 2);
        }
        text.push_str(line);
        text.push('\n');
        self.grown.notify_all();
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "{name} to {pid}");
}

/// The message of the program when it refuses to start with these settings.
pub(crate) fn refused(settings: &str) -> String {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(settings.as_bytes()).unwrap();
    let output = Command::new(PROGRAM).arg("--config").arg(file.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}
