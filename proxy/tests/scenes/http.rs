//! Pages under `policy = "http"`: what the origin and the client say of caching counts, and a 304 of the origin renews a page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy::{Key, MemoryStore, Values as _, Write};
use tokio::sync::mpsc;

use crate::backend::Backend;
use crate::grace::{KEY, rule};
use crate::support::{Origin, Reply, Scene, Script, Seen, Setup, answer, heard, page};

scenes! {
    a_page_is_served_with_the_headers_of_the_origin
    a_304_renews_a_page_and_its_headers
    a_page_that_is_never_fresh_is_not_stored_for_a_django
    each_status_is_stored_as_the_origin_says
    headers_for_one_client_are_left_out_of_the_stored_page
    the_wishes_of_a_client_count
    a_visitors_reload_does_not_reach_the_origin_if_the_rule_says_so
    a_page_of_another_policy_is_a_miss
    languages_select_without_case_and_order
}

const HTTP: &str = "policy = \"http\"";

/// Fresh for long, though the origin of these scenes has a clock that stands still.
const FRESH: &str = "Cache-Control: max-age=99999999\r\n";

async fn scene(on: Setup, origin: &Origin, settings: &str) -> (Scene, Backend) {
    let redis = Backend::start().unwrap();
    let scene = Scene::over(on, &redis.url(), origin, &rule(settings)).await;
    (scene, redis)
}

