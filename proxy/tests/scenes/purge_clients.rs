//! Purges as the clients of other caches send them: bytes that were recorded from the clients, each with its source.

use serde_json::json;

use crate::admin::{Running, TOKEN};
use crate::purge::purging;
use crate::support::{Origin, RULES, Scene, Script, Setup, answer, page};

/// Wagtail 8.0.1, `wagtail.contrib.frontend_cache.backends.HTTPBackend`: `purge_url_from_cache`, then a `PurgeBatch` of
/// three URLs, which is a request for each.
const WAGTAIL: [(&str, &[&str]); 4] = [
    (
        "PURGE /home/events/?a=b HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: www.wagtail.org\r\n\
         User-Agent: Wagtail-frontendcache/8.0.1\r\nConnection: close\r\n\r\n",
        &["www.wagtail.org/home/events/?a=b"],
    ),
    (
        "PURGE / HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: www.wagtail.org\r\n\
         User-Agent: Wagtail-frontendcache/8.0.1\r\nConnection: close\r\n\r\n",
        &["www.wagtail.org/"],
    ),
    (
        "PURGE /home/ HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: www.wagtail.org\r\n\
         User-Agent: Wagtail-frontendcache/8.0.1\r\nConnection: close\r\n\r\n",
        &["www.wagtail.org/home/", "www.wagtail.org/home/?page=2"],
    ),
    (
        "PURGE /a%20b/ HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: www.wagtail.org:8080\r\n\
         User-Agent: Wagtail-frontendcache/8.0.1\r\nConnection: close\r\n\r\n",
        &["www.wagtail.org:8080/a%20b/"],
    ),
];

/// The pages of Wagtail's requests, by host and target.
const WAGTAIL_PAGES: [&str; 5] = [
    "www.wagtail.org/home/events/?a=b",
    "www.wagtail.org/",
    "www.wagtail.org/home/",
    "www.wagtail.org/home/?page=2",
    "www.wagtail.org:8080/a%20b/",
];

/// Wagtail logs an error for every status but 2xx, so a page that is not stored is answered as one that is.
#[tokio::test]
async fn each_request_of_wagtail_purges_its_pages_and_is_done_even_if_nothing_is_stored() {
    let origin = Origin::pages("").await;
    let scene = purging(Setup::Plain, &origin, "[[cache_page]]\npath = \"/*\"\n").await;
    let get = async |page: &str| {
        let (host, target) = page.split_at(page.find('/').unwrap());
        let reply = scene.send(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        reply.header("x-cache") == "HIT"
    };
    for (request, purged) in WAGTAIL {
        assert_eq!(scene.send(request).await.status(), 200, "nothing is stored: {request}");
        for page in WAGTAIL_PAGES {
            get(page).await;
        }
        assert_eq!(scene.send(request).await.status(), 200, "{request}");
        for page in WAGTAIL_PAGES {
            assert_eq!(get(page).await, !purged.contains(&page), "{page} after {request}");
        }
    }
    assert!(origin.seen().iter().all(|seen| seen.line.starts_with("GET ")), "no purge reaches the origin");
}

/// The backend drops the brackets of an address of IPv6, which makes its Host malformed.
#[tokio::test]
async fn wagtail_cannot_name_a_host_that_is_an_address_of_ipv6() {
    let origin = Origin::pages("").await;
    let scene = purging(Setup::Plain, &origin, RULES).await;
    let request = "PURGE /v6/ HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: ::1:8000\r\n\
                   User-Agent: Wagtail-frontendcache/8.0.1\r\nConnection: close\r\n\r\n";
    assert_eq!((scene.send(request).await.status(), origin.count()), (400, 0));
}

/// What becomes of `/p/a` (tags `product-42` and `list`) and `/p/b` (tag `a.b|c`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pages {
    Stay,
    APurged,
    ASoftlyPurged,
    BSoftlyPurged,
    BothPurged,
}

