//! The log has one event "answered" for each request. Its fields are the same whatever became of the request, and they say
//! what the client saw.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proxy::{MemoryStore, RedisStore};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, timeout};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;

use crate::grace;
use crate::support::{Origin, PATIENCE, RULES, Reply, Scene, Script, Setup, answer, page};

scenes! {
    each_answer_has_an_event_that_says_what_the_client_saw
    a_leader_and_its_followers_have_an_event_each
}

/// The events "answered" of the proxies that run on this thread, which are all of a test's.
struct Log {
    events: mpsc::UnboundedReceiver<Fields>,
    _guard: DefaultGuard,
}

impl Log {
    /// Begins to listen, as if `RUST_LOG` were `debug`.
    fn listen() -> Self {
        Self::of("answered")
    }

    /// Begins to listen to other events.
    fn of(message: &'static str) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let listener = Listener { message, sender }.with_filter(LevelFilter::DEBUG);
        let subscriber = tracing_subscriber::registry().with(listener);
        // While tracing has one subscriber alone, a thread without one that is the first to come to an event marks the event as
        // of no interest to any. A second subscriber keeps it from that.
        static SECOND: LazyLock<Dispatch> =
            LazyLock::new(|| Dispatch::new(tracing_subscriber::registry().with(LevelFilter::DEBUG)));
        LazyLock::force(&SECOND);
        Self { events, _guard: set_default(subscriber) }
    }

    /// What the next event says. It is written when the last byte of an answer was handed on, which may be after the client
    /// has it.
    async fn next(&mut self) -> Line {
        let next = timeout(PATIENCE, self.events.recv());
        Line::of(next.await.expect("an event in time").unwrap())
    }

    /// Stops the proxy, after which there must be no further event.
    async fn ends_with(mut self, scene: Scene) {
        scene.stop().await;
        assert_eq!(self.events.try_recv().ok(), None);
    }
}

/// The fields of an event, as text.
#[derive(Debug, Default, PartialEq)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

struct Listener {
    message: &'static str,
    sender: mpsc::UnboundedSender<Fields>,
}

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.0["message"] == self.message {
            // The test may have ended.
            let _ = self.sender.send(fields);
        }
    }
}

/// What an event says, but for the time, which the client cannot know.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    /// Method and target.
    request: String,
    status: u16,
    cache_status: String,
    bytes: usize,
}

impl Line {
    fn of(Fields(fields): Fields) -> Self {
        let names: Vec<_> = fields.keys().copied().collect();
        let expected = ["bytes", "cache_status", "message", "method", "microseconds", "status", "target"];
        assert_eq!(names, expected);
        assert!(fields["microseconds"].parse::<u64>().is_ok(), "{fields:?}");
        Self {
            request: format!("{} {}", fields["method"], fields["target"]),
            status: fields["status"].parse().unwrap(),
            cache_status: fields["cache_status"].clone(),
            bytes: fields["bytes"].parse().unwrap(),
        }
    }

    /// What an event must say of a request and its answer.
    fn expected(request: &str, reply: &Reply) -> Self {
        Self {
            request: request.trim_start().split(" HTTP/").next().unwrap().to_owned(),
            status: reply.status(),
            cache_status: reply.header("cache-status").to_owned(),
            bytes: reply.body.len(),
        }
    }
}

fn request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n")
}

/// An empty line before a request has hyper read it instead of the front.
fn for_hyper(method: &str, target: &str) -> String {
    format!("\r\n{}", request(method, target))
}

/// An origin that answers well and badly.
async fn origin() -> Origin {
    Origin::new(|seen, _| {
        let mut words = seen.line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        Script::Answer(match target {
            "/p/private" => page("Cache-Control: private\r\n", "mine"),
            "/p/empty" => page("", ""),
            "/p/chunks" => {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                format!("{head}3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n").into_bytes()
            }
            "/p/half" | "/half" => {
                return Script::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec());
            }
            "/p/none" => return Script::Close(Vec::new()),
            "/missing" => answer("404 Not Found", "", "nothing"),
            _ if method == "HEAD" => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec(),
            _ => page("", "page"),
        })
    })
    .await
}

