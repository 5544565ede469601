//! `methods = ["GET", "QUERY"]`: a QUERY (RFC 10008) has a page for its content.

use std::process::Command;

use proxy::MemoryStore;

use crate::backend::Backend;
use crate::support::{Client, Origin, RULES, Reply, Scene, Script, Setup, page};

scenes! {
    each_content_has_its_own_page
    simultaneous_queries_for_one_page_are_one_request_to_the_origin
    content_that_is_too_long_passes_whole
}

/// The most content that selects a page.
const LONGEST: usize = 64 << 10;

fn rules() -> String {
    format!("{RULES}methods = [\"GET\", \"QUERY\"]\n[[cache_page]]\npath = \"/q/*\"\n")
}

/// A proxy with these rules over a Redis of its own.
async fn scene(on: Setup, origin: &Origin) -> (Scene, Backend) {
    let redis = Backend::start().unwrap();
    (Scene::over(on, &redis.url(), origin, &rules()).await, redis)
}

fn query(target: &str, lines: &str, content: &str) -> String {
    let length = content.len();
    format!(
        "QUERY {target} HTTP/1.1\r\nHost: localhost:8000\r\n{lines}Content-Length: {length}\r\n\r\n{content}"
    )
}

fn in_chunks(target: &str, lines: &str, pieces: &[&str]) -> String {
    let chunks: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    let lines = format!("{lines}Transfer-Encoding: chunked\r\n");
    format!("QUERY {target} HTTP/1.1\r\nHost: localhost:8000\r\n{lines}\r\n{chunks}0\r\n\r\n")
}

async fn each_content_has_its_own_page(on: Setup) {
    let origin = Origin::pages("").await;
    let (scene, redis) = scene(on, &origin).await;
    let json = "Content-Type: application/json\r\n";
    for (request, cache, page) in [
        (query("/p/", json, "{\"a\":1}"), "MISS fwd=uri-miss; stored", "page 1"),
        (query("/p/", json, "{\"a\":1}"), "HIT hit; ttl=60", "page 1"),
        (in_chunks("/p/", json, &["{\"a\"", ":1}"]), "HIT hit; ttl=60", "page 1"),
        (query("/p/", json, "{\"a\":2}"), "MISS fwd=uri-miss; stored", "page 2"),
        (query("/p/", "", "{\"a\":1}"), "MISS fwd=uri-miss; stored", "page 3"),
        (
            query("/p/", &format!("{json}Content-Encoding: gzip\r\n"), "{\"a\":1}"),
            "MISS fwd=uri-miss; stored",
            "page 4",
        ),
        (query("/p/?b", json, "{\"a\":1}"), "MISS fwd=uri-miss; stored", "page 5"),
        (query("/p/", "", ""), "MISS fwd=uri-miss; stored", "page 6"),
        (
            "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n".to_owned(),
            "MISS fwd=uri-miss; stored",
            "page 7",
        ),
        (query("/p/", "", ""), "HIT hit; ttl=60", "page 6"),
        // A rule that does not name the method.
        (query("/q/", json, "{\"a\":1}"), "BYPASS fwd=method", "page 8"),
        (query("/q/", json, "{\"a\":1}"), "BYPASS fwd=method", "page 9"),
    ] {
        let reply = scene.send(&request).await;
        assert_eq!((reply.cache().as_str(), reply.text()), (cache, page), "{request}");
    }
    let seen = &origin.seen()[0];
    assert_eq!((seen.line.as_str(), &*seen.body), ("QUERY /p/ HTTP/1.1", &b"{\"a\":1}"[..]));
    assert_eq!(
        (seen.header("content-length"), seen.header("content-type")),
        (Some("7"), Some("application/json"))
    );
    let keys = redis.cli(&["KEYS", "*"]).unwrap();
    let queries = keys.lines().filter(|key| key.contains("cache_page.QUERY./p/.")).count();
    assert_eq!((queries, keys.lines().count()), (6, 7), "{keys}");
    assert!(!redis.cli(&["GET", keys.lines().next().unwrap()]).unwrap().contains("{\"a\""));
}