/// A scene with a page `old`, which has these headers and ended five seconds ago. `then` answers all further requests.
#[allow(clippy::disallowed_methods, reason = "the test sets the end of a page relative to now")]
async fn with_old(
    lines: &'static str,
    mut then: impl FnMut() -> Script + Send + 'static,
) -> (Scene, MemoryStore, Origin) {
    let origin =
        Origin::new(move |_, number| if number == 1 { Script::Answer(page(lines, "old")) } else { then() })
            .await;
    let store = MemoryStore::new(1 << 20);
    let scene = Scene::with(origin.address, store.clone(), &rule(HTTP)).await;
    assert_eq!(scene.get("/p/").await.cache(), "MISS fwd=uri-miss; stored", "{lines}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let value = stored(&store).await.unwrap();
    let end = value.split("Cachepage-Expires: ").nth(1).unwrap().split("\r\n").next().unwrap();
    put(&store, &value.replacen(end, &(now - 5).to_string(), 1)).await;
    (scene, store, origin)
}

async fn stored(store: &MemoryStore) -> Option<String> {
    let [value] = store.get([KEY.as_bytes()]).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

async fn put(store: &MemoryStore, value: &str) {
    let write = Write::Set(Key::new(KEY), value.to_owned().into());
    store.put(vec![write], Duration::from_secs(600)).await.unwrap();
}

fn is_304(seen: &Seen) -> bool {
    seen.header("if-none-match").is_some() || seen.header("if-modified-since").is_some()
}

/// An origin whose page stays the same: `page`, with these headers; a 304 has further ones.
async fn unchanged(headers: &'static str, of_304: &'static str) -> Origin {
    Origin::new(move |seen, _| {
        Script::Answer(match is_304(seen) {
            true => format!("HTTP/1.1 304 Not Modified\r\n{of_304}\r\n").into_bytes(),
            false => page(headers, "page"),
        })
    })
    .await
}

async fn a_page_is_served_with_the_headers_of_the_origin(on: Setup) {
    let lines = "Cache-Control: MAX-AGE=99999999, x\r\nExpires: 0\r\nX-A: 1\r\n";
    let origin = Origin::pages(lines).await;
    let (scene, redis) = scene(on, &origin, HTTP).await;
    let first = scene.get("/p/").await;
    assert_eq!(first.cache(), "MISS fwd=uri-miss; stored");
    let value = redis.cli(&["GET", KEY]).unwrap();
    assert!(
        value.contains("Date: Tue, 24 Nov 2026 12:00:00 GMT") && value.contains("Server: scripted"),
        "{value}"
    );
    let second = scene.get("/p/").await;
    let ours = ["x-cache", "cache-status", "age"];
    assert_eq!((second.cache().as_str(), second.without(&ours)), ("HIT hit; ttl=60", first.without(&ours)));
    // The origin's clock says that the page is days old.
    assert!(second.header("age").parse::<u64>().unwrap() > 1000 && first.header("age").is_empty());
}

async fn a_304_renews_a_page_and_its_headers(on: Setup) {
    let origin = unchanged(
        "Cache-Control: no-cache\r\nETag: \"a\"\r\nX-A: 1\r\nX-B: 1\r\n",
        "Cache-Control: max-age=99999999\r\nETag: \"a\"\r\nX-A: 2\r\n",
    )
    .await;
    for keyed in ["/p/a", "/p/b?q=1"] {
        let (scene, _redis) = scene(on, &origin, HTTP).await;
        let before = origin.count();
        assert_eq!(scene.get(keyed).await.cache(), "MISS fwd=uri-miss; stored");
        let renewed = scene.get(keyed).await;
        assert_eq!(renewed.cache(), "MISS fwd=stale; fwd-status=304; stored");
        heard(on).await;
        for reply in [renewed, scene.get(keyed).await, scene.get(keyed).await] {
            assert_eq!((reply.status(), reply.text()), (200, "page"));
            assert_eq!((reply.header("x-a"), reply.header("x-b")), ("2", "1"));
        }
        assert_eq!(scene.get(keyed).await.cache(), "HIT hit; ttl=60");
        assert_eq!(origin.count(), before + 2);
        let asked = origin.seen().pop().unwrap();
        assert_eq!(asked.header("if-none-match"), Some("\"a\""));
    }
}

async fn a_page_that_is_never_fresh_is_not_stored_for_a_django(on: Setup) {
    let origin = Origin::pages("Cache-Control: no-cache\r\nETag: \"a\"\r\n").await;
    let redis = Backend::start().unwrap();
    let django = "[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n";
    let settings = format!("keys = \"django\"\n{}{django}", rule(HTTP));
    let scene = Scene::over(on, &redis.url(), &origin, &settings).await;
    for _ in 0..2 {
        assert_eq!(scene.get("/p/").await.cache(), "BYPASS fwd=bypass; detail=no-freshness");
    }
    assert_eq!(redis.cli(&["KEYS", "*cache_page*"]).unwrap().trim(), "");
}

#[tokio::test]
async fn a_variant_is_renewed_with_its_marker() {
    let origin = unchanged(
        "Cache-Control: no-cache\r\nVary: Accept\r\nETag: \"a\"\r\n",
        "Cache-Control: max-age=99999999\r\nVary: Accept\r\nETag: \"a\"\r\n",
    )
    .await;
    let (scene, redis) = scene(Setup::Plain, &origin, HTTP).await;
    for expected in ["MISS fwd=uri-miss; stored", "MISS fwd=stale; fwd-status=304; stored", "HIT hit; ttl=60"]
    {
        assert_eq!(scene.get_with("/p/", "Accept: a/b\r\n").await.cache(), expected);
    }
    assert_eq!(scene.get_with("/p/", "Accept: c/d\r\n").await.cache(), "MISS fwd=vary-miss; stored");
    let ttl: u64 = redis.cli(&["TTL", KEY]).unwrap().parse().unwrap();
    assert!(ttl > 50, "{ttl}");
}

#[tokio::test]
async fn a_client_gets_the_part_that_it_asks_for_of_a_renewed_page() {
    let origin = unchanged("Cache-Control: no-cache\r\nETag: \"a\"\r\n", "ETag: \"a\"\r\n").await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &rule(HTTP)).await;
    scene.get("/p/").await;
    let reply = scene.get_with("/p/", "If-None-Match: \"a\"\r\n").await;
    assert_eq!((reply.status(), reply.cache().as_str()), (304, "MISS fwd=stale; fwd-status=304; stored"));
    let reply = scene.get_with("/p/", "If-None-Match: \"b\"\r\nRange: bytes=1-2\r\n").await;
    assert_eq!((reply.status(), reply.text()), (206, "ag"));
    assert!(origin.seen()[1..].iter().all(|seen| seen.header("if-none-match") == Some("\"a\"")));
    assert!(origin.seen().iter().all(|seen| seen.header("range").is_none()));
}

#[tokio::test]
async fn a_304_about_another_version_confirms_the_tag_that_was_asked_for_and_renews_nothing() {
    let origin = unchanged("Cache-Control: no-cache\r\nETag: \"a\"\r\n", "ETag: \"b\"\r\nX-A: 2\r\n").await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &rule(HTTP)).await;
    let (first, confirmed) = ("MISS fwd=uri-miss; stored", "MISS fwd=stale; fwd-status=304");
    for cache in [first, confirmed, first, confirmed] {
        let reply = scene.get("/p/").await;
        assert_eq!((reply.status(), reply.text(), reply.cache().as_str()), (200, "page", cache));
        assert_eq!((reply.header("etag"), reply.header("x-a")), ("\"a\"", ""));
    }
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn a_page_that_a_304_about_another_version_confirms_is_as_young_as_the_304() {
    let lines = "Cache-Control: max-age=60\r\nETag: \"a\"\r\nAge: 50\r\n";
    let (scene, store, _origin) =
        with_old(lines, || Script::Answer(b"HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\n\r\n".to_vec()))
            .await;
    let reply = scene.get("/p/").await;
    assert_eq!(reply.cache(), "MISS fwd=stale; fwd-status=304");
    assert_eq!((reply.text(), reply.header("age"), stored(&store).await), ("old", "", None));
}

#[tokio::test]
async fn after_a_304_to_a_date_about_another_version_the_page_is_asked_for_anew() {
    let date = "Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT\r\n";
    let lines = format!("Cache-Control: no-cache\r\nETag: \"a\"\r\n{date}");
    let origin = unchanged(lines.leak(), "ETag: \"b\"\r\n").await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &rule(HTTP)).await;
    scene.get("/p/").await;
    let reply = scene.get("/p/").await;
    assert_eq!((reply.status(), reply.cache().as_str()), (200, "MISS fwd=stale; stored"));
    assert_eq!((reply.text(), reply.header("etag"), origin.count()), ("page", "\"a\"", 3));
}

