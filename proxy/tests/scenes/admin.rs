//! The listener for operators: what it says, to whom, and what it leaves alone.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use crate::program::{command, refused};
use crate::support::{Origin, PATIENCE, Reply, exchange};

pub(crate) const TOKEN: &str = "Authorization: Bearer s3cret\r\n";

/// A running proxy with an admin listener. Dropping it kills the proxy.
pub(crate) struct Running {
    child: Child,
    pub(crate) proxy: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) tls: Option<SocketAddr>,
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
        Self::of(&format!(
            "origin = \"http://{}\"\n{top}\n[[cache_page]]\npath = \"/p/*\"\n[[cache_page]]\npath = \"/never/\"\n\
             timeout = \"off\"\n[admin]\nlisten = \"{listen}\"\ntoken_file = \"TOKEN\"\n{lines}\n",
            origin.address
        ))
    }

    /// With these settings, in which TOKEN stands for the file of the token.
    pub(crate) fn of(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("cachepage.toml"), folder.path().join("token"));
        std::fs::write(&token, "s3cret\n").unwrap();
        std::fs::write(&file, settings.replace("TOKEN", &token.display().to_string())).unwrap();
        let mut child = command(&["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let at = loop {
            let line = lines.next().expect("the admin listener is announced").unwrap();
            match line.strip_prefix("admin listening on ") {
                Some(at) => break at.to_owned(),
                None => said.push(line),
            }
        };
        let on = |scheme: &str| {
            let begin = format!("proxy listening on {scheme}://");
            said.iter().find_map(|line| line.strip_prefix(&begin)?.parse().ok())
        };
        Self { child, proxy: on("http").unwrap(), tls: on("https"), at, folder }
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

/// In CI more connections than the listener keeps; CACHEPAGE_ADMIN_CONNECTIONS takes another number.
#[tokio::test]
async fn slow_and_many_connections_hold_up_nobody() {
    let many = std::env::var("CACHEPAGE_ADMIN_CONNECTIONS").map_or(1100, |many| many.parse().unwrap());
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    let calm = times(&running).await;
    let mut idle = Vec::new();
    for _ in 0..many {
        let mut stream = TcpStream::connect(running.admin()).await.unwrap();
        stream.write_all(b"GET /status HT").await.unwrap();
        idle.push(stream);
    }
    let attacked = times(&running).await;
    println!("{many} connections; the slowest of 100 requests on the data port: {calm:?}, then {attacked:?}");
    assert_eq!(running.ask("GET", "/healthz", "").await.status(), 200);
    // The oldest has gone for a newer one, the newest goes at the end of its time.
    for at in [0, many - 1] {
        let closed = timeout(PATIENCE, idle[at].read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "the connection is still open");
    }
}

/// The longest time of many requests on the data port, all of which are answered.
async fn times(running: &Running) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..100 {
        let began = Instant::now();
        assert_eq!(running.get("/p/1", "").await.status(), 200);
        longest = longest.max(began.elapsed());
    }
    longest
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