/// FOSHttpCache (3.x at f116f61) over Guzzle 7.4.5. `ProxyClient\Varnish`: `purge` of a path, with its query, and of a
/// URL; `invalidateTags`, as `BAN` and in the mode `purgekeys`; `ban` of everything; `banPath`, which needs regular
/// expressions. `ProxyClient\Fastly`, whose purges are soft unless it is told otherwise: `purge`, and the first
/// request of `refresh`.
const FOS: [(&str, u16, Pages); 9] = [
    (
        "PURGE /p/a HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\nConnection: Close\r\n\r\n",
        200,
        Pages::APurged,
    ),
    (
        "PURGE /p/a?one HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\nConnection: Close\r\n\r\n",
        200,
        Pages::Stay,
    ),
    (
        "PURGE /p/a HTTP/1.1\r\nHost: other.example\r\nUser-Agent: GuzzleHttp/7\r\nX-Foo: bar\r\n\
         Connection: Close\r\n\r\n",
        200,
        Pages::Stay,
    ),
    (
        "BAN / HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\nX-Host: .*\r\nX-Url: .*\r\n\
         X-Content-Type: .*\r\nX-Cache-Tags: (^|,)(product\\-42|a\\.b\\|c)(,|$)\r\nConnection: Close\r\n\r\n",
        200,
        Pages::BothPurged,
    ),
    (
        "PURGEKEYS / HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\n\
         xkey-softpurge: product-42 list\r\nConnection: Close\r\n\r\n",
        200,
        Pages::ASoftlyPurged,
    ),
    (
        "BAN / HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\nX-Host: .*\r\nX-Url: .*\r\n\
         X-Content-Type: .*\r\nConnection: Close\r\n\r\n",
        200,
        Pages::BothPurged,
    ),
    (
        "BAN / HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\n\
         X-Host: ^(shop.example|b.example)$\r\nX-Url: /p/.*\r\nX-Content-Type: html\r\nConnection: Close\r\n\r\n",
        501,
        Pages::Stay,
    ),
    (
        "PURGE /p/a HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\nFastly-Soft-Purge: 1\r\n\
         Fastly-Key: s3cret\r\nConnection: Close\r\n\r\n",
        200,
        Pages::ASoftlyPurged,
    ),
    (
        "PURGE /p/b HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\nFastly-Soft-Purge: 1\r\n\
         Fastly-Key: s3cret\r\nConnection: Close\r\n\r\n",
        200,
        Pages::BSoftlyPurged,
    ),
];

/// An origin whose `/p/a` and `/p/b` have the tags of [`Pages`].
async fn tagged() -> Origin {
    Origin::new(|seen, number| {
        let tags = if seen.line.contains(" /p/a") { "product-42,list" } else { "a.b|c" };
        Script::Answer(page(&format!("X-Cache-Tags: {tags}\r\n"), &format!("page {number}")))
    })
    .await
}

/// Gets a page of `shop.example`, and says what it was: a hit, one served stale, or fetched.
async fn outcome(scene: &Scene, target: &str) -> &'static str {
    let reply = scene.send(&format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
    match (reply.header("x-cache"), reply.header("cache-status").contains("detail=grace")) {
        ("HIT", true) => "stale",
        ("HIT", false) => "hit",
        _ => "fetched",
    }
}

#[tokio::test]
async fn each_request_of_foshttpcache_does_what_it_says() {
    for (request, status, pages) in FOS {
        let origin = tagged().await;
        let scene = purging(Setup::Plain, &origin, &format!("{RULES}grace = 30\n")).await;
        for target in ["/p/a", "/p/b"] {
            outcome(&scene, target).await;
        }
        assert_eq!(scene.send(request).await.status(), status, "{request}");
        let expected = match pages {
            Pages::Stay => ["hit", "hit"],
            Pages::APurged => ["fetched", "hit"],
            Pages::ASoftlyPurged => ["stale", "hit"],
            Pages::BSoftlyPurged => ["hit", "stale"],
            Pages::BothPurged => ["fetched", "fetched"],
        };
        let found = [outcome(&scene, "/p/a").await, outcome(&scene, "/p/b").await];
        assert_eq!(found, expected, "{request}");
    }
}

/// FOSHttpCache's `ProxyClient\Varnish::refresh` is a GET that wants no stored page. RFC 9111 has a cache follow it,
/// Django's `cache_page` does not look at it.
#[tokio::test]
async fn a_refresh_of_foshttpcache_fetches_the_page_anew_under_rules_that_follow_http() {
    let refresh = "GET /p/a HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\n\
                   Cache-Control: no-cache\r\nConnection: Close\r\n\r\n";
    for (policy, text) in [("policy = \"http\"\ndefault_timeout = 60\n", "page 2"), ("", "page 1")] {
        let undated = |number| format!("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npage {number}");
        let origin = Origin::new(move |_, number| Script::Answer(undated(number).into_bytes())).await;
        let scene = purging(Setup::Plain, &origin, &format!("{RULES}{policy}")).await;
        outcome(&scene, "/p/a").await;
        scene.send(refresh).await;
        assert_eq!(outcome(&scene, "/p/a").await, "hit", "{policy}");
        assert_eq!(
            scene.send(refresh.replace("Cache-Control: no-cache\r\n", "").as_str()).await.text(),
            text
        );
    }
}

