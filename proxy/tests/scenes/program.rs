//! The program itself: its messages, its exit and its memory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{Origin, PATIENCE, Script};

const PROGRAM: &str = env!("CARGO_BIN_EXE_proxy");

pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CACHEPAGE_TEST_PROGRAM").as_deref().unwrap_or(PROGRAM));
    let ours = [
        "PROXY_CONFIG",
        "PROXY_LISTEN",
        "PROXY_ORIGIN",
        "REDIS_URL",
        "PROXY_KEYS",
        "PROXY_SITE",
        "PROXY_TRUSTED_PROXIES",
        "PROXY_ADMIN",
        "PROXY_ACCESS_LOG",
        "PROXY_CACHE",
        "PROXY_ADMIN",
        "RUST_LOG",
    ];
    ours.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.args(args);
    command
}

pub(crate) fn refused(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
    text
}

/// A running proxy and its address. Dropping it kills the proxy.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = command(args)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("proxy listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    /// The peak memory of the proxy, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }

    /// Sends a signal, and returns exit code and log.
    pub(crate) fn end(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let code = self.child.wait().unwrap().code();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (code, log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn all_bad_settings_are_reported_at_once_with_status_2() {
    let said = refused(&run(&[
        "--listen", "nowhere", "--origin", "ftp://x", "--store", "x", "--keys", "y", "--cache", "z",
    ]));
    assert_eq!(said.lines().count(), 5, "{said}");
    for place in [
        "--listen (PROXY_LISTEN): ",
        "--origin (PROXY_ORIGIN): ",
        "--store (REDIS_URL): ",
        "--keys (PROXY_KEYS): ",
        "--cache (PROXY_CACHE) z: ",
    ] {
        assert!(said.contains(&format!("error: {place}")), "{said}");
    }
}

#[test]
fn one_variable_holds_all_rules() {
    let said = refused(&command(&[]).env("PROXY_CACHE", "/a/=60,/b/*=off c/ /d=1m").output().unwrap());
    assert_eq!(said.lines().count(), 2, "{said}");
    for place in ["--cache (PROXY_CACHE) c/: ", "--cache (PROXY_CACHE) /d=1m: "] {
        assert!(said.contains(place), "{said}");
    }
}

#[test]
fn an_unknown_flag_is_refused_with_a_suggestion() {
    let said = refused(&run(&["--orgin", "http://127.0.0.1:1"]));
    assert!(said.contains("--orgin") && said.contains("--origin") && said.contains("--help"), "{said}");
}

#[test]
fn a_syntax_error_in_the_file_is_reported_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "listen = \"127.0.0.1:0\"\n\n[[cache_page]\npath = \"/\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    let said = refused(&run(&["--config", path]));
    assert!(said.contains(&format!("error: {path}:3: not TOML")), "{said}");
    let said = refused(&run(&["--config", "/nowhere/cachepage.toml", "--listen", "x"]));
    assert!(said.contains("/nowhere/cachepage.toml cannot be read") && said.contains("--listen"), "{said}");
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let said = refused(
        &command(&["--origin", "http://127.0.0.1:1"])
            .env("PROXY_ORIGIN", "bad")
            .env("PROXY_LISTEN", "bad")
            .output()
            .unwrap(),
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("--listen (PROXY_LISTEN): \"bad\""), "{said}");
}

#[test]
fn a_port_in_use_is_reported_with_a_suggestion() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(&run(&["--listen", &address]));
    assert!(
        said.contains(&format!("cannot listen on {address}")) && said.contains("--listen takes another"),
        "{said}"
    );
}

