//! A page is fetched once, and all clients get it.

use crate::backend::Backend;
use crate::support::{Origin, RULES, Scene, Script, Setup, answer, page};

scenes! {
    a_miss_is_stored_and_the_next_request_is_a_hit
    a_hit_is_identical_to_the_origins_answer
    the_age_that_an_inner_cache_has_sent_counts_on
    each_query_has_its_own_page_and_an_empty_query_is_no_query
    queries_whose_md5_collides_never_share_a_page
    head_is_answered_from_a_stored_get
    cache_control_of_a_client_is_ignored_as_in_django
    a_conditional_request_still_stores_the_page
    the_body_of_a_get_is_not_read_as_a_request
    fifty_concurrent_requests_for_a_stored_page_are_hits
}

async fn a_miss_is_stored_and_the_next_request_is_a_hit(on: Setup) {
    let origin = Origin::pages("X-One: 1\r\n").await;
    let scene = Scene::new(on, &origin).await;
    let miss = scene.get("/p/").await;
    let hit = scene.get("/p/").await;
    assert_eq!((miss.cache().as_str(), miss.text()), ("MISS fwd=uri-miss; stored", "page 1"));
    assert_eq!((hit.cache().as_str(), hit.text()), ("HIT hit; ttl=60", "page 1"));
    assert_eq!(origin.count(), 1);
}

async fn a_hit_is_identical_to_the_origins_answer(on: Setup) {
    let origin = Origin::new(|_, _| {
        let headers = "X-Two: 1\r\nETag: \"v1\"\r\nX-Two: 2\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nConnection: x-hop\r\n";
        Script::Answer(answer("200 Fine", headers, "\u{e9}\0\r\n\r\n"))
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    let miss = scene.get("/p/").await;
    let hit = scene.get("/p/").await;
    assert_eq!((&miss.line, &hit.line), (&"HTTP/1.1 200 Fine".to_owned(), &miss.line));
    assert_eq!((&miss.body, &hit.body), (&"\u{e9}\0\r\n\r\n".as_bytes().to_vec(), &miss.body));
    let ours = ["expires", "cache-control", "age", "x-cache", "cache-status", "date", "server"];
    let origins = [
        ("Content-Type", "text/plain"),
        ("X-Two", "1"),
        ("X-Two", "2"),
        ("Etag", "\"v1\""),
        ("Content-Length", "7"),
    ];
    assert_eq!(miss.without(&ours), origins);
    assert_eq!(hit.without(&ours), origins);
    assert_eq!((miss.header("server"), hit.header("server")), ("scripted", ""));
    assert_eq!((hit.header("expires"), hit.header("cache-control")), (miss.header("expires"), "max-age=60"));
    assert_eq!((miss.header("age"), hit.header("age")), ("", "0"));
}

/// With Django's keys it is forgotten, as by Django.
async fn the_age_that_an_inner_cache_has_sent_counts_on(on: Setup) {
    const DJANGO: &str = "keys = \"django\"\n[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n";
    let origin = Origin::pages("Age: 30\r\nCache-Control: max-age=600\r\n").await;
    let redis = Backend::start().unwrap();
    for (settings, ages) in [(RULES.to_owned(), 30..40), (format!("{DJANGO}{RULES}"), 0..10)] {
        let scene = Scene::over(on, &redis.url(), &origin, &settings).await;
        assert_eq!(scene.get("/p/").await.header("age"), "30");
        // The second is from the near cache, if there is one.
        for _ in 0..2 {
            let hit = scene.get("/p/").await;
            assert_eq!(hit.cache(), "HIT hit; ttl=60");
            assert!(ages.contains(&hit.header("age").parse().unwrap()), "{}: {settings}", hit.header("age"));
        }
    }
}

async fn each_query_has_its_own_page_and_an_empty_query_is_no_query(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    for (target, text) in [
        ("/p/", "page 1"),
        ("/p/?", "page 1"),
        ("/p/?a=1&b=2", "page 2"),
        ("/p/?b=2&a=1", "page 3"),
        ("/p/?a=1&b=2", "page 2"),
        ("/p/%61", "page 4"),
        ("/p/a", "page 5"),
        ("/p//", "page 6"),
    ] {
        assert_eq!(scene.get(target).await.text(), text, "{target}");
    }
}

/// Two texts with the same md5, found by Marc Stevens in 2024.
async fn queries_whose_md5_collides_never_share_a_page(on: Setup) {
    let one = "TEXTCOLLBYfGiJUETHQ4hAcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak";
    let other = "TEXTCOLLBYfGiJUETHQ4hEcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak";
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    assert_eq!(scene.get(&format!("/p/?{one}")).await.text(), "page 1");
    let collided = scene.get(&format!("/p/?{other}")).await;
    assert_eq!((collided.text(), collided.cache().as_str()), ("page 2", "MISS fwd=miss; stored"));
}

async fn head_is_answered_from_a_stored_get(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    let head = "HEAD /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
    assert_eq!(scene.send(head).await.cache(), "BYPASS fwd=bypass; detail=head");
    assert_eq!(scene.get("/p/").await.cache(), "MISS fwd=uri-miss; stored");
    let hit = scene.send(head).await;
    assert_eq!((hit.cache().as_str(), hit.header("content-length")), ("HIT hit; ttl=60", "6"));
    assert_eq!(origin.count(), 2);
}

async fn cache_control_of_a_client_is_ignored_as_in_django(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    for headers in ["Cache-Control: no-cache\r\nPragma: no-cache\r\n", "Cache-Control: max-age=0\r\n"] {
        let hit = scene.get_with("/p/", headers).await;
        assert_eq!((hit.status(), hit.header("x-cache"), hit.text()), (200, "HIT", "page 1"), "{headers}");
    }
}

async fn a_conditional_request_still_stores_the_page(on: Setup) {
    let origin = Origin::new(|seen, _| {
        let conditional =
            seen.header("if-none-match").is_some() || seen.header("if-modified-since").is_some();
        Script::Answer(if conditional {
            answer("304 Not Modified", "", "")
        } else {
            page("ETag: \"v1\"\r\n", "page")
        })
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    let conditions = "If-None-Match: \"v1\"\r\nIf-Modified-Since: Tue, 24 Nov 2026 12:00:00 GMT\r\n";
    let mut client = scene.connect().await;
    client.write(format!("GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n{conditions}\r\n").as_bytes()).await;
    let miss = client.reply(false).await;
    assert_eq!((miss.status(), miss.cache().as_str()), (304, "MISS fwd=uri-miss; stored"));
    assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
}

async fn the_body_of_a_get_is_not_read_as_a_request(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    let mut client = scene.connect().await;
    client.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 44\r\n\r\n").await;
    client.write(b"GET /evil HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    assert_eq!(client.reply(true).await.header("x-cache"), "HIT");
    assert_eq!(origin.count(), 1);
}

async fn fifty_concurrent_requests_for_a_stored_page_are_hits(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(scene.connect().await);
    }
    for client in &mut clients {
        client.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    }
    for client in &mut clients {
        let hit = client.reply(true).await;
        assert_eq!((hit.header("x-cache"), hit.text()), ("HIT", "page 1"));
    }
    assert_eq!(origin.count(), 1);
}
