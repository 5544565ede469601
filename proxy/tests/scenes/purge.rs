//! Purges: what clients send, what is purged, and that it stays so.

use std::time::Duration;

use proxy::RedisStore;
use stack::Redis;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::Backend;
use crate::support::{Client, Origin, PATIENCE, RULES, Reply, Scene, Script, Setup, answer, heard, page};

scenes! {
    a_url_is_purged_with_its_variants_and_queries
    a_tag_is_purged_wherever_it_is
    a_soft_purge_leaves_a_page_to_grace_and_errors
    a_fill_that_began_before_a_purge_brings_no_page_back
    followers_from_after_a_purge_ask_anew
    an_unsafe_method_that_succeeds_purges
}

/// The message of a test that has found one.
pub(crate) const OLD: &str = "a page from before a purge is served";

/// Clients on this machine may purge.
pub(crate) const PURGE: &str = "[purge]\nallow = [\"127.0.0.1\"]\n";

/// A proxy that purges, over a store of its own.
pub(crate) async fn purging(on: Setup, origin: &Origin, rules: &str) -> Scene {
    Scene::own(on, origin, &format!("{rules}{PURGE}")).await
}

/// Sends a purge, `METHOD TARGET` and header lines, and expects that it is done.
async fn purge(scene: &Scene, text: &str) {
    let reply = order(scene, text).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert!(reply.text().starts_with("{\"status\":\"ok\",\"id\":\""), "{reply:?}");
}

pub(crate) async fn order(scene: &Scene, text: &str) -> Reply {
    let (line, headers) = text.split_once('\n').unwrap_or((text, ""));
    let headers: String = headers.lines().map(|line| format!("{line}\r\n")).collect();
    let host = if text.contains("\nHost: ") { "" } else { "Host: localhost:8000\r\n" };
    scene.send(&format!("{line} HTTP/1.1\r\n{host}{headers}\r\n")).await
}

pub(crate) async fn is_hit(scene: &Scene, target: &str) -> bool {
    scene.get(target).await.header("x-cache") == "HIT"
}

async fn a_url_is_purged_with_its_variants_and_queries(on: Setup) {
    let origin = Origin::pages("Vary: Accept-Language\r\n").await;
    let scene = purging(on, &origin, RULES).await;
    let pages = [("/p/", "de"), ("/p/", "en"), ("/p/?page=2", "de"), ("/p/q", "de")];
    let get = async |(target, language): (&str, &str)| {
        let reply = scene.get_with(target, &format!("Accept-Language: {language}\r\n")).await;
        reply.header("x-cache") == "HIT"
    };
    for (order, expected) in [
        ("PURGE /p/?page=2", [true, true, false, true]),
        ("PURGE /p/", [false, false, false, true]),
        ("PURGE /p/nothing", [true, true, true, true]),
        ("PURGE /p/q\nHost: other.example", [true, true, true, true]),
        ("PURGE /p/q\nHost: LOCALHOST:8000", [true, true, true, false]),
    ] {
        for page in pages {
            get(page).await;
        }
        purge(&scene, order).await;
        let mut found = [false; 4];
        for (found, page) in found.iter_mut().zip(pages) {
            *found = get(page).await;
        }
        assert_eq!(found, expected, "{order}");
        for page in pages {
            assert!(get(page).await, "{order}: stored again");
        }
    }
}

/// An origin whose pages have the tags in their query, and its own.
async fn tagged() -> Origin {
    Origin::new(|seen, number| {
        let target = seen.line.split(' ').nth(1).unwrap();
        let tag = target.split_once('?').map_or("none", |(_, tag)| tag);
        let headers =
            format!("Surrogate-Key: {tag} all-pages\r\nxkey: x-{tag}\r\nCache-Groups: \"{tag}\"\r\n");
        Script::Answer(answer("200 OK", &headers, &format!("page {number}")))
    })
    .await
}

async fn a_tag_is_purged_wherever_it_is(on: Setup) {
    let origin = tagged().await;
    let scene = purging(on, &origin, RULES).await;
    for (order, one, two) in [
        ("PURGE /\nSurrogate-Key: one", false, true),
        ("PURGE /\nxkey: x-two", true, false),
        ("PURGE /\nCache-Tag: ONE", true, true),
        ("PURGEKEYS /\nxkey-purge: one nothing", false, true),
        (
            "BAN /\nX-Host: .*\nX-Url: .*\nX-Content-Type: .*\nX-Cache-Tags: (^|,)(one|x\\-two)(,|$)",
            false,
            false,
        ),
        ("PURGE /\nX-Cache-Tags: all-pages", false, false),
    ] {
        for target in ["/p/?one", "/p/?two"] {
            let reply = scene.get(target).await;
            assert_eq!([reply.header("surrogate-key"), reply.header("xkey")], ["", ""]);
            assert_ne!(reply.header("cache-groups"), "");
        }
        purge(&scene, order).await;
        assert_eq!([is_hit(&scene, "/p/?one").await, is_hit(&scene, "/p/?two").await], [one, two], "{order}");
    }
    let pass = scene.get("/elsewhere").await;
    assert_eq!((pass.header("x-cache"), pass.header("surrogate-key")), ("BYPASS", ""));
}