/// The second request of FOSHttpCache's `ProxyClient\Fastly::refresh`.
#[tokio::test]
async fn a_head_after_a_soft_purge_has_the_page_fetched() {
    let head = "HEAD /p/a HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: GuzzleHttp/7\r\nFastly-Key: s3cret\r\n\
                Connection: Close\r\n\r\n";
    let purge = FOS[7].0;
    let origin = tagged().await;
    let scene = purging(Setup::Plain, &origin, &format!("{RULES}grace = 30\n")).await;
    outcome(&scene, "/p/a").await;
    assert_eq!(scene.send(purge).await.status(), 200);
    assert_eq!(scene.send(head).await.status(), 200);
    let refreshed = async { while outcome(&scene, "/p/a").await != "hit" {} };
    tokio::time::timeout(crate::support::PATIENCE, refreshed).await.expect("the page is fetched anew");
    assert_eq!(origin.count(), 2);
}

/// Requests with the headers of Fastly and of Varnish's xkey, as operators write them for curl.
#[tokio::test]
async fn tags_in_the_headers_of_other_caches_are_purged_and_not_the_url() {
    for (headers, expected) in [
        ("Surrogate-Key: list", ["fetched", "hit"]),
        ("Surrogate-Key: product-42 a.b|c", ["fetched", "fetched"]),
        ("Surrogate-Key: list\r\nFastly-Soft-Purge: 1", ["stale", "hit"]),
        ("xkey: list, nothing", ["fetched", "hit"]),
        ("xkey-softpurge: a.b|c", ["hit", "stale"]),
        ("Cache-Tag: nothing", ["hit", "hit"]),
    ] {
        let origin = tagged().await;
        let scene = purging(Setup::Plain, &origin, &format!("{RULES}grace = 30\n")).await;
        for target in ["/p/a", "/p/b"] {
            outcome(&scene, target).await;
        }
        let request = format!(
            "PURGE /p/a HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/7.88.1\r\n\
                               Accept: */*\r\n{headers}\r\n\r\n"
        );
        assert_eq!(scene.send(&request).await.status(), 200, "{headers}");
        let found = [outcome(&scene, "/p/a").await, outcome(&scene, "/p/b").await];
        assert_eq!(found, expected, "{headers}");
    }
}

/// The JSON of draft-nottingham-http-invalidation: four types of selectors, and `purge`, which may be false.
#[tokio::test]
async fn the_json_of_the_draft_purges_by_uri_prefix_origin_and_group() {
    let origin = Origin::new(|seen, number| {
        let status = if seen.line.starts_with("GET ") { "200 OK" } else { "405 Method Not Allowed" };
        Script::Answer(answer(status, "Cache-Groups: \"prices\"\r\n", &format!("page {number}")))
    })
    .await;
    let running = Running::over_tcp(&origin).await;
    let post = async |body: &serde_json::Value| {
        let body = body.to_string();
        let lines =
            format!("{TOKEN}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        running.ask("POST", "/purge", &lines).await
    };
    for (body, expected) in [
        (
            json!({"type": "uri", "selectors": ["https://localhost/p/a", "http://localhost/p/c"], "purge": true}),
            [false, true],
        ),
        (json!({"type": "uri-prefix", "selectors": ["http://localhost/p/"], "purge": true}), [false, false]),
        (json!({"type": "origin", "selectors": ["https://localhost"], "purge": false}), [false, false]),
        (json!({"type": "origin", "selectors": ["https://other.example"], "purge": true}), [true, true]),
        (
            json!({"type": "group", "selectors": ["http://localhost"], "groups": ["prices"], "purge": true}),
            [false, false],
        ),
        (
            json!({"type": "group", "selectors": ["http://localhost"], "groups": ["stock"], "purge": true}),
            [true, true],
        ),
    ] {
        for target in ["/p/a", "/p/b"] {
            running.get(target, "").await;
        }
        let reply = post(&body).await;
        assert_eq!((reply.status(), reply.text().contains("\"status\":\"ok\"")), (200, true), "{body}");
        let mut found = [false; 2];
        for (found, target) in found.iter_mut().zip(["/p/a", "/p/b"]) {
            *found = running.get(target, "").await.header("x-cache") == "HIT";
        }
        assert_eq!(found, expected, "{body}");
    }
    let other = post(&json!({"type": "status-code", "selectors": ["404"], "purge": true})).await;
    assert_eq!(other.status(), 501, "a type that the proxy does not know");
}