#[tokio::test]
async fn a_304_brings_no_older_page_back() {
    for is_filled_anew in [true, false] {
        let (starts, mut requests) = mpsc::unbounded_channel();
        let lines = "Cache-Control: max-age=99999999\r\nETag: \"a\"\r\n";
        let (scene, store, _origin) = with_old(lines, move || {
            let (sender, pieces) = mpsc::channel(1);
            starts.send(sender).unwrap();
            Script::Pieces(pieces)
        })
        .await;
        let mut left = None;
        let (reply, ()) = tokio::join!(scene.get("/p/"), async {
            let sender = requests.recv().await.unwrap();
            let old = stored(&store).await.unwrap();
            store.delete(&[Key::new(KEY)]).await.unwrap();
            if is_filled_anew {
                // The same page at the same second, but for the number of its version.
                let version = old.split("Cachepage-Version: ").nth(1).unwrap().split("\r\n").next().unwrap();
                put(&store, &old.replace(version, "00000000000000bb")).await;
            }
            left = stored(&store).await;
            let head = "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: max-age=60\r\n\r\n";
            sender.send(head.into()).await.unwrap();
        });
        assert_eq!((reply.text(), reply.cache().as_str()), ("old", "MISS fwd=stale; fwd-status=304"));
        assert_eq!(stored(&store).await, left);
    }
}

async fn each_status_is_stored_as_the_origin_says(on: Setup) {
    let origin = Origin::new(|seen, _| {
        let status = seen.line.split('/').nth(2).unwrap().split(' ').next().unwrap();
        Script::Answer(match status {
            "204" => b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n".to_vec(),
            "599" => answer("599 Odd", "Cache-Control: max-age=99999999\r\n", "odd"),
            status => answer(status, "Cache-Control: max-age=99999999\r\n", "text"),
        })
    })
    .await;
    let (scene, _redis) = scene(on, &origin, HTTP).await;
    for (status, is_stored) in [
        ("404", true),
        ("204", true),
        ("301", true),
        ("503", true),
        ("599", true),
        ("206", false),
        ("205", false),
    ] {
        let target = format!("/p/{status}");
        let first = scene.get(&target).await;
        let second = scene.get(&target).await;
        assert_eq!(second.header("x-cache") == "HIT", is_stored, "{status} {}", second.cache());
        assert_eq!((first.line, first.body), (second.line.clone(), second.body), "{status}");
    }
}

async fn headers_for_one_client_are_left_out_of_the_stored_page(on: Setup) {
    let origin = Origin::pages(
        "Cache-Control: max-age=99999999, private=\"X-A, Set-Cookie\", no-cache=x-b\r\nSet-Cookie: a=b\r\nX-A: 1\r\nX-B: 1\r\nX-C: 1\r\n",
    )
    .await;
    let (scene, redis) = scene(on, &origin, HTTP).await;
    let names =
        |reply: &Reply| ["set-cookie", "x-a", "x-b", "x-c"].map(|name| !reply.header(name).is_empty());
    assert_eq!(names(&scene.get("/p/").await), [true; 4]);
    let second = scene.get("/p/").await;
    assert_eq!((second.header("x-cache"), names(&second)), ("HIT", [false, false, false, true]));
    assert!(!redis.cli(&["GET", KEY]).unwrap().contains("Set-Cookie:"));
}