async fn each_answer_has_an_event_that_says_what_the_client_saw(on: Setup) {
    let mut log = Log::listen();
    let origin = origin().await;
    let scene = Scene::new(on, &origin).await;
    for (request, cache_status) in [
        (request("GET", "/p/"), "fwd=uri-miss; stored"),
        (request("GET", "/p/"), "hit; ttl="),
        (for_hyper("GET", "/p/"), "hit; ttl="),
        (request("HEAD", "/p/"), "hit; ttl="),
        (for_hyper("HEAD", "/p/"), "hit; ttl="),
        (request("GET", "/p/?a=b"), "fwd=uri-miss; stored"),
        (request("GET", "/p/?a=b"), "hit; ttl="),
        (request("GET", "/p/empty"), "fwd=uri-miss; stored"),
        (request("GET", "/p/empty"), "hit; ttl="),
        (request("GET", "/p/chunks"), "fwd=uri-miss; detail=length-unknown"),
        (request("GET", "/p/private"), "fwd=bypass; detail=private"),
        (request("GET", "/p/half"), "fwd=uri-miss; stored"),
        (request("HEAD", "/p/new"), "fwd=bypass; detail=head"),
        (request("POST", "/p/"), "fwd=method"),
        (request("GET", "/other"), "fwd=bypass; detail=no-rule"),
        (request("GET", "/half"), "fwd=bypass; detail=no-rule"),
        (request("GET", "/missing"), "fwd=bypass; detail=no-rule"),
        (request("GET", "/p/none"), "fwd=bypass; detail=origin-answer"),
        (request("TRACE", "/p/"), "fwd=bypass; detail=method"),
        (request("GET", "/p/").replace("localhost", "a b"), "fwd=bypass; detail=bad-request"),
    ] {
        let reply = scene.send(&request).await;
        let line = log.next().await;
        assert_eq!(line, Line::expected(&request, &reply));
        assert!(line.cache_status.starts_with(&format!("cachepage; {cache_status}")), "{line:?}");
    }
    if let Setup::Near = on {
        loop {
            let reply = scene.get("/p/").await;
            assert_eq!(log.next().await, Line::expected("GET /p/", &reply));
            if reply.header("cache-status").ends_with("; detail=near") {
                break;
            }
        }
    }
    log.ends_with(scene).await;
}

async fn a_leader_and_its_followers_have_an_event_each(on: Setup) {
    const CLIENTS: usize = 20;
    let mut log = Log::listen();
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = scene.connect().await;
        client.write(request("GET", "/p/").as_bytes()).await;
        clients.push(client);
    }
    requests.recv().await.unwrap().send(page("", "page")).await.unwrap();
    let (mut expected, mut lines) = (Vec::new(), Vec::new());
    for client in &mut clients {
        expected.push(Line::expected("GET /p/", &client.reply(true).await));
        lines.push(log.next().await);
    }
    let count = |word: &str| lines.iter().filter(|line| line.cache_status.contains(word)).count();
    // A request that comes after the page is a hit.
    assert_eq!((count("; stored"), count("; collapsed") + count("; hit")), (1, CLIENTS - 1));
    assert!(count("; collapsed") > 0);
    for lines in [&mut expected, &mut lines] {
        lines.sort_by(|a, b| a.cache_status.cmp(&b.cache_status));
    }
    assert_eq!(lines, expected);
    drop(clients);
    log.ends_with(scene).await;
}

/// The refreshment of a page is no request of a client, and has no event.
#[tokio::test]
async fn a_stale_page_has_an_event_and_its_refreshment_none() {
    let mut log = Log::listen();
    let origin = Origin::new(|_, _| Script::Answer(answer("503 Service Unavailable", "", "bad"))).await;
    let rule = grace::rule("grace = 30\nstale_if_error = 300");
    for (seconds, detail) in [(5, "; detail=grace"), (100, "; detail=stale-if-error")] {
        let scene = Scene::with(origin.address, grace::aged(seconds, "").await, &rule).await;
        for request in [request("GET", "/p/"), for_hyper("GET", "/p/")] {
            let reply = scene.send(&request).await;
            let line = log.next().await;
            assert_eq!(line, Line::expected(&request, &reply));
            assert!(line.cache_status.ends_with(detail), "{line:?}");
        }
        scene.stop().await;
    }
    assert!(origin.count() > 0);
    assert_eq!(log.events.try_recv().ok(), None);
}