#[test]
fn help_lists_flags_with_their_variables_and_defaults() {
    let output = run(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for words in [
        "--config",
        "--listen",
        "PROXY_LISTEN",
        "127.0.0.1:8000",
        "--origin",
        "http://127.0.0.1:8001",
        "--store",
        "REDIS_URL",
        "redis://127.0.0.1:6379/1",
        "--keys",
        "--site",
        "--cache",
        "--trusted-proxies",
        "PROXY_TRUSTED_PROXIES",
        "--access-log",
        "PROXY_ACCESS_LOG",
        "PROXY_CACHE holds any number of rules, with blanks or commas between them",
        "docs/settings.md lists them all",
    ] {
        assert!(help.contains(words), "{words} is not in\n{help}");
    }
}

#[test]
fn the_proxy_starts_without_redis_and_rules_and_stops_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let (code, log) = Running::start(&["--store", "redis://user:secret@127.0.0.1:1/1"]).end(signal);
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("no rule") && log.contains("listening") && !log.contains("secret"), "{log}");
    }
}

#[tokio::test]
async fn an_unfinished_request_delays_the_shutdown_no_longer_than_its_deadline() {
    let (sender, mut asked) = tokio::sync::mpsc::channel(1);
    let origin = Origin::new(move |_, _| {
        sender.try_send(()).unwrap();
        Script::Silent
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "deadlines.shutdown = \"100ms\"\n").unwrap();
    let origin = format!("http://{}", origin.address);
    let path = file.path().to_str().unwrap();
    let running = Running::start(&["--store", "memory", "--origin", &origin, "--config", path]);
    let mut client = TcpStream::connect(&running.address).unwrap();
    client.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    asked.recv().await.unwrap();
    let ended = tokio::task::spawn_blocking(move || running.end("-TERM"));
    let (code, log) = tokio::time::timeout(PATIENCE, ended).await.expect("the proxy ends in time").unwrap();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("their deadline has passed"), "{log}");
}

#[test]
fn the_log_says_that_a_redis_url_has_the_wrong_scheme() {
    let redis = stack::Redis::start().unwrap();
    let url = redis.url().replace("redis://", "rediss://");
    let said = "plain Redis answers at this port, and rediss:// speaks TLS: write redis://";
    let mut running = Running::start(&["--store", &url]);
    let mut lines = BufReader::new(running.child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(said)));
    let explained = refused(&run(&["--store", &url, "explain", "/p/"]));
    assert!(explained.ends_with(&format!("error: --store (REDIS_URL): {said}\n")), "{explained}");
}

#[test]
fn health_asks_the_proxy_and_neither_its_origin_nor_its_store() {
    let running = Running::start(&["--store", "redis://127.0.0.1:1/1", "--origin", "http://127.0.0.1:1"]);
    let address = running.address.clone();
    let healthy = command(&["health"]).env("PROXY_LISTEN", &address).output().unwrap();
    let said = String::from_utf8(healthy.stdout).unwrap();
    assert_eq!((healthy.status.code(), said.trim()), (Some(0), &*format!("proxy on {address} is healthy")));
    let (_, log) = running.end("-TERM");
    assert!(!log.contains("origin away"), "{log}");
    let away = run(&["health", "--listen", &address]);
    let said = String::from_utf8(away.stderr).unwrap();
    assert_eq!(away.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with(&format!("error: proxy on {address} is not healthy: Connection refused")),
        "{said}"
    );
}

#[test]
fn health_asks_the_admin_listener_if_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("admin.sock").display());
    let running = Running::start(&["--store", "memory", "--admin", &socket]);
    // The data port is not asked.
    let healthy = run(&["health", "--admin", &socket, "--listen", "127.0.0.1:1"]);
    let said = String::from_utf8(healthy.stdout).unwrap();
    assert_eq!((healthy.status.code(), said.trim()), (Some(0), &*format!("proxy on {socket} is healthy")));
    running.end("-TERM");
    assert_eq!(run(&["health", "--admin", &socket]).status.code(), Some(1));
}

#[tokio::test]
async fn the_log_names_an_origin_that_is_down() {
    let running = Running::start(&["--store", "memory", "--origin", "http://127.0.0.1:1"]);
    assert_eq!(read_all(&running.address, "/x").0, 502);
    let (_, log) = running.end("-TERM");
    assert!(
        log.contains("WARN")
            && log.contains("origin=http://127.0.0.1:1 ")
            && log.contains("Connection refused"),
        "{log}"
    );
}

