//! Requests that bypass the cache.

use crate::backend::Backend;
use crate::support::{Origin, Scene, Script, Setup};

scenes! {
    other_methods_pass_and_change_no_page
    paths_without_a_rule_pass_unchanged
    a_rule_that_is_off_changes_no_header
    targets_are_forwarded_byte_for_byte
    a_chunked_upload_is_forwarded
    a_connection_to_the_origin_is_reused_for_one_request_after_the_other
    a_connection_with_an_unread_answer_is_not_reused
    an_options_that_may_not_be_forwarded_is_answered_by_the_proxy
}

/// RFC 9110 §7.6.2. It is how `proxy health` asks.
async fn an_options_that_may_not_be_forwarded_is_answered_by_the_proxy(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    let ask = async |method: &str, max: &str| {
        let max = format!("Max-Forwards: {max}\r\n");
        scene.send(&format!("{method} /p/ HTTP/1.1\r\nHost: localhost:8000\r\n{max}\r\n")).await
    };
    let reply = ask("OPTIONS", "0").await;
    assert_eq!((reply.status(), reply.text(), origin.count()), (200, "", 0));
    assert_eq!(reply.cache(), "BYPASS fwd=bypass; detail=max-forwards");
    assert!(reply.header("allow").contains("OPTIONS"));
    // Only OPTIONS is counted, and only by a number.
    for (method, max, seen) in [
        ("OPTIONS", "5", "4"),
        ("OPTIONS", "1", "0"),
        ("OPTIONS", "-1", "-1"),
        ("GET", "0", "0"),
        ("POST", "3", "3"),
    ] {
        assert_eq!(ask(method, max).await.status(), 200);
        assert_eq!(origin.seen().last().unwrap().header("max-forwards"), Some(seen), "{method} {max}");
    }
}