#[tokio::test]
async fn each_kind_of_purge_finds_its_pages() {
    let (redis, origin) = (Backend::start().unwrap(), tagged().await);
    let scene = Scene::over(Setup::Near, &redis.url(), &origin, &format!("{RULES}{PURGE}")).await;
    let [here, query, deep] = ["/p/a", "/p/a?one", "/p/a/b"];
    for (kind, value, expected) in [
        ("url", "//localhost:8000/p/a?", [false, true, true]),
        ("url", "//localhost:8000/p/a", [false, false, true]),
        ("prefix", "//localhost:8000/p/a/", [true, true, false]),
        ("prefix", "//localhost:8000/p/a?o", [true, false, true]),
        ("prefix", "//localhost:8000/p/", [false, false, false]),
        ("origin", "//localhost:8000", [false, false, false]),
        ("origin", "//localhost", [true, true, true]),
        ("group", "//localhost:8000 one", [true, false, true]),
        ("group", "//other one", [true, true, true]),
        ("tag", "one", [true, false, true]),
        ("all", "", [false, false, false]),
        ("unknown", "x", [false, false, false]),
    ] {
        for target in [here, query, deep] {
            scene.get(target).await;
        }
        redis.cli(&["XADD", LOG, "*", "k", kind, "v", value]).unwrap();
        heard(Setup::Near).await;
        let hits = [is_hit(&scene, here).await, is_hit(&scene, query).await, is_hit(&scene, deep).await];
        assert_eq!(hits, expected, "{kind} {value}");
    }
}

