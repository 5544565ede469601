//! Clients that speak HTTP/2: the same pages, and what hostile ones may not do.

mod raw;

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::{Request, Response, Version};
use proxy::MemoryStore;
use tokio::task::JoinHandle;

use crate::support::{Origin, RULES, Scene, Script, page};
use crate::tls::listen;
use crate::tunnel::Authority;
use raw::{Fields, Frame, Raw, literal};

const ENHANCE_YOUR_CALM: u32 = 11;

/// A proxy that speaks HTTP/2, and its authority.
struct Stage {
    scene: Scene,
    authority: Authority,
}

impl Stage {
    async fn new(origin: &Origin, settings: &str) -> Self {
        let authority = Authority::new();
        let listen = listen(&[&authority.issue(&["127.0.0.1"])], "");
        let settings = format!("{settings}\n{RULES}\n{listen}");
        let scene = Scene::with(origin.address, MemoryStore::new(8 << 20), &settings).await;
        Self { scene, authority }
    }

    async fn client(&self) -> Client {
        let stream = self.authority.connect("127.0.0.1", &["h2"], self.scene.others[0]).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        Client { sender, connection: tokio::spawn(async { drop(connection.await) }) }
    }

    async fn raw(&self) -> Raw {
        Raw::begin(self.authority.connect("127.0.0.1", &["h2"], self.scene.others[0]).await.unwrap()).await
    }

    /// Whether another client is served.
    async fn serves_others(&self) {
        assert_eq!(self.client().await.get("/p/served").await.0.status(), 200);
    }
}

struct Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    async fn get(&mut self, target: &str) -> (Response<()>, String) {
        let uri = format!("https://localhost:8000{target}");
        let request = Request::get(uri).version(Version::HTTP_2);
        self.send(request.body(()).unwrap()).await
    }

    async fn send(&mut self, request: Request<()>) -> (Response<()>, String) {
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            text.extend_from_slice(&data);
        }
        (Response::from_parts(head, ()), String::from_utf8(text).unwrap())
    }
}

fn x_cache(answer: &Response<()>) -> &str {
    answer.headers()["x-cache"].to_str().unwrap()
}