async fn the_wishes_of_a_client_count(on: Setup) {
    let origin = Origin::pages(FRESH).await;
    let (scene, _redis) = scene(on, &origin, HTTP).await;
    let only = scene.get_with("/p/", "Cache-Control: only-if-cached\r\n").await;
    assert_eq!((only.status(), only.cache().as_str()), (504, "BYPASS fwd=bypass; detail=only-if-cached"));
    let only = scene.get_with("/p/", "Cache-Control: only-if-cached, no-store\r\n").await;
    assert_eq!((only.status(), origin.count()), (504, 0));
    scene.get("/p/").await;
    for (wish, expected) in [
        ("no-cache", "MISS fwd=request; stored; detail=no-cache"),
        ("max-age=5", "MISS fwd=request; stored; detail=max-age"),
        ("min-fresh=100", "MISS fwd=request; stored; detail=min-fresh"),
        ("no-store", "BYPASS fwd=request; detail=no-store"),
        ("only-if-cached", "HIT hit; ttl=60"),
        ("nothing-to-see-here", "HIT hit; ttl=60"),
    ] {
        heard(on).await;
        let reply = scene.get_with("/p/", &format!("Cache-Control: {wish}\r\n")).await;
        assert_eq!(reply.cache(), expected, "{wish}");
    }
}

async fn a_visitors_reload_does_not_reach_the_origin_if_the_rule_says_so(on: Setup) {
    let origin = Origin::pages(FRESH).await;
    let (scene, _redis) = scene(on, &origin, &format!("{HTTP}\nrespect_client = false")).await;
    scene.get("/p/").await;
    for wish in ["no-cache", "max-age=0", "no-store", "only-if-cached"] {
        let reply = scene.get_with("/p/", &format!("Cache-Control: {wish}\r\n")).await;
        assert_eq!(reply.cache(), "HIT hit; ttl=60", "{wish}");
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn with_the_origin_down_the_origins_words_decide_on_a_stale_page() {
    let forbidden = (504, "BYPASS fwd=bypass; detail=must-revalidate");
    for (lines, wish, expected) in [
        ("Cache-Control: max-age=99999999, must-revalidate\r\n", "", forbidden),
        ("Cache-Control: s-maxage=99999999, stale-if-error=60\r\n", "", forbidden),
        (
            "Cache-Control: max-age=99999999, stale-if-error=60\r\n",
            "",
            (200, "HIT hit; ttl=-5; detail=stale-if-error"),
        ),
        (FRESH, "", (502, "BYPASS fwd=bypass; detail=origin-answer")),
        (FRESH, "max-stale=60", (200, "HIT hit; ttl=-5; detail=max-stale")),
        ("Cache-Control: max-age=99999999, must-revalidate\r\n", "max-stale", forbidden),
        (
            "Cache-Control: max-age=99999999, stale-while-revalidate=60\r\n",
            "",
            (200, "HIT hit; ttl=-5; detail=grace"),
        ),
    ] {
        let (scene, _store, _origin) = with_old(lines, || Script::Close(Vec::new())).await;
        let reply = scene.get_with("/p/", &format!("Cache-Control: {wish}\r\n")).await;
        let cache =
            (5..40).fold(reply.cache(), |cache, past| cache.replace(&format!("ttl=-{past};"), "ttl=-5;"));
        assert_eq!((reply.status(), cache.as_str()), expected, "{lines} {wish}");
    }
}

async fn a_page_of_another_policy_is_a_miss(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages(FRESH).await;
    for settings in ["", HTTP, ""] {
        let scene = Scene::over(on, &redis.url(), &origin, &rule(settings)).await;
        assert_eq!(scene.get("/p/").await.header("x-cache"), "MISS");
        assert_eq!(scene.get("/p/").await.cache(), "HIT hit; ttl=60");
    }
}

async fn languages_select_without_case_and_order(on: Setup) {
    let origin = Origin::pages("Cache-Control: max-age=99999999\r\nVary: Accept-Language, X-A\r\n").await;
    let (scene, _redis) = scene(on, &origin, HTTP).await;
    scene.get_with("/p/", "Accept-Language: en, de\r\nX-A: 1,2\r\n").await;
    for (lines, is_same) in [
        ("Accept-Language: DE,en\r\nX-A: 1, 2\r\n", true),
        ("Accept-Language: de\r\nAccept-Language: en\r\nX-A: 1\r\nX-A: 2\r\n", true),
        ("Accept-Language: en, de;q=0.5\r\nX-A: 1,2\r\n", false),
        ("Accept-Language: en, de\r\nX-A: 2,1\r\n", false),
        ("Accept-Language: en, de\r\n", false),
    ] {
        assert_eq!(scene.get_with("/p/", lines).await.header("x-cache") == "HIT", is_same, "{lines}");
    }
}