async fn a_soft_purge_leaves_a_page_to_grace_and_errors(on: Setup) {
    let failing = |_: &crate::support::Seen, number: usize| match number {
        1 | 3 => Script::Answer(page("", &format!("page {number}"))),
        _ => Script::Answer(answer("503 Service Unavailable", "", "")),
    };
    for (rule, outcomes) in [
        ("", ["BYPASS fwd=bypass; detail=status", "MISS fwd=stale; stored"]),
        ("stale_if_error = 300\n", ["HIT hit; ttl=60; detail=stale-if-error", "MISS fwd=stale; stored"]),
    ] {
        let origin = Origin::new(failing).await;
        let scene = purging(on, &origin, &format!("{RULES}{rule}")).await;
        scene.get("/p/").await;
        assert!(is_hit(&scene, "/p/").await);
        purge(&scene, "PURGE /p/\nFastly-Soft-Purge: 1").await;
        for outcome in outcomes {
            assert_eq!(scene.get("/p/").await.cache(), outcome, "{rule}");
        }
        assert!(is_hit(&scene, "/p/").await);
        // A hard purge leaves nothing to serve.
        purge(&scene, "PURGE /p/").await;
        assert_eq!(scene.get("/p/").await.status(), 503);
    }
    let origin = Origin::pages("").await;
    let scene = purging(on, &origin, &format!("{RULES}grace = 30\n")).await;
    scene.get("/p/").await;
    purge(&scene, "PURGE /p/\nX-Purge: soft").await;
    let stale = scene.get("/p/").await;
    assert!(stale.cache().contains("detail=grace") && stale.text() == "page 1", "{stale:?}");
    let refreshed = async {
        while scene.get("/p/").await.text() == "page 1" {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refreshed).await.expect("a soft purge has the page fetched");
    assert!(is_hit(&scene, "/p/").await);
}

async fn a_fill_that_began_before_a_purge_brings_no_page_back(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = purging(on, &origin, RULES).await;
    let mut client = scene.connect().await;
    client.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    let pieces = requests.recv().await.unwrap();
    pieces.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nol".to_vec()).await.unwrap();
    client.head().await;
    purge(&scene, "PURGE /p/").await;
    pieces.send(b"d".to_vec()).await.unwrap();
    drop(pieces);
    client.until("old").await;
    let mut next = scene.connect().await;
    next.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    let pieces = timeout(PATIENCE, requests.recv()).await.expect("the old page is not served").unwrap();
    pieces.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew".to_vec()).await.unwrap();
    assert_eq!(next.reply(true).await.text(), "new");
    assert_eq!(scene.get("/p/").await.text(), "new");
}

async fn followers_from_after_a_purge_ask_anew(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = purging(on, &origin, RULES).await;
    let ask = async || {
        let mut client = scene.connect().await;
        client.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
        client
    };
    let text = async |mut client: Client| client.reply(true).await.text().to_owned();
    let page = |body: &str| page("", body);
    let leader = ask().await;
    let first = requests.recv().await.unwrap();
    let before = ask().await;
    purge(&scene, "PURGE /p/").await;
    let after = ask().await;
    first.send(page("old")).await.unwrap();
    drop(first);
    let later = async {
        // The one from before may have been read late.
        while let Some(next) = requests.recv().await {
            next.send(page("new")).await.unwrap();
        }
    };
    let texts = async { tokio::join!(text(leader), text(before), text(after)) };
    let (leader, before, after) = tokio::select! { texts = texts => texts, () = later => unreachable!() };
    assert_eq!(leader, "old");
    assert_eq!(after, "new", "{OLD}");
    assert!(["old", "new"].contains(&&*before), "{before}");
}

async fn an_unsafe_method_that_succeeds_purges(on: Setup) {
    let origin = Origin::new(|seen, number| {
        let headers = match seen.line.split(' ').next().unwrap() {
            "POST" => "Location: /p/b\r\nContent-Location: http://other.example/p/c\r\n",
            "PUT" => "Cache-Group-Invalidation: \"g\"\r\n",
            _ => "Cache-Groups: \"g\"\r\n",
        };
        let status = if seen.line.starts_with("DELETE") { "409 Conflict" } else { "200 OK" };
        Script::Answer(answer(status, headers, &format!("page {number}")))
    })
    .await;
    let rules = "[[cache_page]]\npath = \"/p/*\"\ninvalidate = true\n[[cache_page]]\npath = \"/q/*\"\n";
    let scene = purging(on, &origin, rules).await;
    let targets = ["/p/a?x", "/p/b", "/p/c", "/q/a"];
    for (request, expected) in [
        ("POST /p/a", [false, false, true, true]),
        ("DELETE /p/a", [true, true, true, true]),
        ("OPTIONS /p/a", [true, true, true, true]),
        ("POST /q/a", [true, true, true, true]),
        ("PUT /q/other", [false, false, false, false]),
    ] {
        for target in targets {
            scene.get(target).await;
        }
        scene.send(&format!("{request} HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 0\r\n\r\n")).await;
        for (target, expected) in targets.into_iter().zip(expected) {
            assert_eq!(is_hit(&scene, target).await, expected, "{request} {target}");
        }
    }
}

#[tokio::test]
async fn a_purge_by_one_proxy_is_one_by_all_within_50_ms() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("Surrogate-Key: t\r\n").await;
    let settings = format!("{RULES}{PURGE}");
    let scenes = [
        Scene::over(Setup::Near, &redis.url(), &origin, &settings).await,
        Scene::over(Setup::Plain, &redis.url(), &origin, &settings).await,
        Scene::over(Setup::Near, &redis.url(), &origin, &settings).await,
    ];
    for round in 0..20 {
        for scene in &scenes {
            while !is_hit(scene, "/p/").await {}
        }
        let before = origin.count();
        purge(&scenes[round % 3], "PURGE /\nSurrogate-Key: t").await;
        sleep(Duration::from_millis(50)).await;
        let page = scenes[(round + 1) % 3].get("/p/").await;
        assert!(page.text().strip_prefix("page ").unwrap().parse::<usize>().unwrap() > before, "{page:?}");
    }
}

/// The log may be evicted, deleted or cut: pages are misses then, and never old.
#[tokio::test]
async fn without_its_log_a_page_is_a_miss() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let settings = format!("{RULES}{PURGE}");
    let scene = Scene::over(Setup::Near, &redis.url(), &origin, &settings).await;
    for lose in [&["DEL", LOG][..], &["XTRIM", LOG, "MAXLEN", "0"], &["FLUSHALL"], &["SET", LOG, "x"]] {
        scene.get("/p/").await;
        assert!(is_hit(&scene, "/p/").await, "{lose:?}");
        redis.cli(lose).unwrap();
        sleep(Duration::from_millis(50)).await;
        assert!(!is_hit(&scene, "/p/").await, "{lose:?}");
        if lose[0] == "SET" {
            redis.cli(&["DEL", LOG]).unwrap();
        }
        let back = async { while !is_hit(&scene, "/p/").await {} };
        timeout(PATIENCE, back).await.expect("pages are hits with a new log");
    }
}

const LOG: &str = ":1:views.decorators.cache.cache_page.purges";

