//! The access log: a line for each request, whatever becomes of the file. What the proxy cannot write it drops and counts, and
//! no request waits for it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use proxy::{AccessLog, LogFormat, LogSettings, LogTarget, MemoryStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::program::Running;
use crate::support::{Origin, PATIENCE, RULES, Reply, Scene, Script, answer, page};

/// A folder with the log of a proxy.
pub(crate) struct Log {
    _folder: TempDir,
    path: PathBuf,
}

impl Log {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("access.log"), _folder: folder }
    }

    /// The settings of a proxy that writes this log.
    pub(crate) fn settings(&self, more: &str) -> String {
        format!("{RULES}[log]\naccess = {:?}\n{more}", self.path)
    }

    /// The lines, once there are so many. The writer takes them some milliseconds after the answer.
    async fn lines(&self, count: usize) -> Vec<String> {
        lines(&self.path, count).await
    }

    pub(crate) async fn json(&self, count: usize) -> Vec<Value> {
        let lines = self.lines(count).await;
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) async fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = async {
        loop {
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            if lines.len() >= count && text.ends_with('\n') {
                return lines;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{count} lines in {}", path.display()))
}

async fn origin() -> Origin {
    Origin::new(|seen, _| {
        Script::Answer(match seen.line.split(' ').nth(1).unwrap() {
            "/p/private" => page("Cache-Control: private\r\n", "mine"),
            "/missing" => answer("404 Not Found", "", "nothing"),
            _ => page("", "page"),
        })
    })
    .await
}

fn request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost:8000\r\n{headers}\r\n")
}

/// The end of such a body can be read in two ways, so the server refuses the head.
const TWICE: &str = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";

const SECRETS: &str = "Cookie: sessionid=s3cret\r\nAuthorization: Bearer s3cret\r\n";

const DESCRIBED: &str = "Referer: https://a.example/?q=1\r\nUser-Agent: say \"hi\" \\ \u{e9}\r\nX-Request-Id: r-1\r\n\
                         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

/// Requests, each with the outcome, the detail and the rule that its line says.
fn load() -> Vec<(String, &'static str, Option<&'static str>, Option<&'static str>)> {
    let rule = Some("/p/*");
    vec![
        (request("GET", "/p/?page=2", DESCRIBED), "miss", None, rule),
        (request("GET", "/p/?page=2", DESCRIBED), "hit", None, rule),
        (request("HEAD", "/p/?page=2", ""), "hit", None, rule),
        (request("GET", "/p/?page=2", "Range: bytes=1-2\r\n"), "hit", Some("range"), rule),
        (request("GET", "/p/?page=2", "Connection: close\r\n"), "hit", None, rule),
        (request("GET", "/p/private", SECRETS), "bypass", Some("private"), rule),
        (request("POST", "/p/", "Content-Length: 0\r\n"), "bypass", Some("method"), rule),
        (request("GET", "/missing", ""), "bypass", Some("no-rule"), None),
        (request("TRACE", "/p/", ""), "refused", Some("method"), rule),
        (request("GET", "/", TWICE), "refused", Some("ambiguous-head"), None),
    ]
}

fn text<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    line.get(name).map(|value| value.as_str().unwrap())
}

fn number(line: &Value, name: &str) -> Option<u64> {
    line.get(name).map(|value| value.as_u64().unwrap())
}

/// A JSON line against the request and what its client got.
fn agrees(line: &Value, sent: &str, reply: &Reply) {
    assert_eq!(number(line, "status"), Some(reply.status().into()), "{line}");
    assert_eq!(number(line, "bytes"), Some(reply.body.len() as u64), "{line}");
    assert!(number(line, "duration_us").unwrap() < PATIENCE.as_micros() as u64);
    assert_eq!(text(line, "client"), Some("127.0.0.1"));
    let ttl = reply.header("cache-status").split("; ").find_map(|text| text.strip_prefix("ttl="));
    assert_eq!(line.get("ttl").map(Value::to_string).as_deref(), ttl, "{line}");
    let asked = text(line, "method").map(|method| {
        let query = text(line, "query").map(|query| format!("?{query}")).unwrap_or_default();
        format!("{method} {}{query} {}", text(line, "path").unwrap(), text(line, "protocol").unwrap())
    });
    match line["detail"] == "ambiguous-head" {
        true => assert_eq!((asked, text(line, "host")), (None, None), "{line}"),
        false => {
            assert_eq!(asked.as_deref(), sent.split("\r\n").next(), "{line}");
            assert_eq!((text(line, "scheme"), text(line, "host")), (Some("http"), Some("localhost:8000")));
        }
    }
}

