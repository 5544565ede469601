//! Pages that follow a database: real PostgreSQL, the program itself, and an origin that counts.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use stack::Postgres;
use tempfile::NamedTempFile;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::program::command;
use crate::support::{Origin, PATIENCE, Reply, Script, exchange, page};

/// A proxy that follows a database. Dropping it kills it.
pub(crate) struct Follower {
    child: Child,
    address: SocketAddr,
    /// The listener for operators.
    admin: SocketAddr,
    log: Receiver<String>,
    settings: NamedTempFile,
}

impl Follower {
    pub(crate) fn start(origin: SocketAddr, database: &str, follow: &str) -> Self {
        let settings = NamedTempFile::new().unwrap();
        let text =
            format!("origin = \"http://{origin}\"\nstore = \"memory\"\n[[cache_page]]\npath = \"/*\"\n");
        std::fs::write(settings.path(), text + &followed(database, follow)).unwrap();
        let port_0 = "127.0.0.1:0";
        let path = settings.path().to_str().unwrap();
        let mut child = command(&["--config", path, "--listen", port_0, "--admin", port_0])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let mut listening = |name: &str| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(&format!("{name} listening on http://")).unwrap().parse().unwrap()
        };
        let (address, admin) = (listening("proxy"), listening("admin"));
        let (sender, log) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, address, admin, log, settings }
    }

    /// Waits for a line of the log that has this text.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{text} is not in the log: {seen:#?}"),
            }
        }
    }

    /// Adds a database to the settings, and has them read anew.
    fn reload_with(&self, more: &str) {
        let path = self.settings.path();
        let text = std::fs::read_to_string(path).unwrap() + more;
        std::fs::write(path, text).unwrap();
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    async fn get(&self, path: &str) -> Reply {
        exchange(self.address, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await
    }

    /// What the listener for operators says at this path.
    async fn figures(&self, path: &str) -> Reply {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin);
        exchange(self.admin, request.as_bytes()).await
    }

    /// Asks for a page until it is another one.
    pub(crate) async fn changed(&self, path: &str, before: &Reply) -> Reply {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let now = self.get(path).await;
            if now.body != before.body {
                return now;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("{path} is still {}", before.text());
    }

    /// Asks for a page twice, so that it is stored.
    pub(crate) async fn stored(&self, path: &str) -> Reply {
        self.get(path).await;
        let hit = self.get(path).await;
        assert_eq!(hit.header("x-cache"), "HIT", "{path}");
        hit
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A table of the settings.
fn followed(database: &str, lines: &str) -> String {
    format!("[[follow]]\ndatabase = \"{database}\"\n{lines}")
}

/// An origin whose pages have their own paths for a tag, without slashes.
pub(crate) async fn tagged() -> Origin {
    Origin::new(|seen, number| {
        let path = seen.line.split(' ').nth(1).unwrap().trim_matches('/').to_owned();
        Script::Answer(page(&format!("Surrogate-Key: {path}\r\n"), &format!("page {number}")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_a_commit_names_are_purged_and_others_stay() {
    let postgres = Postgres::shared();
    let url = postgres.database("follow_pages").unwrap();
    let notify = |payload: &str| postgres.psql(&url, &format!("NOTIFY pages, '{payload}'")).unwrap();
    let origin = tagged().await;
    let proxy = Follower::start(origin.address, &url, "channel = \"pages\"\n");
    proxy.wait_for(" followed ");
    let (a, b) = (proxy.stored("/a/").await, proxy.stored("/b/").await);
    postgres.psql(&url, "BEGIN; NOTIFY pages, 'b'; ROLLBACK").unwrap();
    notify("x a");
    let a = proxy.changed("/a/", &a).await;
    assert_eq!(a.header("x-cache"), "MISS");
    assert_eq!(proxy.get("/b/").await.body, b.body, "it was not named");
    notify(r#"{"urls":["http://h/a/"]}"#);
    let a = proxy.changed("/a/", &a).await;
    notify(r#"{"prefixes":["http://h/a"]}"#);
    proxy.changed("/a/", &a).await;
    assert_eq!(proxy.get("/b/").await.body, b.body, "it was not named");
    // What cannot be read may mean any page.
    notify("{");
    proxy.changed("/b/", &b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_asked_for_before_the_commit_is_not_served_after_it() {
    let postgres = Postgres::shared();
    let url = postgres.database("follow_fill").unwrap();
    let (asked, was_asked) = oneshot::channel();
    let (answer, pieces) = tokio::sync::mpsc::channel(1);
    let mut first = Some((asked, pieces));
    let origin = Origin::new(move |seen, number| match first.take() {
        Some((asked, pieces)) if seen.line.contains("/slow/") => {
            let _ = asked.send(());
            Script::Pieces(pieces)
        }
        kept => {
            first = kept;
            Script::Answer(page("Surrogate-Key: a\r\n", &format!("page {number}")))
        }
    })
    .await;
    let proxy = Follower::start(origin.address, &url, "");
    proxy.wait_for(" followed ");
    let other = proxy.stored("/other/").await;
    let (slow, ()) = tokio::join!(proxy.get("/slow/"), async {
        was_asked.await.unwrap();
        postgres.psql(&url, "NOTIFY cachepage, 'a'").unwrap();
        // The notification has been heard when another page of the tag has changed.
        proxy.changed("/other/", &other).await;
        answer.send(page("Surrogate-Key: a\r\n", "old")).await.unwrap();
        drop(answer);
    });
    assert_eq!(slow.text(), "old");
    let next = proxy.get("/slow/").await;
    assert_eq!((next.header("x-cache"), next.text() == "old"), ("MISS", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_is_made_anew_and_everything_is_purged() {
    let postgres = Postgres::shared();
    let url = postgres.database("follow_cut").unwrap();
    let origin = tagged().await;
    let proxy = Follower::start(origin.address, &url, "");
    proxy.wait_for(" followed ");
    let page = proxy.stored("/a/").await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = 'follow_cut' AND application_name = 'cachepage'";
    assert_eq!(postgres.psql(&url, cut).unwrap(), "t");
    proxy.wait_for(" not followed");
    proxy.wait_for(" followed ");
    proxy.changed("/a/", &page).await;
    postgres.psql(&url, "NOTIFY cachepage, 'b'").unwrap();
    let lines = [("up", 1), ("lost_total", 1), ("notifications_total", 1)].map(|(name, figure)| {
        let database = format!("127.0.0.1:{}/follow_cut, channel cachepage", postgres.port());
        format!("cachepage_follow_{name}{{database=\"{database}\"}} {figure}\n")
    });
    let until = Instant::now() + PATIENCE;
    loop {
        let said = proxy.figures("/metrics").await;
        if lines.iter().all(|line| said.text().contains(line)) {
            break;
        }
        assert!(Instant::now() < until, "{lines:?} {}", said.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_page_is_served_as_on_loss_says() {
    for (on_loss, expected) in [("0s", "MISS"), ("1h", "HIT"), ("ignore", "HIT")] {
        let postgres = Postgres::start().unwrap();
        let url = postgres.database("follow_loss").unwrap();
        let origin = tagged().await;
        let proxy = Follower::start(origin.address, &url, &format!("on_loss = \"{on_loss}\"\n"));
        proxy.wait_for(" followed ");
        proxy.stored("/a/").await;
        drop(postgres);
        proxy.wait_for(" not followed");
        let status: serde_json::Value = serde_json::from_slice(&proxy.figures("/status").await.body).unwrap();
        let follow = &status["follow"][0];
        assert_eq!((&follow["heard"], follow["lost_since"].is_string()), (&false.into(), true), "{follow}");
        for _ in 0..2 {
            let reply = proxy.get("/a/").await;
            assert_eq!(reply.header("x-cache"), expected, "{on_loss}");
        }
        if expected == "MISS" {
            assert!(proxy.get("/a/").await.header("cache-status").contains("fwd=stale"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_falls_silent_counts_as_lost() {
    let postgres = Postgres::shared();
    let url = postgres.database("follow_silent").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (between, port) = (listener.local_addr().unwrap(), postgres.port());
    let (silence, silent) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => {}
            _ = silent => {}
        }
        // The connections stay open, and nothing passes.
        std::future::pending::<()>().await;
    });
    let origin = tagged().await;
    let url = url.replace(&format!(":{port}/"), &format!(":{}/", between.port()));
    let proxy = Follower::start(origin.address, &url, "on_loss = \"0s\"\n");
    proxy.wait_for(" followed ");
    proxy.stored("/a/").await;
    silence.send(()).unwrap();
    proxy.wait_for("no answer within 5 s");
    assert_eq!(proxy.get("/a/").await.header("x-cache"), "MISS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_a_reload_brings_is_followed_beside_the_others() {
    let postgres = Postgres::shared();
    let (first, second) =
        (postgres.database("follow_first").unwrap(), postgres.database("follow_second").unwrap());
    let origin = tagged().await;
    let proxy = Follower::start(origin.address, &first, "on_loss = \"ignore\"\n");
    proxy.wait_for(" followed ");
    let (a, b) = (proxy.stored("/a/").await, proxy.stored("/b/").await);
    proxy.reload_with(&followed(&second, "on_loss = \"ignore\"\n"));
    assert!(proxy.wait_for(" followed ").contains("follow_second"), "the first is not connected anew");
    postgres.psql(&second, "NOTIFY cachepage, 'a'").unwrap();
    proxy.changed("/a/", &a).await;
    assert_eq!(proxy.get("/b/").await.body, b.body, "it was not named");
    postgres.psql(&first, "NOTIFY cachepage, 'b'").unwrap();
    proxy.changed("/b/", &b).await;
}
