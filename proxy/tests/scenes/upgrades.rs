//! Clients that change to another protocol with the origin.

use std::time::Duration;

use proxy::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::admin::Running;
use crate::metrics::sample;
use crate::support::{Client, Origin, Scene, Script, page};

const RULES: &str = "[[cache_page]]\npath = \"/ws/*\"\nupgrade = true\n[[cache_page]]\npath = \"/p/*\"\n";

const ASKS: &str = "GET /ws/ HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// An origin that answers 101 and then says in capitals what it hears. It fails if anything comes before its answer.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    assert!(stream.read_buf(&mut head).await.unwrap() > 0);
                }
                let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
                assert!(
                    text.contains("upgrade: websocket\r\n") && text.contains("connection: upgrade\r\n"),
                    "{text}"
                );
                let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: b\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                let mut bytes = [0; 1000];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    stream.write_all(&bytes[..count].to_ascii_uppercase()).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn bytes_go_both_ways_after_the_101_and_those_before_it_wait() {
    let scene = Scene::with(echo().await, MemoryStore::new(1 << 20), RULES).await;
    for early in ["", "early \r\n\0"] {
        let mut client = scene.connect().await;
        client.write(format!("{ASKS}{early}").as_bytes()).await;
        let head = client.head().await;
        assert_eq!((head.status(), head.header("x-a"), head.header("upgrade")), (101, "b", "websocket"));
        assert_eq!(head.header("connection").to_ascii_lowercase(), "upgrade");
        client.write(b"hello").await;
        client.until(&format!("{}HELLO", early.to_ascii_uppercase())).await;
        client.end().await;
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn bytes_before_another_answer_go_nowhere() {
    let origin = Origin::pages("").await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    let mut client = scene.connect().await;
    client.write(format!("{ASKS}GET /admin HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
    let reply = client.reply(true).await;
    assert_eq!((reply.status(), reply.cache().as_str()), (200, "BYPASS fwd=bypass; detail=upgrade"));
    assert!(client.is_closed().await);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn other_rules_forward_no_upgrade_and_plain_requests_are_cached() {
    let origin = Origin::pages("").await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    for target in ["/p/", "/other"] {
        let reply = scene.send(&ASKS.replace("/ws/", target)).await;
        assert_eq!(reply.status(), 200);
    }
    assert!(origin.seen().iter().all(|seen| seen.header("upgrade").is_none()));
    assert_eq!(scene.get("/ws/").await.header("x-cache"), "MISS");
    assert_eq!(scene.get("/ws/").await.header("x-cache"), "HIT");
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let origin = Origin::new(|seen, _| match seen.line.contains("/later") {
        true => Script::Answer(page("", "page")),
        _ if seen.line.contains("/foo") => Script::Close(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\nbytes".to_vec(),
        ),
        false => Script::Close(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbytes"
                .to_vec(),
        ),
    })
    .await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    for request in [
        "GET /ws/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /other HTTP/1.1\r\nHost: a\r\n\r\n",
        &ASKS.replace("/ws/", "/p/"),
        // Another protocol than the one that was asked for.
        &ASKS.replace("/ws/", "/ws/foo"),
    ] {
        assert_eq!(scene.send(request).await.status(), 502, "{request}");
    }
    assert_eq!(scene.get("/later").await.text(), "page");
}

#[tokio::test]
async fn a_tunnel_on_which_nothing_comes_is_closed() {
    let settings = format!("[deadlines]\ntunnel_idle = \"300ms\"\n{RULES}");
    let scene = Scene::with(echo().await, MemoryStore::new(1 << 20), &settings).await;
    let mut client = scene.connect().await;
    client.write(ASKS.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn tunnels_are_counted_as_long_as_they_are_open() {
    let origin = echo().await;
    let running = Running::of(&format!(
        "origin = \"http://{origin}\"\nstore = \"memory\"\n{RULES}[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"TOKEN\"\n"
    ));
    let counted = async || {
        let metrics = running.ask("GET", "/metrics", "").await;
        ["cachepage_tunnels_open", "cachepage_tunnels_total"].map(|name| sample(metrics.text(), name))
    };
    let in_flight = async || running.status().await["origins"][0]["inflight"].clone();
    assert_eq!((counted().await, in_flight().await), ([0.0, 0.0], 0.into()));
    let mut client = Client::connect(running.proxy).await;
    client.write(ASKS.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    client.write(b"hello").await;
    client.until("HELLO").await;
    assert_eq!((counted().await, in_flight().await), ([1.0, 1.0], 1.into()));
    client.end().await;
    let ended = async { while (counted().await, in_flight().await) != ([0.0, 1.0], 0.into()) {} };
    timeout(Duration::from_secs(20), ended).await.expect("a tunnel that has ended is not open");
}
