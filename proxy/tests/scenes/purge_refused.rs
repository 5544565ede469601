//! Purges that are refused or bounded: those of peers that may not purge, and those that are malformed or too large.

use proxy::MemoryStore;

use serde_json::json;
use tokio::net::TcpSocket;

use crate::admin::{Running, TOKEN};
use crate::purge::{PURGE, is_hit, order, purging};
use crate::support::{Client, Origin, RULES, Reply, Scene, Script, Setup, exchange, page};

#[tokio::test]
async fn only_those_who_may_purge_do_and_a_purge_never_goes_to_the_origin() {
    let origin = Origin::pages("").await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret\n").unwrap();
    let token = format!("[purge]\ntoken_file = {:?}\n", token.path());
    for (settings, lines, status) in [
        ("", "", 403),
        ("[purge]\nallow = [\"10.0.0.0/8\"]\n", "", 403),
        (PURGE, "", 200),
        // A proxy that is not trusted may have brought it from anywhere.
        (PURGE, "X-Forwarded-For: 127.0.0.1\r\n", 403),
        (&*token, "", 403),
        (&*token, "Authorization: Bearer wrong\r\n", 403),
        (&*token, "Authorization: bearer s3cret\r\n", 200),
    ] {
        let scene =
            Scene::with(origin.address, MemoryStore::new(1 << 20), &format!("{RULES}{settings}")).await;
        for method in ["PURGE", "PURGEKEYS", "BAN"] {
            let tags = "xkey: a\r\nX-Cache-Tags: (a)(,|$)\r\n";
            let request = format!("{method} /p/ HTTP/1.1\r\nHost: localhost:8000\r\n{tags}{lines}\r\n");
            assert_eq!(scene.send(&request).await.status(), status, "{settings} {lines} {method}");
        }
    }
    let trusted = format!("trusted_proxies = [\"127.0.0.1\"]\n{RULES}{PURGE}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &trusted).await;
    let forwarded = order(&scene, "PURGE /p/\nX-Forwarded-For: 203.0.113.9").await;
    assert_eq!(forwarded.status(), 403, "a trusted proxy names its client");
    // A method that a header names is not the method.
    scene.get("/p/").await;
    scene.get_with("/p/", "X-HTTP-Method-Override: PURGE\r\n").await;
    assert!(is_hit(&scene, "/p/").await);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_purge_that_cannot_be_read_is_refused() {
    let origin = Origin::pages("").await;
    let scene = purging(Setup::Plain, &origin, RULES).await;
    for (text, status) in [
        ("PURGEKEYS /", 400),
        ("PURGE /\nSurrogate-Key: ", 400),
        ("BAN /\nX-Url: /p/.*", 501),
        ("BAN /", 501),
        ("PURGE /\nHost: a b", 400),
    ] {
        assert_eq!(order(&scene, text).await.status(), status, "{text}");
    }
    // More than a client's head may have.
    let huge = format!("PURGE /\nxkey: {}", "t".repeat(1 << 20));
    let mut client = scene.connect().await;
    let request = huge.replace('\n', " HTTP/1.1\r\nHost: localhost:8000\r\n");
    client.try_write(format!("{request}\r\n\r\n").as_bytes()).await;
    assert!([400, 431].contains(&client.reply(true).await.status()));
    let many = vec!["t"; 1025].join(" ");
    assert_eq!(order(&scene, &format!("PURGE /\nxkey: {many}")).await.status(), 400);
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn too_many_tags_are_served_and_not_stored() {
    let tags = vec!["t"; 129].join(" ");
    let origin = Origin::new(move |_, _| Script::Answer(page(&format!("xkey: {tags}\r\n"), "page"))).await;
    for settings in [RULES.to_owned(), format!("{RULES}{PURGE}")] {
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
        for _ in 0..2 {
            assert_eq!(scene.get("/p/").await.cache(), "BYPASS fwd=bypass; detail=tags");
        }
    }
}

/// `allow` has 127.0.0.1, and the peer is 127.0.0.2.
#[tokio::test]
async fn a_peer_of_another_address_may_not_purge() {
    let origin = Origin::pages("").await;
    let scene = purging(Setup::Plain, &origin, RULES).await;
    scene.get("/p/").await;
    for method in ["PURGE", "PURGEKEYS", "BAN"] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut client = Client::over(socket.connect(scene.address).await.unwrap());
        let request =
            format!("{method} /p/ HTTP/1.1\r\nHost: localhost:8000\r\nxkey-purge: a\r\nX-Url: .*\r\n\r\n");
        client.write(request.as_bytes()).await;
        assert_eq!(client.reply(true).await.status(), 403, "{method}");
    }
    assert!(is_hit(&scene, "/p/").await);
    assert_eq!(origin.count(), 1);
}

/// The peer may purge, but those whose requests it forwards may not: a purge that stands inside of another request, or
/// that a header names, is none.
#[tokio::test]
async fn a_purge_that_is_smuggled_purges_nothing() {
    let purge = "PURGE /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
    let post =
        |lines: &str, body: &str| format!("POST /x HTTP/1.1\r\nHost: localhost:8000\r\n{lines}\r\n{body}");
    let size = format!("{:x}", purge.len());
    let length = format!("Content-Length: {}\r\n", purge.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (request, status) in [
        (post(&length, purge), 200),
        (post(chunked, &format!("{size}\r\n{purge}\r\n0\r\n\r\n")), 200),
        // A purge in place of the trailers, and one that they name.
        (post(chunked, &format!("0\r\n{purge}")), 400),
        (post(chunked, "0\r\nX-HTTP-Method-Override: PURGE\r\n\r\n"), 200),
        // A body that ends in two places.
        (post(&format!("Content-Length: 0\r\n{chunked}"), &format!("0\r\n\r\n{purge}")), 400),
        (post("Content-Length: 0\r\nContent-Length: 1\r\n", purge), 400),
        (post("X-HTTP-Method-Override: PURGE\r\nX-HTTP-Method: PURGE\r\nContent-Length: 0\r\n", ""), 200),
        (post("Content-Length: 7\r\n", "_method=PURGE"), 200),
        ("GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nX: PURGE /p/ HTTP/1.1\r\nX-Method-Override: PURGE\r\n\r\n".to_owned(), 200),
        // Methods are case-sensitive, so these are others, which pass.
        (purge.replace("PURGE", "purge"), 200),
        (purge.replace("PURGE", "Purge"), 200),
    ] {
        let origin = Origin::pages("").await;
        let scene = purging(Setup::Plain, &origin, RULES).await;
        scene.get("/p/").await;
        assert_eq!(scene.send(&request).await.status(), status, "{request}");
        assert!(is_hit(&scene, "/p/").await, "{request}");
        assert!(origin.seen().iter().all(|seen| !seen.line.starts_with("PURGE")), "{request}");
    }
}

/// The page is relayed without its tags; a head beyond 64 KiB is no answer of an origin.
#[tokio::test]
async fn an_answer_with_very_many_or_very_long_tags_is_not_stored() {
    let many = (0..10_000).map(|number| format!("{number:x}")).collect::<Vec<_>>().join(" ");
    for (tags, expected) in [
        (many, "BYPASS fwd=bypass; detail=tags"),
        ("t".repeat((16 << 10) + 1), "BYPASS fwd=bypass; detail=tags"),
        ("t".repeat(1 << 20), "BYPASS fwd=bypass; detail=origin-answer"),
    ] {
        let length = tags.len();
        let origin =
            Origin::new(move |_, _| Script::Answer(page(&format!("Surrogate-Key: {tags}\r\n"), "page")))
                .await;
        let scene = purging(Setup::Plain, &origin, RULES).await;
        for _ in 0..2 {
            let reply = scene.get("/p/").await;
            assert_eq!((reply.cache(), reply.header("surrogate-key")), (expected.to_owned(), ""), "{length}");
        }
        assert_eq!(origin.count(), 2, "{length}");
    }
}

#[tokio::test]
async fn a_notice_is_bounded_in_its_names_and_its_size() {
    let origin = Origin::pages("Surrogate-Key: list\r\n").await;
    let running = Running::over_tcp(&origin).await;
    let post = async |body: String| -> Reply {
        let host = running.admin();
        let head =
            format!("POST /purge HTTP/1.1\r\nHost: {host}\r\n{TOKEN}Content-Length: {}\r\n", body.len());
        exchange(host, format!("{head}\r\n{body}").as_bytes()).await
    };
    let tags = |count: usize, length: usize| {
        let tags: Vec<_> = (0..count).map(|number| format!("{number}{}", "-".repeat(length))).collect();
        json!({ "type": "tag", "selectors": tags }).to_string()
    };
    running.get("/p/", "").await;
    for (body, status, text) in [
        (tags(10_000, 1), 400, "400: more than 1024 selectors and groups\n"),
        (
            json!({ "type": "tag", "selectors": vec!["t"; 1025] }).to_string(),
            400,
            "400: more than 1024 selectors and groups\n",
        ),
        (tags(1, 1 << 20), 413, ""),
        ("[".repeat(1 << 20), 400, ""),
        (tags(1, 1_000_000), 200, ""),
        (tags(1000, 1000), 200, ""),
    ] {
        let reply = post(body).await;
        assert_eq!(reply.status(), status, "{reply:?}");
        assert!(text.is_empty() || reply.text() == text, "{reply:?}");
    }
    assert_eq!(running.get("/p/", "").await.header("x-cache"), "HIT", "none of them names the page");
}
