//! `No-Vary-Search`: the origin says which parameters of the query select a page, and requests that differ in others share it.

use std::collections::HashMap;

use proxy::MemoryStore;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::{Origin, Scene, Script, Setup, answer, heard, page};

scenes! {
    queries_that_differ_in_what_does_not_select_share_a_page
    what_selects_of_the_query_has_its_own_variants
    the_last_answer_of_the_origin_says_what_selects
    a_page_without_the_field_is_not_outlived_by_the_shared_one
    a_purge_of_any_query_of_the_path_purges_the_shared_pages
    simultaneous_requests_for_a_shared_page_are_one_request_to_the_origin
    a_304_renews_a_shared_page_whatever_query_asks
}

const RULES: &str = "[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\npolicy = \"http\"\n";

/// Fresh for long, though the origin of these scenes has a clock that stands still.
const FRESH: &str = "Cache-Control: max-age=99999999\r\n";

/// An origin whose pages are numbered, and say this.
async fn saying(lines: &'static str) -> Origin {
    Origin::new(move |_, number| Script::Answer(page(&format!("{FRESH}{lines}"), &format!("page {number}"))))
        .await
}

/// Asks for each target, and compares the cache status and the number of the page.
async fn check(scene: &Scene, rows: &[(&str, &str, &str)]) {
    for (target, cache, text) in rows {
        let (target, lines) = target.split_once(' ').unwrap_or((target, ""));
        let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
        let reply = scene.get_with(target, &lines).await;
        assert_eq!((reply.cache().as_str(), reply.text()), (*cache, *text), "{target} {lines}");
    }
}

const HIT: &str = "HIT hit; ttl=60";
const MISS: &str = "MISS fwd=uri-miss; stored";