#[tokio::test]
async fn each_json_line_agrees_with_what_the_client_saw() {
    let (log, origin) = (Log::new(), origin().await);
    let settings = log.settings("format = \"json\"\n");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    for (at, (sent, outcome, detail, rule)) in load().into_iter().enumerate() {
        let reply = scene.send(&sent).await;
        let line = log.json(at + 1).await.remove(at);
        agrees(&line, &sent, &reply);
        assert_eq!((text(&line, "outcome"), text(&line, "detail")), (Some(outcome), detail), "{line}");
        assert_eq!(text(&line, "rule"), rule, "{line}");
        let is_fetched = ["miss", "bypass"].contains(&outcome);
        let url = format!("http://{}", origin.address);
        assert_eq!(text(&line, "origin"), is_fetched.then_some(&*url), "{line}");
        assert_eq!(line.get("origin_us").is_some(), is_fetched, "{line}");
        assert_eq!(
            line.get("store_us").is_some(),
            ["hit", "miss"].contains(&outcome) || detail == Some("private")
        );
    }
    let text = log.lines(load().len()).await.join("\n");
    assert!(!text.contains("s3cret"), "{text}");
}

/// The order is that of the fields in a line, and what is not known is left out.
#[tokio::test]
async fn json_names_its_fields_in_their_order() {
    let (log, origin) = (Log::new(), origin().await);
    let settings = log.settings("format = \"json\"\n");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    scene.send(&request("GET", "/p/?page=2", DESCRIBED)).await;
    let line = log.lines(1).await.remove(0);
    let names = [
        "time",
        "client",
        "method",
        "scheme",
        "host",
        "path",
        "query",
        "protocol",
        "status",
        "bytes",
        "duration_us",
        "outcome",
        "rule",
        "origin",
        "origin_us",
        "store_us",
        "referer",
        "user_agent",
        "request_id",
        "trace_id",
    ];
    let places: Vec<_> = names.iter().map(|name| line.find(&format!("\"{name}\":")).expect(name)).collect();
    assert!(places.is_sorted(), "{line}");
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value.as_object().unwrap().len(), names.len(), "{line}");
    for (name, said) in [
        ("referer", "https://a.example/?q=1"),
        ("user_agent", "say \"hi\" \\ \u{e9}"),
        ("request_id", "r-1"),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ] {
        assert_eq!(text(&value, name), Some(said));
    }
    let time = text(&value, "time").unwrap();
    assert_eq!((time.len(), &time[10..11], &time[26..]), ("2026-11-27T01:02:03.000004Z".len(), "T", "Z"));
}

#[tokio::test]
async fn a_combined_line_is_apaches_with_cache_status_and_microseconds() {
    let (log, origin) = (Log::new(), origin().await);
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &log.settings("")).await;
    let requests: Vec<_> = load().into_iter().map(|(sent, ..)| sent).collect();
    for (at, sent) in requests.iter().enumerate() {
        let reply = scene.send(sent).await;
        let line = log.lines(at + 1).await.remove(at);
        let (before, after) = line.split_once("] ").unwrap();
        assert!(before.starts_with("127.0.0.1 - - [") && before.ends_with(" +0000"), "{line}");
        let is_refused = sent.contains(TWICE);
        let asked = if is_refused { "-" } else { sent.split("\r\n").next().unwrap() };
        let bytes = if reply.body.is_empty() { "-".to_owned() } else { reply.body.len().to_string() };
        let described = match sent.contains("Referer") {
            true => r#""https://a.example/?q=1" "say \"hi\" \\ \xC3\xA9""#,
            false => r#""-" "-""#,
        };
        let cache_status = reply.header("cache-status");
        let expected = format!("\"{asked}\" {} {bytes} {described} \"{cache_status}\" ", reply.status());
        let microseconds = after.strip_prefix(&*expected).unwrap_or_else(|| panic!("{line}\n{expected}"));
        assert!(microseconds.parse::<u64>().is_ok(), "{line}");
    }
}

