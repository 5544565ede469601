//! The page of the admin listener: whom it asks, what it shows, and how it looks in a browser under load.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::{Running, TOKEN};
use crate::chromium::Browser;
use crate::support::{Client, Origin, PATIENCE, Script, page};

/// Pages that differ in how often they are asked for, one that is never stored, one without a rule, one that fails.
const TARGETS: [&str; 12] = [
    "/p/1",
    "/p/1",
    "/p/1",
    "/p/2?page=2",
    "/p/1",
    "/p/3",
    "/p/1",
    "/p/cookie",
    "/p/4",
    "/other",
    "/p/1",
    "/p/broken",
];

async fn origin() -> Origin {
    Origin::new(|seen, _| match seen.line.split(' ').nth(1) {
        Some("/p/cookie") => Script::Answer(page("Set-Cookie: a=b\r\n", "yours")),
        Some("/p/broken") => Script::Close(Vec::new()),
        _ => Script::Answer(page("", "a page")),
    })
    .await
}

#[tokio::test]
async fn the_page_asks_nobody_but_its_listener() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    let mut nonces = BTreeSet::new();
    for _ in 0..2 {
        let reply = running.ask("GET", "/", "").await;
        assert_eq!((reply.status(), reply.header("content-type")), (200, "text/html; charset=utf-8"));
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(reply.text().matches(&format!("nonce=\"{nonce}\"")).count(), 2, "style and script");
        for word in ["{style}", "{script}", "{nonce}", "src=", "innerHTML", "style=\""] {
            assert!(!reply.text().contains(word), "{word}");
        }
        let names: BTreeSet<_> = reply.text().split("http://").skip(1).map(|rest| &rest[..10]).collect();
        assert_eq!(names, BTreeSet::from(["www.w3.org"]), "the name of SVG alone");
        nonces.insert(nonce.to_owned());
    }
    assert_eq!(nonces.len(), 2);
}

#[tokio::test]
async fn beyond_the_loopback_the_page_comes_with_the_refusal_and_shows_nothing() {
    let origin = Origin::pages("").await;
    let running = Running::start(&origin, "0.0.0.0:0", "");
    let reply = running.ask("GET", "/", "").await;
    assert_eq!((reply.status(), reply.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    assert!(reply.text().contains("id=\"token\"") && !reply.text().contains("s3cret"));
    assert_eq!(running.ask("GET", "/", TOKEN).await.status(), 200);
    assert_eq!(running.ask("GET", "/events", "").await.status(), 401);
    assert_eq!(running.ask("GET", "/other", "").await.status(), 404);
}

#[tokio::test]
async fn events_tell_the_status_again_and_again() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    let mut stream = TcpStream::connect(running.admin()).await.unwrap();
    let request = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", running.admin());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    for requests in 0..2 {
        let event = timeout(PATIENCE, next_event(&mut stream, &mut said)).await.unwrap();
        assert_eq!(event["requests"]["bypass"], requests, "{event}");
        assert_eq!(running.get("/other", "").await.status(), 200);
    }
}

/// Reads to the end of an event that has not been read.
async fn next_event(stream: &mut TcpStream, said: &mut String) -> Value {
    loop {
        if let Some((_, rest)) = said.split_once("data: ")
            && let Some((event, rest)) = rest.split_once("\n\n")
        {
            let event = serde_json::from_str(event).unwrap();
            *said = rest.to_owned();
            return event;
        }
        let mut bytes = vec![0; 64 << 10];
        let read = stream.read(&mut bytes).await.unwrap();
        assert!(read > 0, "the stream of events has ended: {said}");
        said.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
}

#[tokio::test]
async fn hot_pages_and_slow_answers_are_in_the_status() {
    let origin = origin().await;
    let running = Running::over_tcp(&origin).await;
    for _ in 0..2 {
        for target in TARGETS {
            running.get(target, "").await;
        }
    }
    let status = running.status().await;
    let hottest = &status["hottest"][0];
    assert_eq!(hottest["url"], "http://localhost/p/1");
    assert!(hottest["share"].as_f64().unwrap() > 0.5, "{hottest}");
    assert!(hottest["age_seconds"].as_u64().unwrap() < 50 && hottest["ttl_seconds"].as_i64().unwrap() > 10);
    let asked: BTreeSet<_> =
        status["slowest"].as_array().unwrap().iter().map(|slow| slow["url"].as_str().unwrap()).collect();
    assert!(asked.contains("http://localhost/other") && asked.contains("http://localhost/p/2?page=2"));
    let hits: u64 =
        status["durations"]["buckets"]["hit"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(status["requests"]["hit"], hits);
}

#[tokio::test]
async fn the_page_can_be_seen_and_used_in_chromium() {
    let browser = match Browser::find().await {
        Ok(browser) => browser,
        Err(why) => return println!("the page was not looked at in a browser: {why}"),
    };
    let origin = origin().await;
    let storage = tempfile::tempdir().unwrap();
    let issued = format!(
        "[acme]\ndomains = [\"shop.example\"]\ndirectory = \"https://127.0.0.1:1/\"\nstorage = {:?}\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\ncertificates = \"acme\"\n",
        storage.path()
    );
    let (open, closed) =
        (Running::start(&origin, "127.0.0.1:0", &issued), Running::start(&origin, "0.0.0.0:0", ""));
    let mut load = JoinSet::new();
    for running in [&open, &closed] {
        for worker in 0..4 {
            load.spawn(ask_on_and_on(running.proxy, worker));
        }
    }
    look_at(&browser, &open, "").await;
    look_at(&browser, &closed, "s3cret").await;
}

/// A client that asks for all targets in turn, with a pause that leaves the machine to the others.
async fn ask_on_and_on(proxy: std::net::SocketAddr, first: usize) {
    let mut client = Client::connect(proxy).await;
    for target in TARGETS.into_iter().cycle().skip(first) {
        client.write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
        client.reply(true).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn look_at(browser: &Browser, running: &Running, token: &str) {
    let url = format!("http://127.0.0.1:{}/", running.admin().port());
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    std::fs::create_dir_all(&screenshots).unwrap();
    let screenshots = screenshots.display().to_string();
    let token = Some(token).filter(|token| !token.is_empty());
    let more: Vec<_> = [&*screenshots].into_iter().chain(token).collect();
    browser.run("look.mjs", &url, &more).await;
}