/// Requests that come together are hyper's, and each has an event of its own.
#[tokio::test]
async fn requests_in_one_write_have_an_event_each() {
    let mut log = Log::listen();
    let origin = origin().await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    let requests: Vec<_> = (0..5).map(|number| request("GET", &format!("/p/?{}", number / 2))).collect();
    let mut client = scene.connect().await;
    client.write(requests.concat().as_bytes()).await;
    for request in &requests {
        let reply = client.reply(true).await;
        assert_eq!(log.next().await, Line::expected(request, &reply));
    }
    drop(client);
    log.ends_with(scene).await;
}

#[tokio::test]
async fn a_client_that_leaves_within_its_answer_has_an_event_with_what_it_was_sent() {
    let mut log = Log::listen();
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    for target in ["/p/", "/other"] {
        let mut client = scene.connect().await;
        client.write(request("GET", target).as_bytes()).await;
        let sender = requests.recv().await.unwrap();
        sender.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec()).await.unwrap();
        client.until("half").await;
        client.reset();
        let line = log.next().await;
        assert_eq!((line.request, line.status, line.bytes), (format!("GET {target}"), 200, 4));
    }
    log.ends_with(scene).await;
}

/// What the log says of a client that reads the head of a stored page and leaves. The page is larger than what the kernel
/// takes at once.
async fn left_within_a_large_page(ask: fn(&str, &str) -> String) -> Line {
    const SIZE: usize = 16 << 20;
    let mut log = Log::listen();
    let origin = Origin::new(|_, _| Script::Answer(page("", &"x".repeat(SIZE)))).await;
    let settings = format!("max_entry = \"32MiB\"\n{RULES}");
    // A page may have only a part of the store, which is divided.
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 30), &settings).await;
    let reply = scene.get("/p/").await;
    assert_eq!(log.next().await, Line::expected("GET /p/", &reply));
    let mut client = scene.connect().await;
    client.write(ask("GET", "/p/").as_bytes()).await;
    assert_eq!(client.head().await.header("x-cache"), "HIT");
    drop(client);
    log.next().await
}

#[tokio::test]
async fn a_client_that_leaves_within_a_page_of_the_front_has_an_event_with_what_it_was_sent() {
    let line = left_within_a_large_page(request).await;
    assert!((1..16 << 20).contains(&line.bytes), "{line:?}");
}

