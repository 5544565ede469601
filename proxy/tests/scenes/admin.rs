//! The listener for operators: what it says, to whom, and what it leaves alone.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use crate::program::{command, refused};
use crate::support::{Client, Origin, PATIENCE, Reply, Script, answer, exchange, page};

pub(crate) const TOKEN: &str = "Authorization: Bearer s3cret\r\n";

/// A running proxy with an admin listener. Dropping it kills the proxy.
pub(crate) struct Running {
    child: Child,
    pub(crate) proxy: SocketAddr,
    /// What it announces, behind `admin listening on `.
    at: String,
    /// Holds `cachepage.toml`, `token` and `log`, what the program writes to standard error.
    pub(crate) folder: TempDir,
}

impl Running {
    /// With an origin, an address of the admin listener and further lines of `[admin]`. The token is `s3cret`.
    pub(crate) fn start(origin: &Origin, listen: &str, lines: &str) -> Self {
        Self::with(origin, "store = \"memory\"", listen, lines)
    }

    /// With further lines at the beginning of the settings, among them the store.
    pub(crate) fn with(origin: &Origin, top: &str, listen: &str, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("cachepage.toml"), folder.path().join("token"));
        std::fs::write(&token, "s3cret\n").unwrap();
        let settings = format!(
            "origin = \"http://{}\"\n{top}\n[[cache_page]]\npath = \"/p/*\"\n[[cache_page]]\npath = \"/never/\"\n\
             timeout = \"off\"\n[admin]\nlisten = \"{listen}\"\ntoken_file = \"{}\"\n{lines}\n",
            origin.address,
            token.display()
        );
        std::fs::write(&file, settings).unwrap();
        let mut child = command(&["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let proxy = told(&mut said, "proxy listening on http://").parse().unwrap();
        let at = told(&mut said, "admin listening on ");
        Self { child, proxy, at, folder }
    }

    pub(crate) async fn over_tcp(origin: &Origin) -> Self {
        Self::start(origin, "127.0.0.1:0", "")
    }

    /// The address of an admin listener over TCP.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.at.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Asks the admin listener under its own name.
    pub(crate) async fn ask(&self, method: &str, path: &str, lines: &str) -> Reply {
        let host = self.admin();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
        exchange(host, request.as_bytes()).await
    }

    pub(crate) async fn status(&self) -> Value {
        let reply = self.ask("GET", "/status", "").await;
        assert_eq!((reply.status(), reply.header("content-type")), (200, "application/json"));
        serde_json::from_str(reply.text()).unwrap()
    }

    pub(crate) async fn get(&self, target: &str, lines: &str) -> Reply {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n");
        exchange(self.proxy, request.as_bytes()).await
    }

    pub(crate) fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rest of the next line, which begins like this.
fn told(said: &mut BufReader<ChildStdout>, begin: &str) -> String {
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    line.trim_end().strip_prefix(begin).unwrap_or_else(|| panic!("{line:?}")).to_owned()
}

#[tokio::test]
async fn health_readiness_and_status_are_told() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let reply = running.ask("GET", path, "").await;
        assert_eq!((reply.status(), reply.text()), (200, text));
        assert_eq!(running.ask("HEAD", path, "").await.status(), 200);
    }
    for target in ["/p/1", "/p/1", "/other"] {
        assert_eq!(running.get(target, "").await.status(), 200);
    }
    let status = running.status().await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let expected = serde_json::json!({
        "hit": 1, "stale": 0, "miss": 1, "collapsed": 0, "bypass": 1, "error": 0, "refused": 0,
    });
    assert_eq!(status["requests"], expected);
    let rules = serde_json::json!([
        { "path": "/p/*", "timeout": 60, "requests": 2, "hits": 1 },
        { "path": "/never/", "timeout": "off", "requests": 0, "hits": 0 },
    ]);
    assert_eq!(status["rules"], rules);
    assert_eq!(status["store"], serde_json::json!({ "kind": "memory", "nodes": [] }));
    let origin = serde_json::json!([
        { "url": format!("http://{}", origin.address), "up": true, "ejected": false, "inflight": 0 },
    ]);
    assert_eq!(status["origins"], origin);
    assert_eq!((&status["near"], &status["config"]["generation"]), (&Value::Null, &1.into()));
    assert!(status["config"]["loaded_at"].as_str().unwrap().ends_with('Z'));
    assert!(status["workers"].as_u64().unwrap() > 0 && status["uptime_seconds"].is_u64());
}