#[tokio::test]
async fn what_is_stored_says_how_it_is_purged_and_a_hit_is_one_get() {
    let redis = Redis::start().unwrap();
    let origin = Origin::pages("Surrogate-Key: a b\r\nCache-Tag: c d\r\n").await;
    let settings = format!("{RULES}{PURGE}");
    let scene = Scene::over(Setup::Plain, &redis.url(), &origin, &settings).await;
    scene.get("/p/?q=1").await;
    let key = redis.cli(&["KEYS", "*/p/*"]).unwrap();
    let value = redis.cli(&["GET", &key]).unwrap();
    assert!(
        value.contains("\r\nCachepage-Url: //localhost:8000/p/?q=1\r\nCachepage-Tags: a\tb\tc d\r\n"),
        "{value}"
    );
    assert!(value.contains("\r\nCachepage-Log: "), "{value}");
    assert!(redis.cli(&["INFO", "commandstats"]).unwrap().contains("cmdstat_setex:calls=1,"));
    assert!((55..=60).contains(&redis.cli(&["TTL", &key]).unwrap().parse::<u64>().unwrap()));
    let gets = || {
        let stats = redis.cli(&["INFO", "commandstats"]).unwrap();
        let calls = |name: &str| {
            let line = stats.lines().find(|line| line.starts_with(name))?;
            line.split(['=', ',']).nth(1)?.parse::<u64>().ok()
        };
        (calls("cmdstat_get:").unwrap_or(0), calls("cmdstat_mget:").unwrap_or(0))
    };
    let (before, mget) = gets();
    for _ in 0..10 {
        let hit = scene.get("/p/?q=1").await;
        assert!(hit.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("cachepage")));
    }
    assert_eq!(gets(), (before + 10, mget));
    // Without purging nothing is added.
    let plain = Scene::over(Setup::Plain, &redis.url(), &origin, RULES).await;
    plain.get("/p/?q=2").await;
    let keys = redis.cli(&["KEYS", "*/p/*"]).unwrap();
    let other = keys.lines().find(|other| *other != key).unwrap();
    assert!(!redis.cli(&["GET", other]).unwrap().contains("Cachepage-Log"));
}

/// A Django that shares the cache would else answer with the page that was purged.
#[tokio::test]
async fn with_djangos_keys_a_purged_page_is_deleted_before_django_is_asked() {
    let redis = Backend::start().unwrap();
    let redis = std::sync::Arc::new(redis);
    let shared = redis.clone();
    let origin = Origin::new(move |_, _| {
        let stored = shared.cli(&["KEYS", "*cache_page*"]).unwrap();
        Script::Answer(page("Surrogate-Key: t\r\n", &stored.lines().count().to_string()))
    })
    .await;
    let settings =
        format!("keys = \"django\"\n{RULES}{PURGE}[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n");
    let scene = Scene::over(Setup::Near, &redis.url(), &origin, &settings).await;
    for order in ["PURGE /p/", "PURGE /\nxkey: t", "PURGE /p/\nX-Purge: soft"] {
        assert_eq!(scene.get("/p/").await.text(), "0", "{order}");
        let hit = scene.get("/p/").await;
        assert_eq!((hit.header("x-cache"), hit.header("surrogate-key")), ("HIT", ""));
        purge(&scene, order).await;
        let new = scene.get("/p/").await;
        assert_eq!((new.header("x-cache"), new.text()), ("MISS", "0"), "{order}");
        purge(&scene, "PURGE /p/").await;
    }
}

#[tokio::test]
async fn a_store_that_does_not_take_a_purge_is_said_so() {
    let mut redis = Redis::start().unwrap();
    let origin = Origin::pages("").await;
    let store = RedisStore::new(&redis.url(), Duration::from_millis(50), 1 << 20).unwrap();
    let one = format!("{RULES}{PURGE}replicas = 1\n");
    let scene = Scene::with(origin.address, store, &one).await;
    let reply = order(&scene, "PURGE /p/").await;
    assert_eq!((reply.status(), reply.header("retry-after")), (503, "1"), "there is no replica");
    redis.stop();
    let asked = Instant::now();
    let reply = order(&scene, "PURGE /p/").await;
    assert_eq!((reply.status(), reply.header("retry-after")), (503, "1"));
    assert!(asked.elapsed() < Duration::from_secs(5));
}

/// A user that may not read the log has no purges; pages are hits all the same.
#[tokio::test]
async fn without_the_right_to_read_the_log_nothing_is_purged_and_pages_are_hits() {
    let redis = Redis::start().unwrap();
    let commands = "+get +mget +setex +expire +pttl +del +ping +hello +select +client|tracking +info";
    let rights = format!("ACL SETUSER plain on >s3cret ~* &* {commands}");
    redis.cli(&rights.split(' ').collect::<Vec<_>>()).unwrap();
    let url = format!("redis://plain:s3cret@127.0.0.1:{}/1", redis.port());
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Plain, &url, &origin, &format!("{RULES}{PURGE}")).await;
    let hit = async { while !is_hit(&scene, "/p/").await {} };
    timeout(PATIENCE, hit).await.expect("hits without a log");
    assert_eq!(order(&scene, "PURGE /p/").await.status(), 503);
    assert!(is_hit(&scene, "/p/").await);
}