#[tokio::test]
async fn goaccess_reads_combined_lines() {
    let (log, origin) = (Log::new(), origin().await);
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &log.settings("")).await;
    for _ in 0..10 {
        scene.send(&request("GET", "/p/?page=2", DESCRIBED)).await;
    }
    log.lines(10).await;
    let format = r#"--log-format=%h %^[%d:%t %^] "%r" %s %b "%R" "%u" "%C" %D"#;
    let said = Command::new("goaccess")
        .args([log.path.to_str().unwrap(), format, "--date-format=%d/%b/%Y", "--time-format=%T"])
        .args(["--no-global-config", "--output-format=json"])
        .stdin(Stdio::null())
        .output();
    let Ok(said) = said else {
        println!("goaccess is not installed: its reading is not tested; apt-get install goaccess");
        return;
    };
    let report: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    let general = &report["general"];
    assert_eq!(
        (&general["valid_requests"], &general["failed_requests"]),
        (&10.into(), &0.into()),
        "{general}"
    );
}

#[tokio::test]
async fn queries_are_left_out_if_asked_for() {
    for format in ["json", "combined"] {
        let (log, origin) = (Log::new(), origin().await);
        let settings = log.settings(&format!("format = \"{format}\"\nredact_query = true\n"));
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
        scene.send(&request("GET", "/p/?page=2", DESCRIBED)).await;
        let line = log.lines(1).await.remove(0);
        assert!(line.contains("/p/") && line.contains("https://a.example/"), "{line}");
        assert!(!line.contains("page=2") && !line.contains("q=1"), "{line}");
    }
}

#[tokio::test]
async fn hits_can_be_left_out_and_no_other_request() {
    let (log, origin) = (Log::new(), origin().await);
    let settings = log.settings("format = \"json\"\nsample_hits = 0\n");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    for target in ["/p/", "/p/", "/p/", "/other"] {
        scene.get(target).await;
    }
    let outcomes: Vec<_> = log.json(2).await.iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["miss", "bypass"]);
}

/// Behind a trusted proxy the client is the one whom that proxy names.
#[tokio::test]
async fn the_client_is_named_by_trusted_proxies_alone() {
    let named = "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n";
    for (trusted, client, scheme) in [
        ("", "127.0.0.1", "http"),
        ("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n", "192.0.2.7", "https"),
    ] {
        let (log, origin) = (Log::new(), origin().await);
        let settings = format!("{trusted}{}", log.settings("format = \"json\"\n"));
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
        for sent in
            [request("GET", "/p/", named), request("POST", "/p/", &format!("{named}Content-Length: 0\r\n"))]
        {
            scene.send(&sent).await;
        }
        for line in log.json(2).await {
            assert_eq!(
                (text(&line, "client"), text(&line, "scheme")),
                (Some(client), Some(scheme)),
                "{line}"
            );
        }
    }
}

/// A scene whose log is at this path, and the log itself.
async fn logged(path: &Path, origin: &Origin) -> (Scene, Arc<AccessLog>) {
    let settings = LogSettings {
        access: LogTarget::File(path.to_owned()),
        format: LogFormat::Json,
        redact_query: false,
        sample_hits: 1.0,
    };
    let log = Arc::new(AccessLog::open(&settings, Arc::default()).unwrap());
    (Scene::logging(origin.address, MemoryStore::new(1 << 20), RULES, log.clone()).await, log)
}

/// Waits until so many lines are dropped.
async fn dropped(log: &AccessLog, count: u64) {
    let counted = async {
        while log.dropped() < count {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("the lines are counted");
    assert_eq!(log.dropped(), count);
}

#[tokio::test]
async fn a_full_disk_holds_no_request_and_its_lines_are_counted() {
    let origin = origin().await;
    let (scene, log) = logged(Path::new("/dev/full"), &origin).await;
    for _ in 0..100 {
        assert_eq!(scene.get("/p/").await.status(), 200);
    }
    dropped(&log, 100).await;
}

fn fifo() -> Log {
    let log = Log::new();
    assert!(Command::new("mkfifo").arg(&log.path).status().unwrap().success());
    log
}

#[tokio::test]
async fn a_fifo_without_a_reader_holds_no_request_and_one_that_comes_later_reads() {
    let (fifo, origin) = (fifo(), origin().await);
    let (scene, log) = logged(&fifo.path, &origin).await;
    for _ in 0..100 {
        assert_eq!(scene.get("/p/").await.status(), 200);
    }
    dropped(&log, 100).await;
    let path = fifo.path.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let (mut file, mut text) = (File::open(path).unwrap(), [0; 1]);
        file.read_exact(&mut text).unwrap();
        text
    });
    // The lines go on being dropped until the reader has opened its end.
    while !reader.is_finished() {
        scene.get("/p/").await;
    }
    assert_eq!(&reader.await.unwrap(), b"{");
}