#[tokio::test]
async fn an_origin_that_is_away_is_in_the_status_with_its_cause() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    origin.stop().await;
    assert_eq!(running.get("/p/1", "").await.status(), 502);
    let status = running.status().await;
    assert_eq!((&status["origins"][0]["up"], &status["requests"]["error"]), (&false.into(), &1.into()));
    let error = status["errors"][0]["error"].as_str().unwrap();
    assert!(error.contains("cannot connect to the origin") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_unix_socket_is_for_user_and_group_and_needs_no_token() {
    let origin = Origin::pages("").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listen = format!("unix:{}", path.display());
    let running = Running::start(&origin, &listen, "");
    assert_eq!(running.at, listen);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    for (request, status) in [("GET /status", "200"), ("POST /drain", "200"), ("GET /readyz", "503")] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {said}");
    }
    let said = refused(&command(&["--listen", "127.0.0.1:0", "--admin", &listen]).output().unwrap());
    assert!(said.contains("the socket is in use; --admin (PROXY_ADMIN) takes another"), "{said}");
}

#[test]
fn a_listener_for_everyone_without_a_token_is_a_fault_at_the_start() {
    let said = refused(&command(&["--admin", "0.0.0.0:0"]).output().unwrap());
    assert!(said.starts_with("error: admin.listen: http://0.0.0.0:0 can be reached"), "{said}");
    assert!(said.contains("admin.token_file must name a file"), "{said}");
}