/// What the log says of a client that leaves before it has had an answer.
async fn left_unanswered(target: &str) -> Line {
    let mut log = Log::listen();
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    let mut client = scene.connect().await;
    client.write(request("GET", target).as_bytes()).await;
    let _unanswered = requests.recv().await.unwrap();
    client.reset();
    log.next().await
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_has_an_event() {
    for target in ["/p/", "/other"] {
        let line = left_unanswered(target).await;
        assert_eq!((line.request, line.bytes), (format!("GET {target}"), 0));
        assert_eq!(line.cache_status, "cachepage; fwd=bypass; detail=unanswered");
    }
}

/// What the server answers to what is no good request, and what the log says of it.
async fn refused() -> Vec<(Reply, Line)> {
    let mut log = Log::listen();
    let origin = Origin::pages("").await;
    let settings = format!("deadlines.client_head = \"100ms\"\n{RULES}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    let get = |more: &str| format!("GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n{more}\r\n");
    let mut refused = Vec::new();
    for (request, status) in [
        (request("GET", &format!("/{}", "x".repeat(10_000))), 414),
        (get(&"X: y\r\n".repeat(1_000)), 431),
        (get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        (get("Host : a\r\n"), 400),
        ("GET / HTTP/1.1\r\nHo".to_owned(), 408),
    ] {
        let mut client = scene.connect().await;
        client.try_write(request.as_bytes()).await;
        let reply = client.reply(true).await;
        assert_eq!(reply.status(), status);
        refused.push((reply, log.next().await));
    }
    log.ends_with(scene).await;
    refused
}

/// What the server answers to a connection beyond its limits, and what the log says of it.
async fn turned_away() -> Vec<(Reply, Line)> {
    let mut log = Log::listen();
    let origin = Origin::pages("").await;
    let mut turned_away = Vec::new();
    for (setting, status) in [("connections", 503), ("connections_per_address", 429)] {
        let settings = format!("limits.{setting} = 1\n{RULES}");
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
        let mut first = scene.connect().await;
        first.write(request("GET", "/p/").as_bytes()).await;
        assert_eq!(Line::expected("GET /p/", &first.reply(true).await), log.next().await);
        let reply = scene.connect().await.reply(true).await;
        assert_eq!(reply.status(), status);
        turned_away.push((reply, log.next().await));
        drop(first);
        scene.stop().await;
    }
    assert_eq!(log.events.try_recv().ok(), None);
    turned_away
}

/// Nothing is known of what these clients asked.
#[tokio::test]
async fn what_the_server_refuses_has_an_event() {
    for (reply, line) in [refused().await, turned_away().await].concat() {
        assert_eq!((line.request.as_str(), line.status), ("- -", reply.status()));
        assert!(line.cache_status.starts_with("cachepage; fwd=bypass; detail="), "{line:?}");
        assert_eq!(line.cache_status, reply.header("cache-status"));
    }
}

/// One line a second for each kind, however many clients are at fault.
#[tokio::test]
async fn what_the_proxy_refuses_is_logged_with_its_reason_and_seldom() {
    let mut log = Log::of("request refused");
    let origin = Origin::pages("").await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(scene.get("/#a").await.status(), 400);
        assert_eq!(scene.send(&request("TRACE", "/")).await.status(), 405);
    }
    let mut lines = Vec::new();
    while let Ok(Fields(fields)) = log.events.try_recv() {
        lines.push([fields["name"].clone(), fields["reason"].clone(), fields["left_out"].clone()]);
    }
    let first = |name: &str| lines.iter().find(|[of, ..]| of == name).unwrap();
    let [_, reason, left_out] = first("bad-target");
    assert_eq!((reason.starts_with("the target has"), left_out.as_str()), (true, "0"), "{reason}");
    assert_eq!(first("method")[1], "the proxy does not accept this method");
    assert!(lines.len() as u64 <= 2 * (1 + started.elapsed().as_secs()), "{lines:?}");
}

// What the log should say, and does not yet.

#[tokio::test]
async fn the_text_for_what_the_server_refuses_is_counted() {
    for (reply, line) in [refused().await, turned_away().await].concat() {
        assert_eq!(line.bytes, reply.body.len(), "{line:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_has_no_status_of_success() {
    for target in ["/p/", "/other"] {
        let line = left_unanswered(target).await;
        assert!(line.status >= 400, "{line:?}");
    }
}

#[tokio::test]
async fn front_and_hyper_tell_the_same_target() {
    let mut log = Log::listen();
    let origin = origin().await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    for request in [request("GET", "/p/?"), for_hyper("GET", "/p/?"), request("GET", "/p/?")] {
        let reply = scene.send(&request).await;
        assert_eq!(log.next().await, Line::expected(&request, &reply));
    }
}

/// The time of a request begins when it was read, and not when hyper gets what the front does not answer.
#[tokio::test]
async fn the_time_of_a_miss_includes_the_look_into_the_store() {
    let mut log = Log::listen();
    // A store that never answers.
    let store = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/1", store.local_addr().unwrap());
    let store = RedisStore::new(&url, Duration::from_millis(200), 1 << 20).unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::with(origin.address, store, RULES).await;
    assert_eq!(scene.get("/p/").await.cache(), "MISS fwd=miss; detail=store-unreachable");
    let Fields(fields) = log.events.recv().await.unwrap();
    assert!(fields["microseconds"].parse::<u64>().unwrap() >= 200_000, "{fields:?}");
}
