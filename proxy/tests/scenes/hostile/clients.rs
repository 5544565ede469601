//! Slow clients and too many clients (inputs 29 and 51 of docs/hostile.md).

use std::time::Duration;

use proxy::MemoryStore;
use tokio::time::{Instant, interval};

use super::{SOON, is_well, with};
use crate::support::{Client, Origin, PATIENCE, RULES, Scene, Script, page};

#[tokio::test]
async fn h29_an_unfinished_head_is_408() {
    let origin = Origin::pages("").await;
    let scene = with(&origin, "deadlines.client_head = \"100ms\"\n").await;
    for part in [
        "G",
        "\r\n",
        "GET /p/ HTTP/1.1\r\nHo",
        "GET /p/ HTTP/1.1\r\nHost: a\r\n",
        "GET /p/ HTTP/1.1\r\nHost: a\r\n\r",
    ] {
        let mut client = scene.connect().await;
        client.write(part.as_bytes()).await;
        let reply = client.reply(true).await;
        assert_eq!((reply.status(), reply.header("connection")), (408, "close"), "{}", part.escape_debug());
        assert!(client.is_closed().await);
        is_well(&scene).await;
    }
    // A second request on a connection has the same deadline.
    let mut client = scene.connect().await;
    client.write(b"GET /p/well HTTP/1.1\r\nHost: localhost:8000\r\n\r\nGET /p/").await;
    assert_eq!(client.reply(true).await.status(), 200);
    assert_eq!(client.reply(true).await.status(), 408);
}

/// A byte now and then does not extend the deadline.
#[tokio::test]
async fn h29_a_head_that_trickles_is_408() {
    let origin = Origin::pages("").await;
    let scene = with(&origin, "deadlines.client_head = \"200ms\"\n").await;
    let mut client = scene.connect().await;
    let (mut pace, started) = (interval(Duration::from_millis(10)), Instant::now());
    client.write(b"GET /p/ HTTP/1.1\r\nX: ").await;
    while started.elapsed() < Duration::from_millis(300) {
        pace.tick().await;
        client.try_write(b"x").await;
    }
    assert_eq!(client.reply(true).await.status(), 408);
    is_well(&scene).await;
}

#[tokio::test]
async fn h29_an_idle_connection_is_closed_without_an_answer() {
    let origin = Origin::pages("").await;
    let scene = with(&origin, "deadlines.client_head = \"50ms\"\ndeadlines.client_idle = \"100ms\"\n").await;
    let mut silent = scene.connect().await;
    assert_eq!(silent.rest().await, b"");
    let mut client = scene.connect().await;
    client.write(b"GET /p/well HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    assert_eq!(client.reply(true).await.status(), 200);
    assert_eq!(client.rest().await, b"");
    is_well(&scene).await;
}

/// A client that waits for a slow answer is not idle.
#[tokio::test]
async fn h29_a_client_that_waits_for_an_answer_is_not_idle() {
    let (sender, mut requests) = tokio::sync::mpsc::channel(1);
    let origin = Origin::new(move |_, _| {
        let (answer, pieces) = tokio::sync::mpsc::channel(1);
        sender.try_send(answer).unwrap();
        Script::Pieces(pieces)
    })
    .await;
    let scene = with(&origin, "deadlines.client_head = \"50ms\"\ndeadlines.client_idle = \"50ms\"\n").await;
    let mut client = scene.connect().await;
    client.write(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = requests.recv().await.unwrap();
    // Three times the idle deadline.
    tokio::time::sleep(Duration::from_millis(150)).await;
    answer.send(page("", "late")).await.unwrap();
    assert_eq!(client.reply(true).await.text(), "late");
}

#[tokio::test]
async fn h29_an_unfinished_body_is_408() {
    let origin = Origin::pages("").await;
    let scene = with(&origin, "deadlines.body_idle = \"100ms\"\n").await;
    for request in [
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut client = scene.connect().await;
        client.write(request.as_bytes()).await;
        let reply = client.reply(true).await;
        assert_eq!((reply.status(), reply.cache().as_str()), (408, "BYPASS fwd=bypass; detail=request-body"));
        assert!(client.is_closed().await);
        is_well(&scene).await;
    }
}

/// The slot of a client that does not read becomes free. With one slot in all, no other client would be served
/// otherwise.
#[tokio::test]
async fn h29_a_client_that_does_not_read_is_disconnected() {
    // The large page exceeds the kernel's buffers of a connection.
    let origin = Origin::new(|seen, _| {
        let length = if seen.line.contains("large") { 16 << 20 } else { 1 };
        Script::Answer(page("", &"x".repeat(length)))
    })
    .await;
    let settings =
        format!("max_entry = \"32MiB\"\nlimits.connections = 1\ndeadlines.client_write = \"200ms\"\n{RULES}");
    // A page may have only a part of the store, which is divided.
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 30), &settings).await;
    scene.get("/p/large").await;
    for (target, x_cache) in [("/p/large", "HIT"), ("/large", "BYPASS")] {
        let mut slow = once(&scene, target).await;
        assert_eq!(slow.head().await.header("x-cache"), x_cache);
        let started = Instant::now();
        while scene.get("/p/").await.status() != 200 {
            assert!(started.elapsed() < PATIENCE, "the slow client is still connected");
        }
        assert!(slow.rest().await.len() < 16 << 20);
    }
}

/// Connects a client when a slot is free, and sends its request.
async fn once(scene: &Scene, target: &str) -> Client {
    let started = Instant::now();
    while scene.get("/p/").await.status() != 200 {
        assert!(started.elapsed() < SOON, "no free slot");
    }
    loop {
        let mut client = scene.connect().await;
        client.write(format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").as_bytes()).await;
        if client.peek().await.starts_with(b"HTTP/1.1 200") {
            return client;
        }
        assert!(started.elapsed() < SOON, "no free slot");
    }
}

#[tokio::test]
async fn h51_a_connection_beyond_the_limit_gets_an_error() {
    let origin = Origin::pages("").await;
    for (setting, status, name) in [
        ("connections", 503, "too-many-connections"),
        ("connections_per_address", 429, "too-many-connections-of-address"),
    ] {
        let scene = with(&origin, &format!("limits.{setting} = 2\n")).await;
        let mut clients = [scene.connect().await, scene.connect().await];
        for client in &mut clients {
            client.write(b"GET /p/well HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
            assert_eq!(client.reply(true).await.status(), 200);
        }
        for request in ["", "GET /p/ HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut third = scene.connect().await;
            third.try_write(request.as_bytes()).await;
            let reply = third.reply(true).await;
            assert_eq!((reply.status(), reply.header("retry-after")), (status, "1"));
            assert_eq!(reply.cache(), format!("BYPASS fwd=bypass; detail={name}"));
            assert!(third.is_closed().await);
        }
        drop(clients);
        let started = Instant::now();
        while scene.get("/p/well").await.status() != 200 {
            assert!(started.elapsed() < PATIENCE, "no free slot");
        }
    }
}
