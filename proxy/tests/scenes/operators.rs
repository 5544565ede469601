//! Operators see the settings in force, have a request explained, and change the level of the log.

use serde_json::{Value, json};

use crate::admin::{Running, TOKEN};
use crate::support::{Origin, PATIENCE};

#[tokio::test]
async fn the_settings_in_force_are_shown_with_their_places_and_without_secrets() {
    let origin = Origin::pages("").await;
    let lines = "hosts = [\"admin.example\"]\n[purge]\nallow = [\"10.0.0.0/8\"]\n[limits]\nheaders = 50";
    let running = Running::start(&origin, "127.0.0.1:0", lines);
    let reply = running.ask("GET", "/config", "").await;
    assert_eq!((reply.status(), reply.header("content-type")), (200, "application/json"));
    let shown: Value = serde_json::from_str(reply.text()).unwrap();
    let leaf = |value: Value, from: &str| json!({ "value": value, "from": from });
    assert_eq!(shown["listen"], leaf(json!("127.0.0.1:0"), "flag"));
    assert_eq!(shown["store"], leaf(json!("memory"), "file:2"));
    assert_eq!(shown["cache_page"][0]["path"], leaf(json!("/p/*"), "file:4"));
    assert_eq!(shown["cache_page"][0]["timeout"], leaf(json!(60), "default"));
    assert_eq!(shown["cache_page"][1]["timeout"], leaf(json!("off"), "file:7"));
    assert_eq!(shown["admin"]["hosts"]["value"], json!(["admin.example"]));
    assert_eq!(shown["purge"]["allow"]["value"], json!(["10.0.0.0/8"]));
    assert_eq!(shown["trusted_proxies"], leaf(json!([]), "default"));
    assert_eq!(shown["limits"]["headers"]["value"], 50);
    assert_eq!(shown["deadlines"]["store"], leaf(json!("50ms"), "default"));
    assert!(!reply.text().contains("s3cret"));
}

#[tokio::test]
async fn a_request_is_explained_as_it_would_be_served() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    let explain = "/explain?url=http://localhost/p/1&header=Accept:%20text/html";
    let reply = running.ask("GET", explain, "").await;
    let explained: Value = serde_json::from_str(reply.text()).unwrap();
    assert_eq!((reply.status(), &explained["outcome"]), (200, &json!("cachepage; fwd=uri-miss")));
    running.get("/p/1", "").await;
    let reply = running.ask("GET", explain, "").await;
    let explained: Value = serde_json::from_str(reply.text()).unwrap();
    assert!(explained["outcome"].as_str().unwrap().starts_with("cachepage; hit"), "{explained}");
    assert_eq!(origin.count(), 1, "the origin is not asked");
    for bad in ["/explain", "/explain?url=", "/explain?url=/p/1&header=Accept", "/explain?path=/p/1"] {
        assert_eq!(running.ask("GET", bad, "").await.status(), 400, "{bad}");
    }
}

#[tokio::test]
async fn the_log_has_another_level_for_a_time() {
    let origin = Origin::pages("").await;
    let running = Running::over_tcp(&origin).await;
    let order = |body: &str| format!("{TOKEN}Content-Length: {}\r\n\r\n{body}", body.len());
    for (body, status) in
        [("", 400), ("{\"level\":\"loud\"}", 400), ("{\"level\":\"debug\",\"seconds\":1}", 200)]
    {
        assert_eq!(running.ask("POST", "/log", &order(body)).await.status(), status, "{body}");
    }
    running.get("/p/seen", "").await;
    let log = running.folder.path().join("log");
    let until = |words: &'static str| {
        let log = log.clone();
        async move {
            while !std::fs::read_to_string(&log).unwrap().contains(words) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, until("log level as before")).await.expect("the level as before");
    running.get("/p/unseen", "").await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("/p/seen") && !said.contains("/p/unseen"), "{said}");
}
