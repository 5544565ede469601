//! Origins that answer an upload before they have read it: the client gets that answer, also while it is still sending.

use std::net::SocketAddr;

use proxy::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Client, RULES, Scene, answer};

/// What an origin does after its answer.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Closes, with most of the upload unread: its system resets the connection.
    Closes,
    /// Says that it sends no more, and reads on.
    ReadsOn,
    /// Closes when it has read a part.
    ReadsSome,
    /// Neither reads nor closes.
    Stays,
    /// Keeps the connection, reads all, and closes when the next request comes.
    KeepsForOne,
}

const BEHAVIOURS: [Then; 3] = [Then::Closes, Then::ReadsOn, Then::ReadsSome];

/// More than the buffers of both connections take.
const MUCH: usize = 8 << 20;

struct EarlyOrigin {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl EarlyOrigin {
    /// An origin that answers each request when it has its head.
    async fn new(status: &'static str, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, status, then));
            }
        });
        Self { address, task }
    }

    async fn scene(&self) -> Scene {
        Scene::with(self.address, MemoryStore::new(1 << 20), RULES).await
    }
}

impl Drop for EarlyOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, status: &str, then: Then) {
    let mut head = Vec::new();
    while !head.windows(4).any(|part| part == b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let closing = if matches!(then, Then::KeepsForOne) { "" } else { "Connection: close\r\n" };
    stream.write_all(&answer(status, closing, "early")).await.unwrap();
    let mut part = vec![0; 100_000];
    match then {
        Then::Closes => {}
        Then::ReadsOn => {
            stream.shutdown().await.unwrap();
            while matches!(stream.read(&mut part).await, Ok(1..)) {}
        }
        Then::ReadsSome => drop(stream.read_exact(&mut part).await),
        Then::Stays => std::future::pending().await,
        Then::KeepsForOne => {
            stream.read_exact(&mut vec![0; MUCH]).await.unwrap();
            drop(stream.read(&mut part).await);
        }
    }
}

/// The two framings of an upload.
fn uploads() -> [Vec<u8>; 2] {
    let head = "POST /upload HTTP/1.1\r\nHost: localhost:8000\r\n";
    let body = "x".repeat(MUCH);
    [
        format!("{head}Content-Length: {MUCH}\r\n\r\n{body}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{MUCH:x}\r\n{body}\r\n0\r\n\r\n"),
    ]
    .map(String::into_bytes)
}

/// A client that sends all before it reads anything.
async fn send_then_read(scene: &Scene, upload: &[u8]) -> (Client, u16) {
    let mut client = scene.connect().await;
    assert!(client.try_write(upload).await, "the connection is not reset");
    let reply = client.reply(true).await;
    assert_eq!((reply.text(), reply.whole), ("early", true));
    let status = reply.status();
    (client, status)
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_sends_all_first() {
    for (status, code) in [("401 Unauthorized", 401), ("413 Content Too Large", 413), ("200 OK", 200)] {
        for then in BEHAVIOURS {
            let origin = EarlyOrigin::new(status, then).await;
            let scene = origin.scene().await;
            for upload in uploads() {
                let (_, seen) = send_then_read(&scene, &upload).await;
                assert_eq!(seen, code, "{then:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_origin_that_answers_and_reads_no_more_does_not_hold_the_client_up() {
    let origin = EarlyOrigin::new("401 Unauthorized", Then::Stays).await;
    let settings = format!("deadlines.body_idle = \"200ms\"\n{RULES}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    for upload in uploads() {
        assert_eq!(send_then_read(&scene, &upload).await.1, 401);
    }
}

#[tokio::test]
async fn no_request_is_sent_on_a_connection_that_carried_a_long_body() {
    let origin = EarlyOrigin::new("401 Unauthorized", Then::KeepsForOne).await;
    let scene = origin.scene().await;
    let [whole, _] = uploads();
    for _ in 0..3 {
        assert_eq!(send_then_read(&scene, &whole).await.1, 401);
    }
}

/// As many uploads as `CACHEPAGE_UPLOADS` says, by several clients at a time.
#[tokio::test]
async fn of_many_early_answers_none_is_lost() {
    let count: usize = std::env::var("CACHEPAGE_UPLOADS").map_or(24, |count| count.parse().unwrap());
    for then in BEHAVIOURS {
        let origin = EarlyOrigin::new("401 Unauthorized", then).await;
        let scene = origin.scene().await;
        let [whole, _] = uploads();
        let client = async || {
            for _ in 0..count.div_ceil(4 * BEHAVIOURS.len()) {
                assert_eq!(send_then_read(&scene, &whole).await.1, 401, "{then:?}");
            }
        };
        tokio::join!(client(), client(), client(), client());
    }
}

#[tokio::test]
async fn the_proxys_own_answer_to_an_upload_can_be_read_too() {
    // Nothing listens there.
    let scene = Scene::with("127.0.0.1:1".parse().unwrap(), MemoryStore::new(1 << 20), RULES).await;
    for upload in uploads() {
        let mut client = scene.connect().await;
        assert!(client.try_write(&upload).await, "the connection is not reset");
        let reply = client.reply(true).await;
        assert_eq!((reply.status(), reply.header("cache-status").contains("origin-connect")), (502, true));
    }
}
