//! `proxy explain` describes what the proxy does with a request.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use stack::Redis;

use crate::backend::Backend;
use crate::support::{Origin, Scene, Setup};

scenes! {
    explain_describes_what_the_proxy_does
}

const DJANGO: &str = "keys = \"django\"\n[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n";
const RULES: &str = "[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\n";

const OFF: &str = "[[cache_page]]\npath = \"/p/*\"\ntimeout = \"off\"\n";

/// Runs `proxy explain` with these settings, and returns its output.
fn explain(redis: &Backend, settings: &str, args: &[&str]) -> String {
    explain_on(&redis.url(), settings, args)
}

fn explain_on(store: &str, settings: &str, args: &[&str]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), settings).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_proxy"))
        .args(["--config", file.path().to_str().unwrap(), "--site", "localhost:8000", "explain"])
        .args(args)
        .env("REDIS_URL", store)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(redis: &Backend, settings: &str, args: &[&str]) -> Value {
    serde_json::from_str(&explain(redis, settings, &[&["--json"], args].concat())).unwrap()
}

async fn explain_describes_what_the_proxy_does(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("Vary: Accept\r\n").await;
    for (settings, keys, selection) in [
        (RULES.to_owned(), "path", "q=1"),
        (format!("{DJANGO}{RULES}"), "django", "http://localhost:8000/p/?q=1"),
    ] {
        redis.cli(&["FLUSHALL"]).unwrap();
        let scene = Scene::over(on, &redis.url(), &origin, &settings).await;
        let asked = ["-H", "Accept: a/b", "http://localhost:8000/p/?q=1"];
        let said = json(&redis, &settings, &asked);
        assert_eq!(
            (&said["keys"], &said["outcome"]),
            (&keys.into(), &"cachepage; fwd=uri-miss".into()),
            "{said}"
        );
        assert_eq!(said["reads"][0]["hashed"][0]["text"], selection);
        assert_eq!(said["reads"][0]["holds"], "nothing");

        let before = origin.count();
        scene.get_with("/p/?q=1", "Accept: a/b\r\n").await;
        let said = json(&redis, &settings, &asked);
        assert!(said["outcome"].as_str().unwrap().starts_with("cachepage; hit; ttl="), "{said}");
        assert_eq!(
            (&said["page"]["status"], &said["page"]["written_by"]),
            (&200.into(), &"cachepage".into())
        );
        assert_eq!(said["reads"].as_array().unwrap().len(), 2);
        assert!(said["reads"][1]["ttl_seconds"].as_u64().unwrap() > 50, "{said}");
        // The keys that it names exist.
        for read in said["reads"].as_array().unwrap() {
            assert_eq!(redis.cli(&["EXISTS", read["key"].as_str().unwrap()]).unwrap(), "1", "{said}");
        }
        let other = json(&redis, &settings, &["-H", "Accept: c/d", "/p/?q=1"]);
        assert_eq!(other["outcome"], "cachepage; fwd=vary-miss");
        assert_eq!(origin.count(), before + 1, "explain contacts only the store");
    }
}

#[tokio::test]
async fn a_store_that_takes_no_purges_is_told_of_and_its_pages_are_hits() {
    let redis = Redis::start().unwrap();
    let origin = Origin::pages("").await;
    let settings = format!("[purge]\nallow = [\"127.0.0.1\"]\n{RULES}");
    for command in ["xadd", "xrange"] {
        let user = ["ACL", "SETUSER", command, "on", ">secret", "~*", "+@all"];
        assert_eq!(redis.cli(&[&user[..], &[&format!("-{command}")]].concat()).unwrap(), "OK");
        let url = redis.url().replace("redis://", &format!("redis://{command}:secret@"));
        let scene = Scene::over(Setup::Plain, &url, &origin, &settings).await;
        let path = format!("/p/{command}/");
        scene.get(&path).await;
        assert_eq!(scene.get(&path).await.header("x-cache"), "HIT", "{command}");
        let said = explain_on(&url, &settings, &[&path]);
        assert!(said.contains("cachepage; hit; ttl="), "{said}");
        assert!(said.contains(&format!("{}: NOPERM", command.to_uppercase())), "{said}");
        scene.stop().await;
    }
}