#[tokio::test]
async fn what_an_attacker_sends_is_refused_and_changes_nothing() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    let own = running.admin();
    let large = format!("Content-Length: {}\r\n", (1 << 20) + 1);
    for (head, status) in [
        ("GET /status HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), 403),
        ("GET /healthz HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), 200),
        ("GET /status HTTP/1.0\r\n".to_owned(), 403),
        (format!("GET /nothing HTTP/1.1\r\nHost: {own}\r\n"), 404),
        (format!("GET /drain HTTP/1.1\r\nHost: {own}\r\n{TOKEN}"), 405),
        (format!("POST /drain HTTP/1.1\r\nHost: {own}\r\n"), 401),
        (format!("POST /drain HTTP/1.1\r\nHost: {own}\r\nAuthorization: Bearer wrong\r\n"), 401),
        (format!("POST /drain HTTP/1.1\r\nHost: {own}\r\nOrigin: http://evil.example\r\n{TOKEN}"), 403),
        (format!("POST /drain HTTP/1.1\r\nHost: evil.example\r\n{TOKEN}"), 403),
        (format!("POST /drain HTTP/1.1\r\nHost: {own}\r\n{TOKEN}{large}"), 413),
    ] {
        let reply = exchange(own, format!("{head}Connection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(reply.status(), status, "{head}");
        assert!(!reply.text().contains("s3cret"));
        if status == 401 {
            assert_eq!(reply.header("www-authenticate"), "Bearer");
        }
        if status == 405 {
            assert_eq!(reply.header("allow"), "POST");
        }
    }
    assert_eq!(running.ask("GET", "/readyz", "").await.status(), 200);
    assert_eq!(running.ask("POST", "/drain", TOKEN).await.status(), 200);
    assert_eq!(running.ask("GET", "/readyz", "").await.text(), "draining\n");
    assert_eq!(running.get("/p/1", "").await.status(), 200, "requests are served until a signal");
}

#[tokio::test]
async fn slow_and_many_connections_hold_up_nobody() {
    /// More than the listener keeps.
    const MANY: usize = 1100;
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    let mut idle = Vec::new();
    for _ in 0..MANY {
        let mut stream = TcpStream::connect(running.admin()).await.unwrap();
        stream.write_all(b"GET /status HT").await.unwrap();
        idle.push(stream);
    }
    assert_eq!(running.ask("GET", "/healthz", "").await.status(), 200);
    assert_eq!(running.get("/p/1", "").await.status(), 200);
    // The oldest has gone for a newer one, the newest goes at the end of its time.
    for at in [0, MANY - 1] {
        let closed = timeout(PATIENCE, idle[at].read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "the connection is still open");
    }
}

#[tokio::test]
async fn readiness_ends_at_the_signal_and_the_port_closes_later() {
    let origin = Origin::pages("").await;
    let mut running = Running::start(&origin, "127.0.0.1:0", "pre_stop_delay = \"1s\"");
    let began = Instant::now();
    running.signal("-TERM");
    while running.ask("GET", "/readyz", "").await.status() == 200 {}
    assert_eq!(running.get("/p/1", "").await.status(), 200);
    assert_eq!(running.ask("GET", "/healthz", "").await.status(), 200);
    let status = tokio::task::spawn_blocking(move || running.child.wait().unwrap()).await.unwrap();
    assert!(status.success() && began.elapsed() >= Duration::from_secs(1));
}

/// An origin whose pages tell what the test wants of them by their path.
async fn scripted() -> Origin {
    Origin::new(|seen, _| {
        Script::Answer(match seen.line.as_str() {
            line if line.contains("/cookie") => page("Set-Cookie: a=b\r\n", "cookie"),
            line if line.contains("/gone") => answer("404 Not Found", "", "gone"),
            _ => page("", "0123456789"),
        })
    })
    .await
}

/// A sample of the metrics.
pub(crate) fn sample(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn the_metrics_agree_with_a_scripted_load_to_one() {
    let origin = scripted().await;
    let running = Running::over_tcp(&origin).await;
    let empty = running.ask("GET", "/metrics", "").await;
    assert_eq!(empty.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(sample(empty.text(), "cachepage_requests_total{outcome=\"hit\",rule=\"/p/*\"}"), 0.0);
    for (target, times) in [("/p/1", 41), ("/p/cookie", 3), ("/p/gone", 2), ("/never/", 5), ("/other", 4)] {
        for _ in 0..times {
            running.get(target, "").await;
        }
    }
    assert_eq!(running.get("/p/1", "Range: bytes=0-3\r\n").await.status(), 206);
    assert_eq!(exchange(running.proxy, b"GET /x HTTP/1.1\r\n\r\n").await.status(), 400);
    let mut client = Client::connect(running.proxy).await;
    client
        .write(b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    client.reply(true).await;
    client.reply(true).await;
    let reply = running.ask("GET", "/metrics", "").await;
    let metrics = reply.text();
    for (outcome, rule, count) in [
        ("hit", "/p/*", 43),
        ("miss", "/p/*", 1),
        ("bypass", "/p/*", 5),
        ("bypass", "/never/", 5),
        ("bypass", "", 4),
        ("refused", "", 1),
        ("error", "/p/*", 0),
    ] {
        let name = format!("cachepage_requests_total{{outcome=\"{outcome}\",rule=\"{rule}\"}}");
        assert_eq!(sample(metrics, &name), f64::from(count), "{name}\n{metrics}");
    }
    for (name, count) in [
        ("cachepage_responses_total{class=\"2xx\"}", 56),
        ("cachepage_responses_total{class=\"4xx\"}", 3),
        ("cachepage_bypass_total{detail=\"set-cookie\"}", 3),
        ("cachepage_bypass_total{detail=\"status\"}", 2),
        ("cachepage_bypass_total{detail=\"rule-off\"}", 5),
        ("cachepage_bypass_total{detail=\"no-rule\"}", 4),
        ("cachepage_request_duration_seconds_count{outcome=\"hit\"}", 43),
        ("cachepage_request_duration_seconds_bucket{outcome=\"hit\",le=\"+Inf\"}", 43),
        ("cachepage_origin_inflight{origin=\"ORIGIN\"}", 0),
        ("cachepage_store_up", 1),
    ] {
        let name = name.replace("ORIGIN", &format!("http://{}", origin.address));
        assert_eq!(sample(metrics, &name), f64::from(count), "{name}\n{metrics}");
    }
    assert!(!metrics.contains("s3cret"));
}

#[tokio::test]
async fn promtool_accepts_the_metrics() {
    let origin = scripted().await;
    let running = Running::over_tcp(&origin).await;
    running.get("/p/1", "").await;
    running.get("/other", "").await;
    let metrics = running.ask("GET", "/metrics", "").await;
    let mut families = metrics.text().lines().filter(|line| line.starts_with("# ")).peekable();
    assert!(families.peek().is_some());
    while let (Some(help), Some(kind)) = (families.next(), families.next()) {
        let name = help.strip_prefix("# HELP ").and_then(|help| help.split(' ').next()).unwrap();
        assert!(kind.starts_with(&format!("# TYPE {name} ")), "{help}\n{kind}");
    }
    let open =
        running.ask("GET", "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n").await;
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(
        open.text().ends_with("\n# EOF\n") && open.text().contains("# TYPE cachepage_requests counter\n")
    );
    // In Debian's package prometheus, which no test installs: it starts a server of its own.
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("promtool is not on the PATH: the metrics were checked for HELP and TYPE alone");
        return;
    };
    promtool.stdin.take().unwrap().write_all(metrics.text().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
