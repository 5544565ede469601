//! Bodies are forwarded as they arrive, and a truncated body is never taken as complete.

use crate::support::{Origin, RULES, Scene, Script, Setup};
use proxy::MemoryStore;

scenes! {
    a_page_reaches_the_client_piece_by_piece_and_is_stored
    an_event_stream_under_a_rule_is_forwarded_at_once
    a_truncated_answer_is_a_broken_transfer_and_never_stored
    a_client_that_disconnects_early_ends_the_fetch_of_a_large_body
    a_shutdown_lets_a_transfer_finish
}

const GET: &[u8] = b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

async fn a_page_reaches_the_client_piece_by_piece_and_is_stored(on: Setup) {
    let (origin, mut starts) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    client.write(GET).await;
    let origins = starts.recv().await.unwrap();
    origins.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none".to_vec()).await.unwrap();
    client.until("one").await;
    origins.send(b"two".to_vec()).await.unwrap();
    client.until("two").await;
    origins.send(b"end".to_vec()).await.unwrap();
    client.until("end").await;
    let hit = scene.get("/p/").await;
    assert_eq!((hit.header("x-cache"), hit.text()), ("HIT", "onetwoend"));
}

async fn an_event_stream_under_a_rule_is_forwarded_at_once(on: Setup) {
    let (origin, mut starts) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    client.write(GET).await;
    let origins = starts.recv().await.unwrap();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    origins.send(head.to_vec()).await.unwrap();
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        origins.send(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()).await.unwrap();
        client.until(&event).await;
    }
    drop(client);
    // When the client has disconnected, the proxy closes the connection to the origin, so a later write fails.
    let event = format!("3e8\r\ndata: {}\n\n\r\n", "x".repeat(992)).into_bytes().repeat(10);
    let left = async { while origins.send(event.clone()).await.is_ok() {} };
    tokio::time::timeout(crate::support::PATIENCE, left).await.expect("the proxy hangs up");
}

/// Answers truncated in different ways: the client sees a broken transfer, and the next request asks the origin.
async fn a_truncated_answer_is_a_broken_transfer_and_never_stored(on: Setup) {
    for cut in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let origin = Origin::new(|_, _| Script::Close(cut.to_vec())).await;
        let scene = Scene::new(on, &origin).await;
        for count in 1..=2 {
            let reply = scene.get("/p/").await;
            assert_eq!(
                (reply.status(), reply.whole, reply.text()),
                (200, false, "half"),
                "{}",
                cut.escape_ascii()
            );
            assert_eq!(origin.count(), count);
        }
    }
}

#[tokio::test]
async fn an_origin_that_stalls_in_the_body_is_a_broken_transfer() {
    let (origin, mut starts) = Origin::piecewise().await;
    let settings = format!("deadlines.body_idle = \"100ms\"\n{RULES}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    for target in ["/p/", "/pass"] {
        let mut client = scene.connect().await;
        client.write(format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").as_bytes()).await;
        let origins = starts.recv().await.unwrap();
        origins.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()).await.unwrap();
        let reply = client.reply(true).await;
        assert_eq!((reply.whole, reply.text()), (false, "half"), "{target}");
        assert!(client.is_closed().await);
    }
}

async fn a_client_that_disconnects_early_ends_the_fetch_of_a_large_body(on: Setup) {
    let (origin, mut starts) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    client.write(GET).await;
    let origins = starts.recv().await.unwrap();
    origins.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n".to_vec()).await.unwrap();
    client.head().await;
    drop(client);
    let left = async { while origins.send(vec![b'x'; 10_000]).await.is_ok() {} };
    tokio::time::timeout(crate::support::PATIENCE, left).await.expect("the proxy hangs up");
}

async fn a_shutdown_lets_a_transfer_finish(on: Setup) {
    let (origin, mut starts) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    client.write(GET).await;
    let origins = starts.recv().await.unwrap();
    origins.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none".to_vec()).await.unwrap();
    client.until("one").await;
    let address = scene.address;
    let stopped = tokio::spawn(scene.stop());
    // The port closes first, so that another proxy can use it.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    origins.send(b"two".to_vec()).await.unwrap();
    let reply = client.reply(true).await;
    assert_eq!((reply.whole, reply.text()), (true, "onetwo"));
    stopped.await.unwrap();
}
