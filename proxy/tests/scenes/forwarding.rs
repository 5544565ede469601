//! What the proxy forwards to the origin, and what an untrusted client cannot forge.

use crate::support::{Origin, RULES, Scene, Script, Setup, page};
use proxy::MemoryStore;

scenes! {
    a_foreign_host_never_changes_the_pages_of_the_site
    forwarded_headers_of_an_untrusted_client_never_reach_the_origin
    hop_by_hop_headers_are_not_forwarded
    ambiguous_requests_are_refused
    of_two_framings_only_chunks_are_forwarded
    an_absolute_target_gets_the_same_page
    oversized_heads_are_refused
    an_origin_of_http_1_0_is_answered_for_in_http_1_1
}

async fn a_foreign_host_never_changes_the_pages_of_the_site(on: Setup) {
    let origin = Origin::new(|seen, _| Script::Answer(page("", seen.header("host").unwrap()))).await;
    let scene = Scene::new(on, &origin).await;
    let from = |host: &str| format!("GET /p/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(scene.send(&from("evil.example")).await.text(), "evil.example");
    assert_eq!(scene.get("/p/").await.text(), "localhost:8000");
    for (host, x_cache, text) in [
        ("EVIL.example:80", "HIT", "evil.example"),
        ("LocalHost:8000", "HIT", "localhost:8000"),
        ("localhost", "MISS", "localhost"),
        ("127.0.0.1:8000", "MISS", "127.0.0.1:8000"),
    ] {
        let reply = scene.send(&from(host)).await;
        assert_eq!((reply.header("x-cache"), reply.text()), (x_cache, text), "{host}");
    }
}

async fn forwarded_headers_of_an_untrusted_client_never_reach_the_origin(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    let lies = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n\
                Forwarded: for=6.6.6.6;host=evil.example\r\nX-Real-IP: 6.6.6.6\r\nX-Original-URL: /admin\r\n";
    for target in ["/p/", "/pass"] {
        scene.get_with(target, lies).await;
    }
    for seen in origin.seen() {
        assert_eq!(seen.header("host"), Some("localhost:8000"));
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.header("x-forwarded-host"), Some("localhost:8000"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
        for name in ["forwarded", "x-forwarded-port", "x-real-ip", "x-original-url"] {
            assert_eq!(seen.header(name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn the_scheme_of_a_trusted_proxy_has_its_own_pages() {
    let origin =
        Origin::new(|seen, _| Script::Answer(page("", seen.header("x-forwarded-proto").unwrap()))).await;
    let settings = format!("trusted_proxies = [\"127.0.0.0/8\"]\n{RULES}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    let https = "X-Forwarded-Proto: https\r\n";
    for (headers, text) in
        [(https, "https"), ("", "http"), (https, "https"), ("X-Forwarded-Proto: http\r\n", "http")]
    {
        assert_eq!(scene.get_with("/p/", headers).await.text(), text);
    }
    assert_eq!(origin.count(), 2);
}

async fn hop_by_hop_headers_are_not_forwarded(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    let hops = "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nUpgrade: websocket\r\n\
                Proxy-Connection: x\r\nAccept: a/b\r\n";
    scene.get_with("/pass", hops).await;
    let seen = &origin.seen()[0];
    for name in ["connection", "x-mine", "keep-alive", "te", "upgrade", "proxy-connection"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("accept"), Some("a/b"));
}

/// The version is the proxy's own, so the client's connection goes on.
async fn an_origin_of_http_1_0_is_answered_for_in_http_1_1(on: Setup) {
    let origin =
        Origin::new(|_, _| Script::Close(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec())).await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    for target in ["/p/", "/p/", "/pass"] {
        client.write(format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").as_bytes()).await;
        let reply = client.reply(true).await;
        assert_eq!((reply.line.as_str(), reply.text()), ("HTTP/1.1 200 OK", "hi"), "{target}");
    }
    assert_eq!(origin.count(), 2);
}

/// Inputs 1 to 9 and 14 to 17 of docs/hostile.md: an ambiguous request is refused and does not reach the origin.
async fn ambiguous_requests_are_refused(on: Setup) {
    for (request, status) in [
        ("POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        ("POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
        ("POST /p/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5_0\r\n\r\n", 400),
        ("POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 400),
        ("POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        ("POST /p/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /p/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET /p/ HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET /p/ HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("GET /p/ HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET /p/ HTTP/1.1\r\n\r\n", 400),
        ("GET /p/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /p/ HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET /p/ HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
        ("GET /p/ HTTP/1.1\r\nHost: a:port\r\n\r\n", 400),
        ("GET http://b/p/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        ("TRACE /p/ HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ] {
        let origin = Origin::pages("").await;
        let scene = Scene::new(on, &origin).await;
        let mut client = scene.connect().await;
        client.write(request.as_bytes()).await;
        assert_eq!(client.reply(true).await.status(), status, "{}", request.escape_debug());
        assert!(client.is_closed().await, "{}", request.escape_debug());
        assert_eq!(origin.count(), 0, "{}", request.escape_debug());
    }
}

/// Input 1 of docs/hostile.md: if any such request is forwarded, it has only the chunks and no length.
async fn of_two_framings_only_chunks_are_forwarded(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    for framing in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ] {
        scene.send(&format!("POST /p/ HTTP/1.1\r\nHost: a\r\n{framing}\r\n4\r\nbody\r\n0\r\n\r\n")).await;
    }
    for seen in origin.seen() {
        assert_eq!(
            (seen.header("content-length"), seen.header("transfer-encoding")),
            (None, Some("chunked"))
        );
        assert_eq!(seen.body, b"body");
    }
}

async fn an_absolute_target_gets_the_same_page(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    let hit = scene.send("GET http://LOCALHOST:8000/p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    assert_eq!(hit.header("x-cache"), "HIT");
}

/// Inputs 23 and 24 of docs/hostile.md.
async fn oversized_heads_are_refused(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    for (request, status) in [
        (format!("GET /p/ HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10_000)), 431),
        (format!("GET /p/ HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)), 431),
        (format!("GET /p/{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(1 << 16)), 414),
    ] {
        let mut client = scene.connect().await;
        client.try_write(request.as_bytes()).await;
        assert_eq!(client.reply(true).await.status(), status);
    }
    assert_eq!(origin.count(), 0);
}