#[test]
fn explain_waits_for_a_silent_store_for_two_seconds() {
    // It accepts connections, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for store in [format!("redis://127.0.0.1:{port}"), format!("redis-cluster://127.0.0.1:{port}")] {
        let began = Instant::now();
        let said = explain_on(&store, RULES, &["/p/"]);
        assert!(said.contains("outcome   cachepage; fwd=miss"), "{said}");
        assert!(began.elapsed() < Duration::from_secs(4), "{store}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn explain_says_why_a_page_would_not_be_stored() {
    let redis = Backend::start().unwrap();
    let read_only = format!("{DJANGO}write = false\n{RULES}");
    for (settings, args, outcome, stored) in [
        (RULES, &["/other"][..], "cachepage; fwd=bypass; detail=no-rule", "no: nothing is cached here"),
        (
            RULES,
            &["-H", "Authorization: Basic eA==", "/p/"],
            "cachepage; fwd=uri-miss",
            "only if the answer is public",
        ),
        (&read_only, &["/p/"], "cachepage; fwd=uri-miss", "no: [django] write = false"),
        (RULES, &["/p/"], "cachepage; fwd=uri-miss", "if the answer is a 200"),
        (OFF, &["/p/"], "cachepage; fwd=bypass; detail=rule-off", "no: nothing is cached here"),
    ] {
        let said = json(&redis, settings, args);
        assert_eq!(said["outcome"], outcome, "{said}");
        assert!(said["stored"].as_str().unwrap().starts_with(stored), "{said}");
    }
}

#[tokio::test]
async fn explain_asks_for_an_https_url_as_a_server_with_tls_in_front_does() {
    let (redis, origin) = (Backend::start().unwrap(), Origin::pages("").await);
    for (trusted, scheme, outcome) in [
        ("127.0.0.1", "https", "hit"),
        // Wherever the server in front is.
        ("192.0.2.1", "https", "fwd=uri-miss"),
        ("127.0.0.1", "http", "fwd=uri-miss"),
    ] {
        let settings = format!("trusted_proxies = [\"{trusted}\"]\n{RULES}");
        redis.cli(&["FLUSHALL"]).unwrap();
        let scene = Scene::over(Setup::Plain, &redis.url(), &origin, &settings).await;
        scene.get_with("/p/", "X-Forwarded-Proto: https\r\n").await;
        let said = json(&redis, &settings, &[&format!("{scheme}://localhost:8000/p/")]);
        assert!(said["outcome"].as_str().unwrap().contains(outcome), "{trusted} {said}");
        let is_https = said["reads"][0]["hashed"].to_string().contains("x-forwarded-proto:https");
        assert_eq!(is_https, scheme == "https", "{said}");
    }
}

#[tokio::test]
async fn explain_takes_a_target_as_clients_send_it() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Plain, &redis.url(), &origin, RULES).await;
    let target = "/p/<a>?filter={\"id\":1}";
    scene.get(target).await;
    for url in [target.to_owned(), format!("http://localhost:8000{target}")] {
        let said = json(&redis, RULES, &[&url]);
        assert!(said["outcome"].as_str().unwrap().starts_with("cachepage; hit; ttl="), "{said}");
        assert_eq!(said["request"], format!("GET {target}"));
    }
}

#[tokio::test]
async fn the_text_of_explain_is_readable() {
    let redis = Backend::start().unwrap();
    let expected = "request   GET /p/  Host: localhost:8000\n\
                    rule      /p/*, off\n\
                    keys      path\n\
                    outcome   cachepage; fwd=bypass; detail=rule-off\n\
                    stored    no: nothing is cached here\n";
    assert_eq!(explain(&redis, OFF, &["/p/"]), expected);
    redis
        .cli(&["SET", ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e", "x"])
        .unwrap();
    let text = explain(&redis, RULES, &["http://localhost:8000/p/"]);
    let expected = "request   GET /p/  Host: localhost:8000\n\
                    rule      /p/*, 60 s\n\
                    keys      path\n\
                    key       :1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e\n  \
                    md5     d41d8cd98f00b204e9800998ecf8427e of the selection \"\"\n  \
                    holds   1 bytes that are no page\n\
                    outcome   cachepage; fwd=miss\n\
                    stored    if the answer is a 200 without Set-Cookie, private, no-cache, no-store and Vary: *\n";
    assert_eq!(text, expected);
}
