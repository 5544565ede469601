//! Tests that the stack starts, and leaves nothing behind.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stack::{Launch, Postgres, Redis, free_port};

#[test]
fn postgres_makes_empty_databases_and_counts_their_statements() {
    let postgres = Postgres::shared();
    let url = postgres.database("counted").unwrap();
    postgres.log_statements("counted").unwrap();
    assert_eq!(postgres.psql(&url, "SELECT 1;\nSELECT 'two'").unwrap(), "1\ntwo");
    assert_eq!(postgres.statements("counted"), ["SELECT 1;", "SELECT 'two'"]);
    let error = postgres.psql(&url, "SELECT nonsense").unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
}

#[test]
fn redis_comes_back_empty_on_the_same_port() {
    let mut redis = Redis::start().unwrap();
    assert_eq!(redis.cli(&["SET", "key", "value"]).unwrap(), "OK");
    assert_eq!(redis.cli(&["GET", "key"]).unwrap(), "value");
    let (port, pid) = (redis.port(), redis.pid());
    redis.restart().unwrap();
    assert_eq!((redis.port(), redis.cli(&["GET", "key"]).unwrap()), (port, String::new()));
    assert_ne!(redis.pid(), pid);
}

#[test]
fn the_end_of_the_log_is_kept_when_a_program_dies() {
    let folder = stack::new_folder().unwrap();
    let mut program = Launch::new("speaker", Path::new("/bin/sh"), &folder.join("log"))
        .args(["-c", "echo one; echo two; echo three; exit 7"])
        .folder(&folder)
        .start()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = program.try_wait() {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "the program does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((status.code(), program.last_lines(2).as_str()), (Some(7), "two\nthree"));
    assert!(!folder.exists());
}

/// The test below runs this test in a process that it kills. By itself, this test starts and ends the stack.
#[test]
fn hold_the_stack() {
    let (postgres, redis) = (Postgres::start().unwrap(), Redis::start().unwrap());
    println!("pids {} {} ports {} {}", postgres.pid(), redis.pid(), postgres.port(), redis.port());
    if std::env::var_os("HOLD_THE_STACK").is_some() {
        let _ = std::io::stdin().read_line(&mut String::new());
    }
}

#[test]
fn nothing_is_left_of_a_process_that_was_killed() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_the_stack", "--nocapture"])
        .env("HOLD_THE_STACK", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line =
        lines.filter_map(|line| line.split_once("pids ").map(|(_, rest)| rest.to_owned())).next().unwrap();
    let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let folders = folders_of(&numbers[..2]);
    assert_eq!(folders.len(), 2, "{line}");
    // SIGKILL: the process itself cannot clean up.
    holder.kill().unwrap();
    holder.wait().unwrap();
    let gone = || {
        numbers[..2].iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
            && numbers[2..]
                .iter()
                .all(|port| TcpStream::connect(("127.0.0.1", u16::try_from(*port).unwrap())).is_err())
            && folders.iter().all(|folder| !folder.exists())
    };
    let started = Instant::now();
    while !gone() {
        assert!(started.elapsed() < Duration::from_secs(30), "left behind: {line} {folders:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The private folders that these processes run in.
fn folders_of(pids: &[u32]) -> Vec<PathBuf> {
    let is_private =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cachepage-"));
    let works_in = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    pids.iter()
        .filter_map(|pid| works_in(pid).ancestors().find(|path| is_private(path)).map(Path::to_owned))
        .collect()
}

/// A server takes a free port a moment later: the system must not assign it to another program meanwhile.
#[test]
fn a_free_port_is_outside_of_the_range_for_outgoing_connections() {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    // Without /proc, IANA's range is assumed.
    let first: u16 = range.map_or(49_152, |range| range.split_whitespace().next().unwrap().parse().unwrap());
    for _ in 0..100 {
        let port = free_port().unwrap();
        assert!((1024..first).contains(&port), "{port} of {first}");
    }
}
