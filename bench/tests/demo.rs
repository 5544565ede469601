//! Tests the demo as its user sees it: its output, its end, and that it leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

#[test]
fn a_check_walks_through_the_article_and_leaves_nothing() {
    let mut demo = Demo::start(&["--check"]);
    let lines = demo.lines_until("50 at once, cached, warm");
    for step in [
        "naive page",
        "the plan of its list query",
        "optimized page",
        "cached page, first time",
        "cached page, again",
        "its key in Redis",
        "a price, rolled back",
        "a price that changes",
        "the same page, again",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(&format!("ok  {step}"))), "{step}: {lines:#?}");
    }
    // The key, what MONITOR says of it, and the plan.
    let key =
        ":1:views.decorators.cache.cache_page.GET./api/properties/cached/.d41d8cd98f00b204e9800998ecf8427e";
    let shown = [key, &format!("\"SETEX\" \"{key}\" \"60\""), "->  Seq Scan on housing_property"];
    for text in shown {
        assert!(
            lines.iter().any(|line| line.starts_with("      ") && line.contains(text)),
            "{text}: {lines:#?}"
        );
    }
    assert_eq!(demo.end().code(), Some(0), "{}", demo.stderr());
    demo.assert_gone();
}

#[test]
fn the_memory_store_needs_no_redis() {
    let mut demo = Demo::start(&["--check", "--store", "memory"]);
    let lines = demo.lines_until("50 at once, cached, warm");
    assert!(!lines.iter().any(|line| line.contains("Redis")), "{lines:#?}");
    assert_eq!(demo.end().code(), Some(0), "{}", demo.stderr());
    demo.assert_gone();
}

#[test]
fn a_fleet_on_a_cluster_loses_a_primary_and_no_request() {
    let mut demo = Demo::start(&["--check", "--store", "cluster"]);
    let lines = demo.lines_until("the same pages, afterwards");
    let died = lines.iter().find(|line| line.contains("a primary killed under load")).unwrap();
    assert!(died.starts_with("ok  "), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(" requests, 0 failed, ")), "{lines:#?}");
    assert_eq!(demo.end().code(), Some(0), "{}", demo.stderr());
    demo.assert_gone();
}

#[test]
fn sigterm_ends_the_demo_in_order() {
    let mut demo = Demo::start(&[]);
    demo.lines_until("Serving until Ctrl-C");
    demo.signal(Signal::TERM);
    assert_eq!(demo.end().code(), Some(0), "{}", demo.stderr());
    demo.assert_gone();
}

#[test]
fn a_terminal_that_closes_ends_the_demo_in_order() {
    let mut demo = Demo::start(&[]);
    demo.lines_until("Serving until Ctrl-C");
    demo.close_output();
    demo.signal(Signal::HUP);
    assert_eq!(demo.end().code(), Some(0));
    demo.assert_gone();
}

#[test]
fn a_signal_during_the_set_up_ends_the_demo() {
    let mut demo = Demo::start(&[]);
    demo.lines_until("Filling the database");
    demo.signal(Signal::INT);
    assert_eq!(demo.end().code(), Some(1));
    assert!(demo.stderr().contains("interrupted"), "{}", demo.stderr());
    demo.assert_gone();
}

#[test]
fn the_death_of_a_program_is_reported_with_its_last_output() {
    let mut demo = Demo::start(&[]);
    demo.lines_until("Serving until Ctrl-C");
    kill_process(demo.proxy(), Signal::KILL).unwrap();
    assert_eq!(demo.end().code(), Some(1));
    let stderr = demo.stderr();
    assert!(stderr.contains("proxy was ended by signal 9"), "{stderr}");
    assert!(stderr.contains("proxy listening on http://"), "{stderr}");
    demo.assert_gone();
}

#[test]
fn nothing_is_left_of_a_demo_that_was_killed() {
    let mut demo = Demo::start(&[]);
    demo.lines_until("Serving until Ctrl-C");
    demo.signal(Signal::KILL);
    demo.end();
    demo.assert_gone();
}

#[test]
fn a_busy_port_is_reported_and_replaced() {
    // If this fails, another program has the port, which is as good.
    let _taken = TcpListener::bind("127.0.0.1:8000");
    let mut demo = Demo::start(&["--check"]);
    let lines = demo.lines_until("50 at once, cached, warm");
    assert!(lines.iter().any(|line| line.starts_with("Port 8000 is busy: the proxy takes ")), "{lines:#?}");
    assert_eq!(demo.end().code(), Some(0), "{}", demo.stderr());
    demo.ports.retain(|port| *port != 8000);
    demo.assert_gone();
}

/// All demos use the article's ports, so only one runs at a time.
static TURN: Mutex<()> = Mutex::new(());

struct Demo {
    child: Child,
    lines: Receiver<String>,
    /// The thread that reads the output, a line at a time as they are received.
    reader: Option<JoinHandle<()>>,
    stderr: String,
    folder: TempDir,
    /// The processes of its programs, from the demo's output.
    pids: Vec<i32>,
    ports: Vec<u16>,
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    fn start(args: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        // Open to all users, as /tmp is: as root, PostgreSQL runs as another user and removes its own folder.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o1777)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(["demo", "--properties", "100"])
            .args(args)
            .env("TMPDIR", folder.path())
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(0);
        let reader = std::thread::spawn(move || {
            let _ = output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        });
        let (reader, stderr) = (Some(reader), String::new());
        Self { child, lines, reader, stderr, folder, pids: Vec::new(), ports: Vec::new(), _turn: turn }
    }

    /// The output up to a line that contains `last`.
    fn lines_until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        // The programs may have to be built first.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(600)) {
            // The origin listens on 127.0.0.1:8001 (process 1234).
            if let Some((_, rest)) = line.split_once(" listens on 127.0.0.1:") {
                let (port, pid) = rest.trim_end_matches(").").split_once(" (process ").unwrap();
                self.ports.push(port.parse().unwrap());
                self.pids.push(pid.parse().unwrap());
            }
            let found = line.contains(last);
            lines.push(line);
            if found {
                return lines;
            }
        }
        panic!("the demo did not print {last:?}: {lines:#?} {}", self.stderr());
    }

    /// Closes the other end of the demo's output, so that writing to it fails.
    fn close_output(&mut self) {
        self.lines = sync_channel(0).1;
        self.reader.take().unwrap().join().unwrap();
        drop(self.child.stderr.take());
    }

    fn proxy(&self) -> Pid {
        Pid::from_raw(*self.pids.last().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Its output on standard error, after its end.
    fn stderr(&mut self) -> String {
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut self.stderr).unwrap();
        }
        self.stderr.clone()
    }

    fn assert_gone(&self) {
        let started = Instant::now();
        while !self.is_gone() {
            let left: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().flatten().collect();
            assert!(started.elapsed() < Duration::from_secs(30), "left: {left:?} of {:?}", self.pids);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_gone(&self) -> bool {
        let process = |pid: &i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
        let port = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
        !self.pids.iter().any(process)
            && !self.ports.iter().any(port)
            && std::fs::read_dir(self.folder.path()).unwrap().next().is_none()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Needed after a failed assertion. The programs end with the demo.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
