//! Origins that are slow, lie or disconnect (inputs 31 to 34 of docs/hostile.md), and the limits of requests to an
//! origin.

use super::{is_well, with};
use crate::support::{Client, Origin, Scene, Script, Setup, answer, page};

scenes! {
    h33_malformed_or_unrequested_answers_are_502
    h33_a_conditional_request_may_get_a_304
    h33_interim_answers_are_skipped
    h33_a_body_that_breaks_before_its_first_byte_is_502
    h34_bytes_after_an_answer_are_dropped
    an_origin_may_send_many_short_header_lines
    an_idempotent_request_is_sent_again_if_the_origin_closes_an_idle_connection
    an_origin_that_never_answers_is_asked_once
}

/// Sends a request without waiting for the answer.
async fn ask(scene: &Scene, target: &str) -> Client {
    let mut client = scene.connect().await;
    client.write(format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").as_bytes()).await;
    client
}

#[tokio::test]
async fn h31_requests_to_an_origin_and_its_queue_are_limited() {
    let (origin, mut requests) = Origin::piecewise().await;
    let settings = "limits.origin_requests = 1\nlimits.origin_queue = 1\ndeadlines.origin_queue = \"20s\"\n";
    let scene = with(&origin, settings).await;
    let mut first = ask(&scene, "/1").await;
    let at_first = requests.recv().await.unwrap();
    at_first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1".to_vec()).await.unwrap();
    first.until("\r\n\r\n1").await;
    // Either of the two enters the queue, and the other is refused at once.
    let (mut second, mut third) = (ask(&scene, "/2").await, ask(&scene, "/3").await);
    let (refused, mut waiting) = tokio::select! {
        reply = second.reply(true) => (reply, third),
        reply = third.reply(true) => (reply, second),
    };
    assert_eq!((refused.status(), refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.cache(), "BYPASS fwd=bypass; detail=origin-busy");
    assert_eq!((origin.count(), refused.text()), (1, "503: the origin is busy\n"));
    // The slot becomes free when the answer is complete, and not before.
    at_first.send(b"1".to_vec()).await.unwrap();
    assert_eq!(first.reply(true).await.text(), "11");
    drop(at_first);
    requests.recv().await.unwrap().send(page("", "after")).await.unwrap();
    assert_eq!(waiting.reply(true).await.text(), "after");
}

#[tokio::test]
async fn h31_a_request_waits_for_a_free_origin_slot_until_its_deadline_and_hits_need_none() {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = with(&origin, "limits.origin_requests = 1\ndeadlines.origin_queue = \"100ms\"\n").await;
    let mut filling = ask(&scene, "/p/well").await;
    requests.recv().await.unwrap().send(page("", "kept")).await.unwrap();
    assert_eq!(filling.reply(true).await.status(), 200);
    let _stuck = ask(&scene, "/1").await;
    let _held = requests.recv().await.unwrap();
    for target in ["/2", "/p/3"] {
        let reply = scene.get(target).await;
        assert_eq!((reply.status(), reply.header("retry-after")), (503, "1"));
    }
    is_well(&scene).await;
    assert_eq!(origin.count(), 2);
}

/// A byte now and then is not silence; the deadline of the whole answer ends it.
#[tokio::test]
async fn h31_a_slow_answer_ends_at_the_total_deadline() {
    for head in ["HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "HTTP/1.1 200 OK\r\nX: "] {
        let (origin, mut requests) = Origin::piecewise().await;
        let scene = with(&origin, "deadlines.origin_total = \"200ms\"\n").await;
        for target in ["/p/", "/x"] {
            let mut client = ask(&scene, target).await;
            let sender = requests.recv().await.unwrap();
            sender.send(head.as_bytes().to_vec()).await.unwrap();
            let trickle = tokio::spawn(async move {
                let mut pace = tokio::time::interval(std::time::Duration::from_millis(5));
                while sender.send(b"x".to_vec()).await.is_ok() {
                    pace.tick().await;
                }
            });
            let reply = client.reply(true).await;
            let is_head = head.ends_with("\r\n\r\n");
            assert_eq!((reply.status(), reply.whole), if is_head { (200, false) } else { (504, true) });
            trickle.await.unwrap();
        }
    }
}

async fn h33_malformed_or_unrequested_answers_are_502(on: Setup) {
    for (said, status) in [
        (answer("304 Not Modified", "ETag: \"v\"\r\n", ""), 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n".to_vec(), 502),
        (b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n".to_vec(), 502),
        (b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), 502),
        (b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), 502),
        (b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), 502),
        (b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n".to_vec(), 502),
        (b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n".to_vec(), 502),
        (b"\0".repeat(100), 502),
        (b"HTTP/1.1 200 OK\r\n".iter().copied().chain(b"X: y\r\n".repeat(20_000)).collect(), 502),
        (b"HTTP/1.1 200 OK\r\nX: ".iter().copied().chain(b"y".repeat(2 << 20)).collect(), 502),
        (answer("200 OK", "Content-Range: bytes 5-1/x\r\n", "x"), 200),
        (answer("206 Partial Content", "Content-Range: \r\n", "x"), 206),
        (answer("416 Range Not Satisfiable", "Content-Range: bytes */\r\n", ""), 416),
    ] {
        let shown = said[..said.len().min(80)].escape_ascii().to_string();
        let origin = Origin::new(move |seen, _| match seen.line.contains("well") {
            true => Script::Answer(page("", "well")),
            false => Script::Close(said.clone()),
        })
        .await;
        let scene = Scene::new(on, &origin).await;
        for target in ["/p/", "/x"] {
            let reply = scene.get(target).await;
            assert_eq!(reply.status(), status, "{target} {shown}");
            assert!(!reply.text().contains("127.0.0.1"), "{}", reply.text());
            is_well(&scene).await;
        }
    }
}

/// Outside the cache a conditional request gets the origin's 304.
async fn h33_a_conditional_request_may_get_a_304(on: Setup) {
    let origin = Origin::new(|_, _| Script::Answer(answer("304 Not Modified", "", ""))).await;
    let scene = Scene::new(on, &origin).await;
    for condition in ["If-None-Match: \"v\"\r\n", "If-Modified-Since: Tue, 24 Nov 2026 12:00:00 GMT\r\n"] {
        let mut client = scene.connect().await;
        client.write(format!("GET /x HTTP/1.1\r\nHost: a\r\n{condition}\r\n").as_bytes()).await;
        assert_eq!(client.head().await.status(), 304);
    }
}

async fn h33_interim_answers_are_skipped(on: Setup) {
    let early = b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let whole = [early.repeat(1_000), page("", "x")].concat();
    let origin = Origin::new(move |_, _| Script::Answer(whole.clone())).await;
    let scene = Scene::new(on, &origin).await;
    for target in ["/p/", "/x"] {
        let reply = scene.get(target).await;
        assert_eq!((reply.status(), reply.text(), reply.header("link")), (200, "x", ""));
    }

    // An origin that sends only interim answers runs into the deadline.
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = with(&origin, "deadlines.origin_head = \"200ms\"\n").await;
    let mut client = ask(&scene, "/x").await;
    let sender = requests.recv().await.unwrap();
    let flood = tokio::spawn(async move { while sender.send(early.to_vec()).await.is_ok() {} });
    assert_eq!(client.reply(true).await.status(), 504);
    flood.await.unwrap();
}

/// Bytes that an origin sends after its answer are never the answer to another request.
async fn h34_bytes_after_an_answer_are_dropped(on: Setup) {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for said in [
        format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()),
        format!("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n{evil}"),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{evil}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx{evil}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"),
    ] {
        let shown = said.clone();
        let origin = Origin::new(move |seen, _| match seen.line.contains("lie") {
            true => Script::Answer(said.clone().into_bytes()),
            false => Script::Answer(page("", "good")),
        })
        .await;
        let scene = Scene::new(on, &origin).await;
        for (method, target) in [("GET", "/lie"), ("GET", "/p/lie"), ("HEAD", "/lie"), ("POST", "/lie")] {
            let lie = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut client = scene.connect().await;
            client.write(lie.as_bytes()).await;
            client.head().await;
            for target in ["/x", "/p/x"] {
                assert_eq!(scene.get(target).await.text(), "good", "{method} {shown}");
            }
        }
    }
}

/// An origin that closes an idle connection when a request arrives has probably not seen the request. An idempotent
/// request is sent again, once, and only if the connection had worked before.
async fn an_idempotent_request_is_sent_again_if_the_origin_closes_an_idle_connection(on: Setup) {
    for (request, status, count) in [
        ("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 200, 3),
        ("GET /p/x HTTP/1.1\r\nHost: a\r\n\r\n", 200, 3),
        ("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n", 200, 3),
        ("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 200, 3),
        ("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 502, 2),
        ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 502, 2),
    ] {
        // The second request finds a connection that has worked closed.
        let origin = Origin::new(|seen, number| match number {
            2 => Script::Close(Vec::new()),
            _ if seen.line.starts_with("HEAD") => Script::Close(answer("200 OK", "", "")),
            _ => Script::Answer(page("", "page")),
        })
        .await;
        let scene = Scene::new(on, &origin).await;
        assert_eq!(scene.get("/first").await.status(), 200);
        let reply = scene.send(request).await;
        assert_eq!((reply.status(), origin.count()), (status, count), "{request}");
        is_well(&scene).await;
    }
}

async fn an_origin_that_never_answers_is_asked_once(on: Setup) {
    let origin = Origin::new(|_, _| Script::Close(Vec::new())).await;
    let scene = Scene::new(on, &origin).await;
    assert_eq!(scene.get("/x").await.status(), 502);
    assert_eq!(origin.count(), 1);

    // If the connection had worked, the request is sent twice and not more.
    let origin = Origin::new(|_, number| match number {
        1 => Script::Answer(page("", "page")),
        _ => Script::Close(Vec::new()),
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    assert_eq!(scene.get("/x").await.status(), 200);
    assert_eq!((scene.get("/x").await.status(), origin.count()), (502, 3));
}

/// Before the head has been sent the client is told; after it the client sees a broken transfer.
async fn h33_a_body_that_breaks_before_its_first_byte_is_502(on: Setup) {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    for (target, detail) in [("/x", "origin-answer"), ("/p/", "origin-answer")] {
        // One leads, the other follows or asks for itself.
        let mut clients = [ask(&scene, target).await, ask(&scene, target).await];
        let first = requests.recv().await.unwrap();
        let broken = format!("{head}zz\r\n").into_bytes();
        first.send(broken.clone()).await.unwrap();
        let serve = async {
            while let Some(next) = requests.recv().await {
                // The proxy may have left.
                let _ = next.send(broken.clone()).await;
            }
        };
        let asked = async {
            for client in &mut clients {
                let reply = client.reply(true).await;
                assert_eq!((reply.status(), reply.whole), (502, true), "{target}");
                assert!(reply.header("cache-status").ends_with(detail), "{}", reply.cache());
            }
        };
        tokio::select! { () = asked => (), () = serve => unreachable!() }
    }
    for target in ["/x", "/p/"] {
        let mut client = ask(&scene, target).await;
        let sender = requests.recv().await.unwrap();
        sender.send(head.into()).await.unwrap();
        assert_eq!(client.head().await.status(), 200);
        sender.send(b"zz\r\n".to_vec()).await.unwrap();
        assert_eq!(client.rest().await, b"", "{target}: no last chunk");
    }
}

async fn an_origin_may_send_many_short_header_lines(on: Setup) {
    let origin = Origin::new(|seen, _| {
        let count = seen.line.split(['/', ' ']).filter_map(|word| word.parse().ok()).next_back().unwrap_or(0);
        let lines: String = (0..count).map(|number: u32| format!("X-{number}: v\r\n")).collect();
        Script::Answer(page(&lines, "page"))
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    for count in [99, 120, 1_000, 5_000] {
        for target in [format!("/x/{count}"), format!("/p/{count}"), format!("/p/{count}")] {
            let reply = scene.get(&target).await;
            assert_eq!((reply.status(), reply.text()), (200, "page"), "{target}");
            let lines = reply.headers.iter().filter(|(_, value)| value == "v").count();
            assert_eq!((lines, reply.header("x-3")), (count, "v"), "{target}");
        }
        assert_eq!(scene.get(&format!("/p/{count}")).await.header("x-cache"), "HIT", "{count}");
    }
    // 64 KiB by default.
    let reply = scene.get("/p/9000").await;
    assert_eq!(reply.status(), 502);
    assert!(reply.text().contains("larger than 65536 bytes (limits.origin_head"), "{}", reply.text());
}

#[tokio::test]
async fn the_limit_of_an_origins_head_is_a_setting() {
    let origin =
        Origin::new(|_, _| Script::Answer(page(&format!("X: {}\r\n", "y".repeat(2_000)), "x"))).await;
    for (limit, status) in [("4KiB", 200), ("2KiB", 502), ("100", 502)] {
        let scene = with(&origin, &format!("limits.origin_head = \"{limit}\"\n")).await;
        for target in ["/x", "/p/"] {
            assert_eq!(scene.get(target).await.status(), status, "{limit}");
        }
    }
}