#[tokio::test]
async fn pages_are_shared_with_clients_of_http_1_over_tls() {
    let origin = Origin::pages("").await;
    let stage = Stage::new(&origin, "").await;
    let mut client = stage.client().await;
    let (answer, text) = client.get("/p/").await;
    assert_eq!((x_cache(&answer), text.as_str()), ("MISS", "page 1"));
    let (answer, text) = client.get("/p/").await;
    assert_eq!((x_cache(&answer), text.as_str()), ("HIT", "page 1"));
    assert!(answer.headers()["cache-status"].to_str().unwrap().starts_with("cachepage; hit; ttl="));
    let authority = Arc::new(stage.authority);
    let tls = authority.leading_to(stage.scene.others[0]).await;
    let reply = crate::support::exchange(tls, b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    assert_eq!((reply.header("x-cache"), reply.text()), ("HIT", "page 1"));
}

#[tokio::test]
async fn the_origin_sees_a_request_of_http_1() {
    let origin = Origin::pages("").await;
    let stage = Stage::new(&origin, "").await;
    let request = Request::builder().uri("https://shop.example/pass?a=b").version(Version::HTTP_2);
    let request = request.header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers");
    let (answer, _) = stage.client().await.send(request.body(()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    let seen = &origin.seen()[0];
    assert_eq!(seen.line, "GET /pass?a=b HTTP/1.1");
    for (name, value) in [
        ("host", Some("shop.example")),
        ("cookie", Some("a=1; b=2")),
        ("x-forwarded-proto", Some("https")),
        ("te", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn head_and_conditions_and_ranges_are_answered_from_the_stored_page() {
    let origin = Origin::pages("ETag: \"a\"\r\n").await;
    let stage = Stage::new(&origin, "").await;
    let mut client = stage.client().await;
    client.get("/p/").await;
    for (method, name, value, status, text) in [
        ("HEAD", "accept", "*/*", 200, ""),
        ("GET", "if-none-match", "\"a\"", 304, ""),
        ("GET", "range", "bytes=0-3", 206, "page"),
    ] {
        let request = Request::builder().method(method).uri("https://localhost:8000/p/");
        let request = request.version(Version::HTTP_2).header(name, value).body(()).unwrap();
        let (answer, body) = client.send(request).await;
        assert_eq!((answer.status().as_u16(), x_cache(&answer), body.as_str()), (status, "HIT", text));
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn streams_are_answered_side_by_side_and_the_order_to_stop_lets_them_finish() {
    let (origin, mut requests) = Origin::piecewise().await;
    let stage = Stage::new(&origin, "").await;
    let mut client = stage.client().await;
    let slow = {
        let mut sender = client.sender.clone().ready().await.unwrap();
        let request = Request::get("https://localhost:8000/slow").version(Version::HTTP_2);
        sender.send_request(request.body(()).unwrap(), true).unwrap().0
    };
    let pieces = requests.recv().await.unwrap();
    let answered = async {
        requests.recv().await.unwrap().send(page("", "quick")).await.unwrap();
    };
    let ((_, text), ()) = tokio::join!(client.get("/quick"), answered);
    assert_eq!(text, "quick");
    let stopped = tokio::spawn(stage.scene.stop());
    tokio::task::yield_now().await;
    pieces.send(page("", "slow")).await.unwrap();
    drop(pieces);
    let data = slow.await.unwrap().into_body().data().await.unwrap().unwrap();
    assert_eq!(data, "slow");
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_request_that_means_another_one_in_http_1_never_reaches_the_origin() {
    let origin = Origin::pages("").await;
    let stage = Stage::new(&origin, "").await;
    let usual: Fields<'_> =
        &[(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/pass")];
    let replaced = |name: &str, value: &'static str| -> Vec<(String, String)> {
        let field = |&(known, old): &(&str, &str)| {
            (known.to_owned(), if known == name { value } else { old }.to_owned())
        };
        usual.iter().map(field).collect()
    };
    let with = |name: &str, value: &str| -> Vec<(String, String)> {
        let mut fields = replaced("", "");
        fields.push((name.to_owned(), value.to_owned()));
        fields
    };
    let hostile = [
        with("x", "a\r\nX-Admin: 1"),
        with("x", "a\nGET /admin HTTP/1.1"),
        with("x", "a\0b"),
        with("x\r\nx-admin", "1"),
        with("x: 1", "a"),
        with("X-Upper", "a"),
        with("", "a"),
        with("transfer-encoding", "chunked"),
        with("connection", "close"),
        with("upgrade", "websocket"),
        with("te", "chunked"),
        with("host", "b"),
        with(":authority", "b"),
        with("content-length", "5"),
        with("content-length", "+0"),
        with("x", " a"),
        with("x", "a\t"),
        [with("content-length", "0"), vec![("content-length".to_owned(), "1".to_owned())]].concat(),
        replaced(":path", "/pass HTTP/1.1\r\nX: 1"),
        replaced(":path", "pass"),
        replaced(":path", ""),
        replaced(":authority", "a\r\nX: 1"),
        replaced(":authority", "user@a"),
        replaced(":authority", ""),
        replaced(":method", "GET /admin HTTP/1.1\r\nX: "),
        replaced(":method", "CONNECT"),
        replaced(":method", "TRACE"),
        replaced(":scheme", "http"),
    ];
    for fields in hostile {
        let mut client = stage.raw().await;
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.headers(1, &fields, true).await;
        assert!(client.is_refused(1).await, "{fields:?}");
    }
    assert_eq!(origin.count(), 0);
    stage.serves_others().await;
}

/// Sends frames until the proxy ends the connection, and gives the reason that it names.
async fn ends(mut client: Raw, most: u32, frames: impl Fn(u32) -> Vec<Frame>) -> Option<u32> {
    for number in 0..most {
        for frame in frames(number) {
            if !client.write(&frame).await {
                return client.goaway().await;
            }
        }
    }
    client.goaway().await
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_ask_the_origin_for_little() {
    let origin = Origin::new(|_, _| Script::Silent).await;
    let stage = Stage::new(&origin, "[deadlines]\norigin_head = \"1s\"").await;
    let reason = ends(stage.raw().await, 5000, |number| {
        let stream = 2 * number + 1;
        vec![Frame::get(stream, "/pass"), Frame::reset(stream)]
    });
    assert_eq!(reason.await, Some(ENHANCE_YOUR_CALM));
    assert!(origin.count() <= 150, "{}", origin.count());
}

#[tokio::test]
async fn streams_that_the_proxy_must_reset_end_the_connection() {
    let origin = Origin::new(|seen, _| match seen.line.contains("/served") {
        true => Script::Answer(page("", "page")),
        false => Script::Silent,
    })
    .await;
    let stage = Stage::new(&origin, "[deadlines]\norigin_head = \"1s\"").await;
    // A window that grows beyond its bound is an error of the stream.
    let reason = ends(stage.raw().await, 5000, |number| {
        let stream = 2 * number + 1;
        vec![Frame::get(stream, "/pass"), Frame::new(8, 0, stream, &[0x7f, 0xff, 0xff, 0xff])]
    });
    assert_eq!(reason.await, Some(ENHANCE_YOUR_CALM));
    stage.serves_others().await;
}

#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let origin = Origin::pages("").await;
    let stage = Stage::new(&origin, "").await;
    let line = literal("x", &"y".repeat(1000));
    let reason = ends(stage.raw().await, 100_000, |number| {
        vec![if number == 0 { Frame::new(1, 0, 1, &line) } else { Frame::new(9, 0, 1, &line) }]
    });
    assert!(reason.await.is_some());
    assert_eq!(origin.count(), 0);
    stage.serves_others().await;
}

#[tokio::test]
async fn a_head_that_grows_when_it_is_unpacked_is_refused() {
    let origin = Origin::pages("").await;
    let stage = Stage::new(&origin, "").await;
    let mut client = stage.raw().await;
    // A line of 3,900 bytes for the table, and then a byte for each line like it.
    let mut block =
        raw::block(&[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/p/")]);
    block.extend(raw::indexed("x", &"y".repeat(3900)));
    block.extend([0xbe; 8000]);
    client.write(&Frame::new(1, 5, 1, &block)).await;
    assert!(client.is_refused(1).await);
    assert_eq!(origin.count(), 0);
    let many: Vec<_> = (0..200).map(|_| ("x", "y")).collect();
    let mut fields = vec![(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/p/")];
    fields.extend(many);
    let mut client = stage.raw().await;
    client.headers(1, &fields, true).await;
    assert!(client.is_refused(1).await);
    assert_eq!(origin.count(), 0);
    stage.serves_others().await;
}

#[tokio::test]
async fn a_body_of_empty_pieces_ends_the_connection() {
    let origin = Origin::pages("").await;
    let stage = Stage::new(&origin, "").await;
    let reason = ends(stage.raw().await, 1_000_000, |number| {
        vec![if number == 0 { Frame::post(1, "/pass") } else { Frame::new(0, 0, 1, b"") }]
    });
    assert_eq!(reason.await, Some(ENHANCE_YOUR_CALM));
    stage.serves_others().await;
}

#[tokio::test]
async fn a_flood_of_small_frames_ends_the_connection() {
    let origin = Origin::new(|seen, _| match seen.line.contains("/served") {
        true => Script::Answer(page("", "page")),
        false => Script::Silent,
    })
    .await;
    let stage = Stage::new(&origin, "").await;
    const DATA: (u8, u32, &[u8]) = (0, 1, b"x");
    const PRIORITY: (u8, u32, &[u8]) = (2, 1, &[0, 0, 0, 0, 9]);
    const WINDOW_UPDATE: (u8, u32, &[u8]) = (8, 0, &[0, 0, 0, 1]);
    const UNKNOWN: (u8, u32, &[u8]) = (0xbe, 1, b"");
    for (kind, stream, payload) in [DATA, PRIORITY, WINDOW_UPDATE, UNKNOWN] {
        let reason = ends(stage.raw().await, 20_000, |number| match number {
            0 => vec![Frame::post(1, "/pass")],
            _ => vec![Frame::new(kind, 0, stream, payload)],
        });
        assert_eq!(reason.await, Some(ENHANCE_YOUR_CALM), "{kind}");
    }
    stage.serves_others().await;
}

#[tokio::test]
async fn an_upload_in_a_thousand_small_pieces_is_whole() {
    let origin = Origin::new(|seen, _| Script::Answer(page("", &seen.body.len().to_string()))).await;
    let stage = Stage::new(&origin, "").await;
    let mut client = stage.raw().await;
    client.write(&Frame::post(1, "/pass")).await;
    for _ in 0..1000 {
        assert!(client.write(&Frame::new(0, 0, 1, b"x")).await);
    }
    client.write(&Frame::new(0, 1, 1, b"")).await;
    assert_eq!(client.body(1).await, "1000");
}

#[tokio::test]
async fn pings_and_settings_that_nobody_reads_the_answers_of_are_read_no_further() {
    let origin = Origin::pages("").await;
    let stage = Stage::new(&origin, "").await;
    for (kind, payload) in [(6, &[0; 8][..]), (4, b"")] {
        let mut client = stage.raw().await;
        // More than the buffers of two sockets.
        let piece = Frame::new(kind, 0, 0, payload).bytes().repeat(4000);
        let mut sent = 0;
        while sent < 64 << 20 && client.takes(&piece).await {
            sent += piece.len();
        }
        assert!(sent < 64 << 20, "{kind}");
        stage.serves_others().await;
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_an_answer_is_given_up() {
    let (origin, mut requests) = Origin::piecewise().await;
    let stage = Stage::new(&origin, "[deadlines]\nclient_write = \"1s\"").await;
    let mut client = stage.raw().await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0.
    client.write(&Frame::new(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    client.write(&Frame::get(1, "/pass")).await;
    let pieces = requests.recv().await.unwrap();
    pieces.send(page("", &"x".repeat(1 << 20))).await.unwrap();
    assert_eq!(client.goaway().await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed_in_order() {
    let origin = Origin::pages("").await;
    let stage = Stage::new(&origin, "[deadlines]\nclient_idle = \"300ms\"\nclient_write = \"300ms\"").await;
    assert_eq!(stage.raw().await.goaway().await, Some(0));
}
