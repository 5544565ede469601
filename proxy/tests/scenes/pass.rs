//! What the cache has no part in.

use crate::support::{Origin, Scene, Script};

#[tokio::test]
async fn other_methods_pass_and_touch_no_page() {
    let origin = Origin::new(|seen, number| {
        let method = seen.line.split(' ').next().unwrap();
        Script::Answer(crate::support::page(
            "",
            &format!("{method} {number} {}", String::from_utf8_lossy(&seen.body)),
        ))
    })
    .await;
    let scene = Scene::new(&origin).await;
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

#[tokio::test]
async fn paths_without_a_rule_pass_as_they_are() {
    let origin = Origin::pages("X-Mine: 1\r\n").await;
    let scene = Scene::new(&origin).await;
    for text in ["page 1", "page 2"] {
        let reply = scene.get("/other").await;
        assert_eq!((reply.cache().as_str(), reply.text()), ("BYPASS fwd=bypass; detail=no-rule", text));
        assert_eq!(
            (reply.header("x-mine"), reply.header("server"), reply.header("expires")),
            ("1", "scripted", "")
        );
    }
}

#[tokio::test]
async fn targets_arrive_byte_for_byte() {
    let origin = Origin::pages("").await;
    let scene = Scene::new(&origin).await;
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

#[tokio::test]
async fn a_chunked_upload_arrives() {
    let origin =
        Origin::new(|seen, _| Script::Answer(crate::support::page("", &String::from_utf8_lossy(&seen.body))))
            .await;
    let scene = Scene::new(&origin).await;
    let request = "POST /p/ HTTP/1.1\r\nHost: localhost:8000\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1\r\ny\r\n0\r\n\r\n";
    assert_eq!(scene.send(request).await.text(), "body");
}
