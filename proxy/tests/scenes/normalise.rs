//! Rules that normalise requests: what does not select a page does not reach the origin either.

use proxy::MemoryStore;

use crate::backend::Backend;
use crate::support::{Origin, Scene, Seen, Setup, redis_store};

scenes! {
    parameters_that_are_ignored_neither_select_nor_reach_the_origin
    cookies_and_encodings_select_by_their_normal_form
    what_passes_reaches_the_origin_as_it_was_sent
}

const NORMALISED: &str = "[[cache_page]]\npath = \"/p/*\"\nignore_query = [\"utm_*\", \"gclid\"]\nsort_query = true\n\
                          ignore_cookies = [\"_ga*\"]\naccept_encoding = \"normalise\"\n\
                          [[cache_page]]\npath = \"/q/*\"\n";

/// The same rules for each scheme of keys.
fn schemes() -> [String; 2] {
    let django = "keys = \"django\"\n[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n";
    [NORMALISED.to_owned(), format!("{django}{NORMALISED}")]
}

/// A proxy with these settings, and with a Redis of its own if the set-up wants one.
async fn scene(on: Setup, origin: &Origin, settings: &str) -> (Scene, Option<Backend>) {
    match on {
        Setup::Plain => (Scene::with(origin.address, MemoryStore::new(64 << 20), settings).await, None),
        Setup::Near => {
            let redis = Backend::start().unwrap();
            let store = redis_store(&redis.url());
            (Scene::with(origin.address, store, &on.settings(settings)).await, Some(redis))
        }
    }
}

fn targets(origin: &Origin) -> Vec<String> {
    origin.seen().iter().map(|seen| seen.line.split(' ').nth(1).unwrap().to_owned()).collect()
}

async fn parameters_that_are_ignored_neither_select_nor_reach_the_origin(on: Setup) {
    for settings in schemes() {
        let origin = Origin::pages("").await;
        let (scene, _redis) = scene(on, &origin, &settings).await;
        for (target, cache, page) in [
            ("/p/?b=2&utm_source=x&a=1", "MISS", 1),
            ("/p/?a=1&b=2", "HIT", 1),
            ("/p/?gclid=7&b=2&a=1&utm_medium=y", "HIT", 1),
            ("/p/?utm_source=x", "MISS", 2),
            ("/p/", "HIT", 2),
            ("/p/?gclid=\"8\"&utm%5Fsource=z", "HIT", 2),
            ("/p/?q=\"<a>\"&gclid=8", "MISS", 3),
            ("/p/?q=\"<a>\"", "HIT", 3),
            // Another rule.
            ("/q/?b=2&utm_source=x&a=1", "MISS", 4),
        ] {
            let reply = scene.get(target).await;
            assert_eq!(
                (reply.header("x-cache"), reply.text()),
                (cache, &*format!("page {page}")),
                "{target}"
            );
        }
        assert_eq!(targets(&origin), ["/p/?a=1&b=2", "/p/", "/p/?q=\"<a>\"", "/q/?b=2&utm_source=x&a=1"]);
    }
}

async fn cookies_and_encodings_select_by_their_normal_form(on: Setup) {
    for settings in schemes() {
        let origin = Origin::pages("Vary: Cookie, Accept-Encoding\r\n").await;
        let (scene, _redis) = scene(on, &origin, &settings).await;
        for (lines, cache) in [
            ("Cookie: _ga=1; a=2; _gat=3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n", "MISS"),
            ("Accept-Encoding: zstd\r\nCookie: a=2\r\n", "HIT"),
            ("Cookie: a=2;_ga_X=9\r\nAccept-Encoding: br;q=0.5, zstd\r\nConnection: close\r\n", "HIT"),
            ("Cookie: a=3; _ga=1\r\nAccept-Encoding: zstd\r\n", "MISS"),
            ("Cookie: _ga=1\r\nAccept-Encoding: deflate\r\n", "MISS"),
            ("", "HIT"),
        ] {
            assert_eq!(scene.get_with("/p/", lines).await.header("x-cache"), cache, "{lines}");
        }
        let lines = |seen: &Seen| {
            let line = |name| seen.header(name).map(str::to_owned);
            (line("cookie"), line("accept-encoding"))
        };
        let pair = |cookie: &str, encoding: &str| (Some(cookie.to_owned()), Some(encoding.to_owned()));
        let seen: Vec<_> = origin.seen().iter().map(lines).collect();
        assert_eq!(seen, [pair("a=2", "zstd"), pair("a=3", "zstd"), (None, None)]);
    }
}

async fn what_passes_reaches_the_origin_as_it_was_sent(on: Setup) {
    let origin = Origin::pages("").await;
    let (scene, _redis) = scene(on, &origin, NORMALISED).await;
    let target = "/p/?b=1&a=2&utm_source=x";
    let lines = "Host: localhost:8000\r\nCookie: _ga=1\r\nAccept-Encoding: gzip, br\r\nContent-Length: 0\r\n";
    let reply = scene.send(&format!("POST {target} HTTP/1.1\r\n{lines}\r\n")).await;
    assert_eq!(reply.cache(), "BYPASS fwd=method");
    let seen = &origin.seen()[0];
    assert_eq!(targets(&origin), [target]);
    assert_eq!((seen.header("cookie"), seen.header("accept-encoding")), (Some("_ga=1"), Some("gzip, br")));
}

#[tokio::test]
async fn a_purge_names_a_page_by_any_spelling_that_is_normalised_to_it() {
    let origin = Origin::pages("").await;
    let settings = format!("purge.allow = [\"127.0.0.1/32\"]\npurge.queries = false\n{NORMALISED}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    scene.get("/p/?a=1&b=2").await;
    let purge = "PURGE /p/?b=2&utm_source=x&a=1 HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
    assert_eq!(scene.send(purge).await.status(), 200);
    assert_eq!(scene.get("/p/?a=1&b=2").await.header("x-cache"), "MISS");
}

/// The stale page is served by the front, and the refresh in the background asks for the normal form.
#[tokio::test]
async fn a_refresh_asks_the_origin_for_the_normal_form() {
    let origin = Origin::pages("").await;
    let settings =
        format!("{NORMALISED}grace = 300\n").replace("\"/p/*\"\n", "\"/p/*\"\ntimeout = 1\ngrace = 300\n");
    let settings = settings.trim_end_matches("grace = 300\n");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), settings).await;
    scene.get("/p/?a=1&gclid=1").await;
    let mut reply = scene.get("/p/?gclid=2&a=1").await;
    while !reply.header("cache-status").contains("detail=grace") {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        reply = scene.get("/p/?gclid=2&a=1").await;
    }
    scene.stop().await;
    assert_eq!(targets(&origin), ["/p/?a=1", "/p/?a=1"]);
}