async fn simultaneous_queries_for_one_page_are_one_request_to_the_origin(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let (scene, _redis) = scene(on, &origin).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = scene.connect().await;
        client.write(query("/p/", "", "same").as_bytes()).await;
        clients.push(client);
    }
    requests.recv().await.unwrap().send(page("", "once")).await.unwrap();
    for client in &mut clients {
        let reply = client.reply(true).await;
        assert_eq!((reply.status(), reply.text()), (200, "once"), "{}", reply.cache());
    }
    assert_eq!(origin.count(), 1);
}

async fn content_that_is_too_long_passes_whole(on: Setup) {
    let origin = Origin::pages("").await;
    let (scene, _redis) = scene(on, &origin).await;
    let longest = "x".repeat(LONGEST);
    let longer = format!("{longest}y");
    let mut expected = Vec::new();
    for (request, caches) in [
        (query("/p/", "", &longest), ["MISS fwd=uri-miss; stored", "HIT hit; ttl=60"]),
        (query("/p/", "", &longer), ["BYPASS fwd=bypass; detail=content"; 2]),
        (in_chunks("/p/", "", &[&longest]), ["HIT hit; ttl=60"; 2]),
        (in_chunks("/p/", "", &[&longest, "y"]), ["BYPASS fwd=bypass; detail=content"; 2]),
    ] {
        for cache in caches {
            assert_eq!(scene.send(&request).await.cache(), cache);
            if cache.contains("fwd") {
                expected.push(if cache.contains("content") { longer.len() } else { LONGEST });
            }
        }
    }
    let lengths: Vec<_> = origin.seen().iter().map(|seen| seen.body.len()).collect();
    assert_eq!(lengths, expected);
    assert!(origin.seen().iter().skip(1).all(|seen| seen.body.ends_with(b"xy")));
}

#[tokio::test]
async fn a_condition_on_a_query_is_answered_from_its_page() {
    let origin = Origin::new(|_, _| Script::Answer(page("ETag: \"a\"\r\n", "hi"))).await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &rules()).await;
    for cache in ["MISS", "HIT"] {
        let reply = scene.send(&query("/p/", "If-None-Match: \"a\"\r\n", "x")).await;
        assert_eq!((reply.header("x-cache"), reply.status()), (cache, 304));
    }
    let whole = scene.send(&query("/p/", "Range: bytes=0-0\r\n", "x")).await;
    assert_eq!((whole.status(), whole.text(), origin.count()), (200, "hi", 1));
}

#[tokio::test]
async fn a_client_that_stops_sending_its_content_is_told_so_and_the_origin_is_not_asked() {
    let origin = Origin::pages("").await;
    let settings = format!("deadlines.body_idle = \"100ms\"\n{}", rules());
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    let start = "QUERY /p/ HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 9\r\n\r\nhalf";
    let reply: Reply = scene.send(start).await;
    assert_eq!((reply.status(), reply.cache().as_str()), (408, "BYPASS fwd=bypass; detail=request-body"));
    let mut gone: Client = scene.connect().await;
    gone.write(start.as_bytes()).await;
    gone.reset();
    assert_eq!(origin.count(), 0);
    assert_eq!(scene.send(&query("/p/", "", "whole")).await.text(), "page 1");
}

#[tokio::test]
async fn explain_says_what_happens_to_a_query() {
    let origin = Origin::pages("").await;
    let (scene, redis) = scene(Setup::Plain, &origin).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules()).unwrap();
    let explain = |content: &str, target: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_proxy"))
            .args(["--config", file.path().to_str().unwrap(), "--site", "localhost:8000", "explain"])
            .args(["--query", content, target])
            .env("REDIS_URL", redis.url())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let miss = explain("x", "/p/");
    assert!(miss.contains("request   QUERY /p/  Host") && miss.contains("fwd=uri-miss"), "{miss}");
    scene.send(&query("/p/", "", "x")).await;
    let hit = explain("x", "/p/");
    assert!(hit.contains("outcome   cachepage; hit; ttl="), "{hit}");
    assert!(explain("y", "/p/").contains("fwd=uri-miss"));
    assert!(explain("x", "/q/").contains("outcome   cachepage; fwd=method"));
}