async fn queries_that_differ_in_what_does_not_select_share_a_page(on: Setup) {
    let origin = saying("No-Vary-Search: key-order, params=(\"utm_source\")\r\n").await;
    let scene = Scene::own(on, &origin, RULES).await;
    check(
        &scene,
        &[
            ("/p/?id=1&utm_source=a", MISS, "page 1"),
            ("/p/?utm_source=b&id=1", HIT, "page 1"),
            ("/p/?id=1", HIT, "page 1"),
            ("/p/?i%64=%31&&utm%5Fsource", HIT, "page 1"),
            ("/p/?id=1&id=2", MISS, "page 2"),
            ("/p/?id=2&id=1", MISS, "page 3"),
            ("/p/?x&id=1", MISS, "page 4"),
            ("/p/?id=1&x=", HIT, "page 4"),
            ("/p/", MISS, "page 5"),
            ("/p/?utm_source=c", HIT, "page 5"),
            ("/p/q?id=1", MISS, "page 6"),
            ("/p/?id=1&utm_source=d", HIT, "page 1"),
        ],
    )
    .await;
    // The origin gets each query as it was sent.
    assert_eq!(origin.seen()[0].line, "GET /p/?id=1&utm_source=a HTTP/1.1");
    let other = scene.send("GET /p/?id=1 HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(other.cache(), MISS);
}

async fn what_selects_of_the_query_has_its_own_variants(on: Setup) {
    let origin = saying("No-Vary-Search: params, except=(\"id\")\r\nVary: X-A\r\n").await;
    let scene = Scene::own(on, &origin, &format!("{RULES}[limits]\nvariants = 2\n")).await;
    let vary_miss = "MISS fwd=vary-miss; stored";
    check(
        &scene,
        &[
            ("/p/?id=1&a X-A: 1", MISS, "page 1"),
            ("/p/?id=1&b X-A: 1", HIT, "page 1"),
            ("/p/?id=1&a X-A: 2", vary_miss, "page 2"),
            ("/p/?c&id=1 X-A: 2", HIT, "page 2"),
            ("/p/?id=1 X-A: 3", "BYPASS fwd=bypass; detail=variants", "page 3"),
            ("/p/?id=2 X-A: 3", vary_miss, "page 4"),
            ("/p/?id=2&d X-A: 3", HIT, "page 4"),
        ],
    )
    .await;
}

async fn the_last_answer_of_the_origin_says_what_selects(on: Setup) {
    let origin = Origin::new(|_, number| {
        let field = ["params=(\"a\")", "params=(\"b\")"][usize::from(number > 1)];
        Script::Answer(page(&format!("{FRESH}No-Vary-Search: {field}\r\n"), &format!("page {number}")))
    })
    .await;
    let scene = Scene::own(on, &origin, RULES).await;
    check(
        &scene,
        &[("/p/?a=1&b=1", MISS, "page 1"), ("/p/?b=1&a=2", HIT, "page 1"), ("/p/?a=1&b=2", MISS, "page 2")],
    )
    .await;
    heard(on).await;
    check(
        &scene,
        &[("/p/?b=3&a=1", HIT, "page 2"), ("/p/?a=2&b=1", MISS, "page 3"), ("/p/?a=2", HIT, "page 3")],
    )
    .await;
}

async fn a_page_without_the_field_is_not_outlived_by_the_shared_one(on: Setup) {
    let origin = Origin::new(|_, number| {
        let field = ["No-Vary-Search: params\r\n", ""][number - 1];
        Script::Answer(page(&format!("{FRESH}{field}"), &format!("page {number}")))
    })
    .await;
    let scene = Scene::own(on, &origin, RULES).await;
    check(
        &scene,
        &[
            ("/p/?a", MISS, "page 1"),
            ("/p/?b", HIT, "page 1"),
            ("/p/?b Cache-Control: no-cache", "MISS fwd=request; stored; detail=no-cache", "page 2"),
        ],
    )
    .await;
    heard(on).await;
    check(&scene, &[("/p/?b", HIT, "page 2"), ("/p/?b", HIT, "page 2")]).await;
}

async fn a_purge_of_any_query_of_the_path_purges_the_shared_pages(on: Setup) {
    let origin =
        saying("No-Vary-Search: params=(\"utm\")\r\nCache-Groups: \"g\"\r\nSurrogate-Key: t\r\n").await;
    let settings = format!("{RULES}[purge]\nallow = [\"127.0.0.1\"]\n");
    let scene = Scene::own(on, &origin, &settings).await;
    for (order, is_purged) in [
        ("PURGE /p/?id=1", true),
        ("PURGE /p/?id=1&utm=9", true),
        ("PURGE /p/?id=2", true),
        ("PURGE /p/", true),
        ("PURGE /\r\nSurrogate-Key: t", true),
        ("PURGE /p/q", false),
        ("PURGE /p/q?id=1", false),
    ] {
        scene.get("/p/?id=1&utm=1").await;
        assert_eq!(scene.get("/p/?id=1&utm=2").await.header("x-cache"), "HIT");
        let (line, lines) = order.split_once("\r\n").unwrap_or((order, ""));
        let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
        let request = format!("{line} HTTP/1.1\r\nHost: localhost:8000\r\n{lines}\r\n");
        assert_eq!(scene.send(&request).await.status(), 200);
        heard(on).await;
        let expected = if is_purged { "MISS" } else { "HIT" };
        assert_eq!(scene.get("/p/?utm=3&id=1").await.header("x-cache"), expected, "{order}");
    }
}

async fn simultaneous_requests_for_a_shared_page_are_one_request_to_the_origin(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::own(on, &origin, RULES).await;
    let text = |text| answer("200 OK", &format!("{FRESH}No-Vary-Search: params=(\"utm\")\r\n"), text);
    let first = async { requests.recv().await.unwrap().send(text("first")).await.unwrap() };
    tokio::join!(scene.get("/p/?id=1&utm=1"), first);
    let mut clients = Vec::new();
    for number in 0..50 {
        let mut client = scene.connect().await;
        let target = format!("/p/?utm={number}&id=2");
        client.write(format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").as_bytes()).await;
        clients.push(client);
    }
    requests.recv().await.unwrap().send(text("once")).await.unwrap();
    for client in &mut clients {
        let reply = client.reply(true).await;
        assert_eq!((reply.status(), reply.text()), (200, "once"), "{}", reply.cache());
    }
    assert_eq!(origin.count(), 2);
}

async fn a_304_renews_a_shared_page_whatever_query_asks(on: Setup) {
    let origin = Origin::new(|seen, _| {
        Script::Answer(match seen.header("if-none-match") {
            Some(_) => format!("HTTP/1.1 304 Not Modified\r\n{FRESH}ETag: \"a\"\r\n\r\n").into_bytes(),
            None => page("Cache-Control: no-cache\r\nETag: \"a\"\r\nNo-Vary-Search: params\r\n", "page"),
        })
    })
    .await;
    let scene = Scene::own(on, &origin, RULES).await;
    let renewed = "MISS fwd=stale; fwd-status=304; stored";
    check(&scene, &[("/p/?a", MISS, "page"), ("/p/?b", renewed, "page")]).await;
    heard(on).await;
    check(&scene, &[("/p/?c", HIT, "page"), ("/p/?a", HIT, "page")]).await;
}

#[tokio::test]
async fn the_field_does_not_count_under_djangos_policy_and_with_djangos_keys() {
    let origin = saying("No-Vary-Search: params\r\n").await;
    let django = "keys = \"django\"\n[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n";
    for settings in [RULES.replace("http", "django"), format!("{django}{RULES}")] {
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
        for target in ["/p/?a", "/p/?b"] {
            assert_eq!(scene.get(target).await.cache(), MISS, "{settings}");
            assert_eq!(scene.get(target).await.cache(), HIT, "{settings}");
        }
    }
}

/// The model: a page for each query without the parameter `u`, in the order of the names.
#[tokio::test]
async fn random_queries_get_the_pages_of_the_model() {
    let origin = saying("No-Vary-Search: key-order, params=(\"u\")\r\n").await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), RULES).await;
    let mut random = StdRng::seed_from_u64(15);
    let mut pages = HashMap::<Vec<&str>, String>::new();
    for _ in 0..500 {
        let pieces: Vec<_> = (0..random.random_range(0..5))
            .map(|_| *["a=1", "a=2", "b=1", "u=1", "u=2"].choose(&mut random).unwrap())
            .collect();
        let mut selecting: Vec<_> = pieces.iter().copied().filter(|piece| !piece.starts_with('u')).collect();
        selecting.sort_by_key(|piece| piece.as_bytes()[0]);
        let reply = scene.get(&format!("/p/?{}", pieces.join("&"))).await;
        match pages.get(&selecting) {
            Some(text) => assert_eq!((reply.header("x-cache"), reply.text()), ("HIT", &**text), "{pieces:?}"),
            None => {
                assert_eq!(reply.header("x-cache"), "MISS", "{pieces:?}");
                pages.insert(selecting, reply.text().to_owned());
            }
        }
    }
    assert!(pages.len() > 20, "{}", pages.len());
}