async fn other_methods_pass_and_change_no_page(on: Setup) {
    let origin = Origin::new(|seen, number| {
        let method = seen.line.split(' ').next().unwrap();
        Script::Answer(crate::support::page(
            "",
            &format!("{method} {number} {}", String::from_utf8_lossy(&seen.body)),
        ))
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    assert_eq!(scene.get("/p/").await.text(), "GET 1 ");
    for (number, method) in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"].iter().enumerate() {
        let request =
            format!("{method} /p/ HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 4\r\n\r\nbody");
        let reply = scene.send(&request).await;
        assert_eq!(
            (reply.cache().as_str(), reply.text()),
            ("BYPASS fwd=method", format!("{method} {} body", number + 2).as_str())
        );
        assert_eq!((reply.header("cache-control"), reply.header("expires")), ("", ""));
    }
    let hit = scene.get("/p/").await;
    assert_eq!((hit.header("x-cache"), hit.text()), ("HIT", "GET 1 "));
}

async fn paths_without_a_rule_pass_unchanged(on: Setup) {
    let origin = Origin::pages("X-Mine: 1\r\n").await;
    let scene = Scene::new(on, &origin).await;
    for text in ["page 1", "page 2"] {
        let reply = scene.get("/other").await;
        assert_eq!((reply.cache().as_str(), reply.text()), ("BYPASS fwd=bypass; detail=no-rule", text));
        assert_eq!(
            (reply.header("x-mine"), reply.header("server"), reply.header("expires")),
            ("1", "scripted", "")
        );
    }
}

async fn a_rule_that_is_off_changes_no_header(on: Setup) {
    let headers = "X-Mine: 1\r\nCache-Control: private, max-age=7\r\nAge: 3\r\nSet-Cookie: a=b\r\n";
    let origin = Origin::pages(headers).await;
    let redis = Backend::start().unwrap();
    let rules = "[[cache_page]]\npath = \"/p/admin/*\"\ntimeout = \"off\"\n[[cache_page]]\npath = \"/p/*\"\n";
    let scene = Scene::over(on, &redis.url(), &origin, rules).await;
    for text in ["page 1", "page 2"] {
        let reply = scene.get("/p/admin/x").await;
        assert_eq!((reply.cache().as_str(), reply.text()), ("BYPASS fwd=bypass; detail=rule-off", text));
        let own = ["x-cache", "cache-status"];
        let sent = crate::support::page(headers, text);
        let sent = String::from_utf8(sent).unwrap();
        let lines: Vec<_> =
            reply.without(&own).iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let sent: Vec<_> = sent.split("\r\n\r\n").next().unwrap().split("\r\n").skip(1).collect();
        assert_eq!(lines, sent);
    }
    let reply =
        scene.send("POST /p/admin/x HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(reply.cache(), "BYPASS fwd=bypass; detail=rule-off");
    assert_eq!(redis.cli(&["DBSIZE"]).unwrap(), "0");
}

async fn targets_are_forwarded_byte_for_byte(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    let targets = [
        "//a//b",
        "/p/./b/../c",
        "/%2e%2e/%2F?x=%c3",
        "/p/;x=y?a=1&&b",
        "/p/?",
        "/p/%00",
        "/p/x.?q='`{}|[]^\\",
    ];
    for target in targets {
        scene.get(target).await;
    }
    let seen: Vec<_> = origin.seen().iter().map(|seen| seen.line.clone()).collect();
    assert_eq!(seen, targets.map(|target| format!("GET {target} HTTP/1.1")));
}

async fn a_chunked_upload_is_forwarded(on: Setup) {
    let origin =
        Origin::new(|seen, _| Script::Answer(crate::support::page("", &String::from_utf8_lossy(&seen.body))))
            .await;
    let scene = Scene::new(on, &origin).await;
    let request = "POST /p/ HTTP/1.1\r\nHost: localhost:8000\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1\r\ny\r\n0\r\n\r\n";
    assert_eq!(scene.send(request).await.text(), "body");
}

async fn a_connection_to_the_origin_is_reused_for_one_request_after_the_other(on: Setup) {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let origin = Origin::new(move |seen, _| {
        Script::Answer(match seen.line.split(' ').nth(1).unwrap() {
            "/chunked" | "/p/chunked" => chunked.to_vec(),
            "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec(),
            "/empty" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            "/same" => b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec(),
            _ => crate::support::page("", "ok"),
        })
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    let ask = async |method: &str, target: &str, more: &str| {
        scene.send(&format!("{method} {target} HTTP/1.1\r\nHost: localhost:8000\r\n{more}\r\n")).await
    };
    for round in 1..=3 {
        assert_eq!(ask("GET", "/length", "").await.text(), "ok");
        assert_eq!(ask("GET", "/chunked", "").await.text(), "ok");
        assert_eq!(ask("HEAD", "/head", "").await.text(), "");
        assert_eq!(ask("GET", "/empty", "").await.text(), "");
        assert_eq!(ask("GET", "/same", "If-None-Match: \"a\"\r\n").await.status(), 304);
        assert_eq!(ask("POST", "/p/", "Content-Length: 4\r\n\r\nbody").await.text(), "ok");
        assert_eq!(ask("GET", &format!("/p/{round}"), "").await.text(), "ok");
        assert_eq!(ask("GET", &format!("/p/chunked?{round}"), "").await.text(), "ok");
    }
    assert_eq!((origin.connections(), origin.count()), (1, 24));
}

async fn a_connection_with_an_unread_answer_is_not_reused(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut client = scene.connect().await;
    client.write(b"GET /other HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    let first = requests.recv().await.unwrap();
    first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec()).await.unwrap();
    client.peek().await;
    client.reset();
    // Send until the proxy has closed the connection.
    while first.send(b"x".to_vec()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let (reply, ()) = tokio::join!(scene.get("/other"), async {
        requests.recv().await.unwrap().send(crate::support::page("", "whole")).await.unwrap();
    });
    assert_eq!((reply.text(), origin.connections()), ("whole", 2));
}