/// An origin behind a proxy with TLS would redirect for ever, and nothing would say why.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_once_that_the_scheme_of_an_untrusted_peer_is_not_believed() {
    let origin = Origin::pages("").await;
    let url = format!("http://{}", origin.address);
    let ask = |running: &Running, scheme: &str| {
        let mut stream = TcpStream::connect(&running.address).unwrap();
        write!(
            stream,
            "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-Proto: {scheme}\r\n\r\n"
        )
        .unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    };
    for (trusted, schemes, lines) in [
        ("", &["https", "https"][..], 1),
        ("", &["http", "HTTP"], 0),
        ("10.0.0.0/8, 127.0.0.1", &["https"], 0),
    ] {
        let running = Running::start(&["--store", "memory", "--origin", &url, "--trusted-proxies", trusted]);
        schemes.iter().for_each(|scheme| ask(&running, scheme));
        let (_, log) = running.end("-TERM");
        assert_eq!(
            log.matches("--trusted-proxies 127.0.0.1 (PROXY_TRUSTED_PROXIES)").count(),
            lines,
            "{log}"
        );
    }
    let seen: Vec<_> =
        origin.seen().iter().map(|seen| seen.header("x-forwarded-proto").unwrap().to_owned()).collect();
    assert_eq!(seen, ["http", "http", "http", "http", "https"]);
}

#[tokio::test]
async fn the_log_has_a_line_when_the_origin_is_away_and_one_when_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let origin = format!("http://{address}");
    let running = Running::start(&["--store", "memory", "--origin", &origin]);
    for _ in 0..20 {
        assert_eq!(read_all(&running.address, "/x").0, 502);
    }
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let _origin = Origin::on(listener, |_, _| Script::Answer(crate::support::page("", "x")));
    let asked = running.address.clone();
    let status = tokio::task::spawn_blocking(move || read_all(&asked, "/x").0).await.unwrap();
    assert_eq!(status, 200);
    let (_, log) = running.end("-TERM");
    let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((lines(" WARN "), lines("no rule"), lines("origin away")), (2, 1, 1), "{log}");
    assert_eq!((lines("origin back"), lines("failed=20")), (1, 1), "{log}");
}

/// Requests a page, and returns its status and the length of its body.
fn read_all(address: &str, target: &str) -> (u16, u64) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    (status, std::io::copy(&mut reader, &mut std::io::sink()).unwrap())
}

/// 100 MB of download, with and without a rule, and of upload, through a proxy that must hold far less.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_pass_with_little_memory() {
    const MEGABYTE: usize = 1_000_000;
    let origin = Origin::new(|seen, _| {
        if seen.line.starts_with("POST") {
            return Script::Answer(crate::support::page("", &seen.body.len().to_string()));
        }
        let (sender, pieces) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", 100 * MEGABYTE);
            let _ = sender.send(head.into_bytes()).await;
            for _ in 0..100 {
                let _ = sender.send(vec![b'x'; MEGABYTE]).await;
            }
        });
        Script::Pieces(pieces)
    })
    .await;
    let running = Running::start(&[
        "--store",
        "memory",
        "--origin",
        &format!("http://{}", origin.address),
        "--cache",
        "/p/",
    ]);
    let before = running.peak();
    for target in ["/p/", "/other"] {
        let address = running.address.clone();
        let read = tokio::task::spawn_blocking(move || read_all(&address, target)).await.unwrap();
        assert_eq!(read, (200, 100 * MEGABYTE as u64), "{target}");
    }
    let address = running.address.clone();
    let uploaded = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST /p/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            100 * MEGABYTE
        )
        .unwrap();
        for _ in 0..100 {
            stream.write_all(&vec![b'x'; MEGABYTE]).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(uploaded.await.unwrap().ends_with("\r\n\r\n100000000"));
    let grown = running.peak() - before;
    // This is enough for the buffers of three transfers and for freed memory that the allocator keeps. A whole body
    // would take 97,656 KiB.
    assert!(grown < 48 * 1024, "grew by {grown} KiB");
}

