//! Stale pages are served while a new page is fetched, or if none can be fetched. Costly pages are refreshed early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use proxy::{Key, MemoryStore, Values as _, Write};
use tokio::time::{Duration, Instant};

use crate::backend::Backend;
use crate::support::{Origin, PATIENCE, Scene, Script, Setup, answer, page};

scenes! {
    pages_are_stored_as_long_as_they_may_be_served_stale
}

pub(crate) const KEY: &str = ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e";

pub(crate) fn rule(options: &str) -> String {
    format!("[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\n{options}\n")
}

/// A stored page that expired this many seconds ago or, if negative, expires in so many seconds.
#[allow(clippy::disallowed_methods, reason = "the test sets the expiry of a page relative to now")]
pub(crate) fn old(seconds: i64, lines: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let expires = i64::try_from(now.as_secs()).unwrap() - seconds;
    format!(
        "HTTP/1.1 200 OK\r\nCachepage-Expires: {expires}\r\nCachepage-Key: {KEY}\r\n{lines}Content-Length: 3\r\n\r\nold"
    )
}

/// A store with such a page.
pub(crate) async fn aged(seconds: i64, lines: &str) -> MemoryStore {
    let store = MemoryStore::new(1 << 20);
    let page = Write::Set(Key::new(KEY), old(seconds, lines).into());
    store.put(vec![page], Duration::from_secs(600)).await.unwrap();
    store
}

/// Sends requests until the page has this text.
pub(crate) async fn until(scene: &Scene, text: &str) {
    let started = Instant::now();
    while scene.get("/p/").await.text() != text {
        assert!(started.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn in_grace_the_stale_page_is_served_while_one_request_refreshes_it() {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::with(origin.address, aged(5, "").await, &rule("grace = 30")).await;
    for _ in 0..20 {
        let reply = scene.get("/p/").await;
        assert_eq!((reply.text(), reply.header("x-cache")), ("old", "HIT"));
        assert!(
            reply.cache().ends_with("; detail=grace") && reply.cache().contains("ttl=-"),
            "{}",
            reply.cache()
        );
    }
    requests.recv().await.unwrap().send(page("", "new")).await.unwrap();
    until(&scene, "new").await;
    assert_eq!((scene.get("/p/").await.cache().as_str(), origin.count()), ("HIT hit; ttl=60", 1));
}

#[tokio::test]
async fn the_age_that_an_inner_cache_has_sent_counts_on_in_grace() {
    // It was 30 s old when it was stored, 65 s ago.
    let lines = old(95, "").split("\r\n").nth(1).unwrap().replace("Expires", "Born");
    let origin = Origin::new(|_, _| Script::Silent).await;
    let scene =
        Scene::with(origin.address, aged(5, &format!("{lines}\r\n")).await, &rule("grace = 30")).await;
    let reply = scene.get("/p/").await;
    assert!(reply.cache().ends_with("; detail=grace"), "{}", reply.cache());
    assert!((95..105).contains(&reply.header("age").parse().unwrap()), "{}", reply.header("age"));
}

#[tokio::test]
async fn after_its_grace_a_page_is_fetched_again() {
    let origin = Origin::pages("").await;
    let scene = Scene::with(origin.address, aged(40, "").await, &rule("grace = 30")).await;
    let reply = scene.get("/p/").await;
    assert_eq!((reply.text(), reply.cache().as_str()), ("page 1", "MISS fwd=stale; stored"));
}

#[tokio::test]
async fn by_default_only_the_ttl_of_the_store_counts() {
    let origin = Origin::pages("").await;
    let scene = Scene::with(origin.address, aged(500, "").await, &rule("")).await;
    assert_eq!(scene.get("/p/").await.cache(), "HIT hit; ttl=0");
}

#[tokio::test]
async fn a_5xx_answer_is_replaced_by_the_stale_page() {
    for bad in
        ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"]
    {
        let origin = Origin::new(|_, _| Script::Answer(answer(bad, "", "bad"))).await;
        let scene = Scene::with(origin.address, aged(200, "").await, &rule("stale_if_error = 300")).await;
        let reply = scene.get("/p/").await;
        assert_eq!((reply.status(), reply.text()), (200, "old"), "{bad}");
        assert!(reply.cache().ends_with("; detail=stale-if-error"), "{}", reply.cache());
    }
}

#[tokio::test]
async fn a_3xx_or_4xx_answer_is_not_replaced_by_the_stale_page() {
    for (status, code) in
        [("403 Forbidden", 403), ("404 Not Found", 404), ("410 Gone", 410), ("301 Moved", 301)]
    {
        let origin = Origin::new(|_, _| Script::Answer(answer(status, "", "word"))).await;
        let scene = Scene::with(origin.address, aged(200, "").await, &rule("stale_if_error = 300")).await;
        assert_eq!(scene.get("/p/").await.status(), code);
    }
}

#[tokio::test]
async fn an_origin_that_is_down_or_silent_is_replaced_by_the_stale_page() {
    let settings = format!("deadlines.origin_head = \"100ms\"\n{}", rule("stale_if_error = 300"));
    let silent = Origin::new(|_, _| Script::Silent).await;
    let scene = Scene::with(silent.address, aged(5, "").await, &settings).await;
    assert_eq!(scene.get("/p/").await.text(), "old");
    let down = Origin::pages("").await;
    let address = down.address;
    down.stop().await;
    let scene = Scene::with(address, aged(5, "").await, &settings).await;
    let reply = scene.get("/p/").await;
    assert_eq!((reply.status(), reply.text()), (200, "old"));
    // Without the option and without a stored page the answer is a 502.
    let scene = Scene::with(address, MemoryStore::new(1 << 20), &rule("")).await;
    assert_eq!(scene.get("/p/").await.status(), 502);
}

#[tokio::test]
async fn grace_continues_while_the_origin_fails_and_ends_with_its_recovery() {
    let fails = Arc::new(AtomicBool::new(true));
    let state = fails.clone();
    let origin = Origin::new(move |_, _| {
        Script::Answer(match state.load(Ordering::Relaxed) {
            true => answer("503 Service Unavailable", "", "bad"),
            false => page("", "new"),
        })
    })
    .await;
    let scene = Scene::with(origin.address, aged(5, "").await, &rule("grace = 100")).await;
    for _ in 0..10 {
        assert_eq!(scene.get("/p/").await.text(), "old");
    }
    fails.store(false, Ordering::Relaxed);
    until(&scene, "new").await;
}

#[tokio::test]
async fn a_costly_page_is_refreshed_before_it_expires() {
    let origin = Origin::pages("").await;
    // The page took 10,000 s to make, so its last 20 seconds are within any random early-refresh interval.
    let store = aged(-20, "Cachepage-Cost: 10000000\r\n").await;
    let scene = Scene::with(origin.address, store, &rule("early_refresh = 1.0")).await;
    let reply = scene.get("/p/").await;
    assert_eq!((reply.text(), reply.header("x-cache")), ("old", "HIT"));
    until(&scene, "page 1").await;
    assert_eq!(origin.count(), 1);
}

async fn pages_are_stored_as_long_as_they_may_be_served_stale(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(on, &redis.url(), &origin, &rule("grace = 30\nstale_if_error = 300")).await;
    assert_eq!(scene.get("/p/").await.header("cache-control"), "max-age=60");
    let ttl: u64 = redis.cli(&["TTL", KEY]).unwrap().parse().unwrap();
    assert!((350..=360).contains(&ttl), "{ttl}");
    assert_eq!(scene.get("/p/").await.cache(), "HIT hit; ttl=60");
}