/// A pipe takes 64 KiB. Each line that the reader gets later is whole, and none is missing but those that are counted.
#[tokio::test]
async fn a_fifo_that_is_not_read_holds_no_request_and_tears_no_line() {
    const REQUESTS: usize = 600;
    let (fifo, origin) = (fifo(), origin().await);
    let path = fifo.path.clone();
    let opened = tokio::task::spawn_blocking(move || File::open(path).unwrap());
    let opener = {
        let path = fifo.path.clone();
        tokio::task::spawn_blocking(move || File::options().write(true).open(path).unwrap())
    };
    let (mut reader, opener) = (opened.await.unwrap(), opener.await.unwrap());
    let (scene, log) = logged(&fifo.path, &origin).await;
    drop(opener);
    let agent = format!("User-Agent: {}\r\n", "x".repeat(300));
    for _ in 0..REQUESTS {
        assert_eq!(scene.get_with("/p/", &agent).await.status(), 200);
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    scene.stop().await;
    log.finish(PATIENCE);
    let dropped = usize::try_from(log.dropped()).unwrap();
    drop(log);
    let text = timeout(PATIENCE, read).await.expect("the end of the log").unwrap();
    let whole = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert!(dropped > 0 && text.lines().count() - whole <= 1, "{dropped} dropped, {whole} whole");
    assert_eq!(whole + dropped, REQUESTS);
}

#[tokio::test]
async fn a_log_that_was_renamed_or_deleted_is_opened_anew() {
    let (file, origin) = (Log::new(), origin().await);
    let (scene, log) = logged(&file.path, &origin).await;
    let old = file.path.with_extension("1");
    scene.get("/p/").await;
    file.lines(1).await;
    fs::rename(&file.path, &old).unwrap();
    scene.get("/p/").await;
    assert_eq!(lines(&old, 2).await.len(), 2);
    log.reopen();
    let reopened = async {
        while !file.path.exists() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, reopened).await.expect("a new file");
    scene.get("/p/").await;
    assert_eq!((file.lines(1).await.len(), lines(&old, 2).await.len()), (1, 2));
    fs::remove_file(&file.path).unwrap();
    assert_eq!((scene.get("/p/").await.status(), log.dropped()), (200, 0));
}

#[tokio::test]
async fn the_program_opens_its_log_anew_at_sighup() {
    let (log, origin) = (Log::new(), origin().await);
    let origin = format!("http://{}", origin.address);
    let path = log.path.to_str().unwrap();
    let running = Running::start(&["--store", "memory", "--origin", &origin, "--access-log", path]);
    let ask = async || {
        let mut stream = TcpStream::connect(&running.address).unwrap();
        stream.write_all(request("GET", "/x", "Connection: close\r\n").as_bytes()).unwrap();
        tokio::task::spawn_blocking(move || std::io::copy(&mut stream, &mut std::io::sink()))
            .await
            .unwrap()
            .unwrap();
    };
    ask().await;
    log.lines(1).await;
    fs::remove_file(&log.path).unwrap();
    running.signal("-HUP");
    let reopened = async {
        while !log.path.exists() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, reopened).await.expect("a new file");
    ask().await;
    // The end waits for the last lines.
    let (code, said) = running.end("-TERM");
    assert_eq!((code, fs::read_to_string(&log.path).unwrap().lines().count()), (Some(0), 1), "{said}");
    assert!(said.contains("access log opened anew"), "{said}");
}

/// What the log cannot take is said, once a second.
#[tokio::test]
async fn the_program_says_how_many_lines_it_has_dropped() {
    let origin = origin().await;
    let origin = format!("http://{}", origin.address);
    let running = Running::start(&["--store", "memory", "--origin", &origin, "--access-log", "/dev/full"]);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(&running.address).unwrap();
        stream.write_all(request("GET", "/x", "Connection: close\r\n").as_bytes()).unwrap();
        tokio::task::spawn_blocking(move || std::io::copy(&mut stream, &mut std::io::sink()))
            .await
            .unwrap()
            .unwrap();
    }
    let (_, said) = running.end("-TERM");
    let lines = said.lines().filter(|line| line.contains("access log lines dropped")).count();
    assert!((1..=PATIENCE.as_secs() as usize).contains(&lines), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn a_log_that_cannot_be_opened_is_a_fault_with_its_setting() {
    let said = crate::program::refused(&crate::program::run(&[
        "--listen",
        "127.0.0.1:0",
        "--store",
        "memory",
        "--access-log",
        "/no/such/folder/access.log",
    ]));
    let place = "error: --access-log (PROXY_ACCESS_LOG): /no/such/folder/access.log cannot be opened: ";
    assert!(said.contains(place), "{said}");
}