#[test]
fn check_says_who_is_trusted_who_may_purge_and_which_origins_and_listeners_there_are() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = "trusted_proxies = [\"10.0.0.0/8\"]\nstore = \"memory\"\n[[listen]]\naddress = \"127.0.0.1:8080\"\n\
        proxy_protocol = [\"10.1.0.0/16\"]\n[[listen]]\naddress = \"unix:/run/c.sock\"\n[[origin]]\nurl = \"http://a:1\"\n\
        hosts = [\"*.example\"]\nweight = 2\n[[origin]]\nurl = \"http://b:1\"\nhosts = [\"b.example\"]\n[[origin]]\n\
        url = \"http://c:1\"\nbackup = true\n[admin]\nlisten = \"unix:/run/a.sock\"\nhosts = [\"ops\"]\n[purge]\n\
        allow = [\"10.2.0.0/16\"]\n[[follow]]\ndatabase = \"postgres://me:s3cret@db/shop\"\n[log]\naccess = \"stdout\"\n";
    std::fs::write(file.path(), settings).unwrap();
    let output = run(&["check", "--config", file.path().to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = "\
        listen    http://127.0.0.1:8080, by the PROXY protocol from 10.1.0.0/16\nlisten    unix:/run/c.sock\n\
        origin    http://a:1, hosts *.example, weight 2\norigin    http://b:1, hosts b.example\n\
        origin    http://c:1, backup\nstore     memory\nkeys      path\nsite      localhost and the port\nnear      off\n\
        trusted   10.0.0.0/8\nadmin     unix:/run/a.sock, hosts ops\npurge     10.2.0.0/16\nlog       standard output, combined\n\
        follow    db:5432/shop, channel cachepage, on_loss 60 s\nrule      none: every request passes through\n\
        warning   origin: http://b:1 is never asked: http://a:1 comes before it and takes all its requests\n";
    assert_eq!(said, expected);
}

/// `check` finds what the start would find, and says what it understood.
#[test]
fn check_says_what_the_settings_mean_and_ends_as_the_start_would() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = "store = \"redis://user:secret@cache:6379/1\"\n[[cache_page]]\npath = \"/blog/*\"\ntimeout = 300\n\
                    [[cache_page]]\npath = \"/blog/new/\"\n[[cache_page]]\npath = \"/off/\"\ntimeout = \"off\"\n";
    std::fs::write(file.path(), settings).unwrap();
    let path = file.path().to_str().unwrap();
    let output = run(&["check", "--config", path, "--origin", "http://app:9000"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = format!(
        "listen    http://127.0.0.1:8000\norigin    http://app:9000\nstore     redis://cache:6379/1\nkeys      path\n\
         site      localhost and the port\nnear      off\ntrusted   no proxy\nadmin     off\n\
         purge     nobody on the data port\nlog       off\nrule      /blog/*, 300 s\n\
         rule      /blog/new/, 60 s\nrule      /off/, off\nwarning   {path}:5: "
    );
    assert!(output.status.success() && said.starts_with(&expected), "{said}");
    assert!(!said.contains("secret"), "{said}");
    let json = run(&["check", "--json", "--config", path]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let rules = serde_json::json!([
        { "path": "/blog/*", "timeout": 300 }, { "path": "/blog/new/", "timeout": 60 }, { "path": "/off/", "timeout": null },
    ]);
    assert_eq!((&json["rules"], json["warnings"].as_array().unwrap().len()), (&rules, 1));
    let faults = refused(&run(&["check", "--config", path, "--listen", "x", "--site", "a b"]));
    assert_eq!(faults.lines().count(), 2, "{faults}");
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("a/x.log");
    for (log, fault) in [(&*missing, "No such file"), (folder.path(), "Is a directory")] {
        let faults = refused(&run(&["check", "--config", path, "--access-log", log.to_str().unwrap()]));
        assert!(faults.contains("--access-log") && faults.contains(fault), "{faults}");
    }
    let log = folder.path().join("new.log");
    let checked = run(&["check", "--config", path, "--access-log", log.to_str().unwrap()]);
    assert!(checked.status.success() && !log.exists());
}
