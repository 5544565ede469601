//! Answers that are never stored, with their reasons in Cache-Status, and answers that are stored.

use crate::support::{Origin, RULES, Scene, Script, answer, page, redis_store};
use proxy::MemoryStore;

/// Sends a request twice, and expects that the origin answers both.
async fn never_stored(bytes: Vec<u8>, request: &str, reason: &str) {
    let origin = Origin::new(move |_, _| Script::Close(bytes.clone())).await;
    let scene = Scene::new(&origin).await;
    for _ in 0..2 {
        let reply = scene.get_with("/p/", request).await;
        assert_eq!(reply.cache(), format!("BYPASS fwd=bypass; detail={reason}"));
    }
    assert_eq!(origin.count(), 2, "{reason}");
}

#[tokio::test]
async fn answers_with_other_statuses_than_200_are_not_stored() {
    for status in [
        "201 Created",
        "203 Non-Authoritative Information",
        "204 No Content",
        "206 Partial Content",
        "301 Moved Permanently",
        "404 Not Found",
        "410 Gone",
        "500 Internal Server Error",
        "299 Odd",
    ] {
        never_stored(answer(status, "", ""), "", "status").await;
    }
}

#[tokio::test]
async fn answers_with_cookies_are_not_stored() {
    never_stored(page("Set-Cookie: sid=1\r\n", "x"), "", "set-cookie").await;
    never_stored(page("set-cookie: sid=1\r\nVary: Cookie\r\n", "x"), "Cookie: a=1\r\n", "set-cookie").await;
}

#[tokio::test]
async fn private_no_cache_and_no_store_in_any_case_are_not_stored() {
    for (line, reason) in [
        ("private", "private"),
        ("Private", "private"),
        ("max-age=60, PRIVATE=\"x\"", "private"),
        ("no-cache", "no-cache"),
        ("No-Cache=\"f\"", "no-cache"),
        ("no-store", "no-store"),
        ("public, NO-STORE", "no-store"),
    ] {
        never_stored(page(&format!("Cache-Control: {line}\r\n"), "x"), "", reason).await;
    }
    never_stored(page("Cache-Control: public\r\nCache-Control: no-store\r\n", "x"), "", "no-store").await;
}

#[tokio::test]
async fn a_vary_with_a_star_or_unusable_names_is_not_stored() {
    for (line, reason) in [
        ("*", "vary-star"),
        ("Accept, *", "vary-star"),
        (",*", "vary-star"),
        ("a b", "vary-names"),
        ("X-Forwarded-For", "vary-names"),
    ] {
        never_stored(page(&format!("Vary: {line}\r\n"), "x"), "", reason).await;
    }
    never_stored(page("Vary: Accept\r\nVary: *\r\n", "x"), "", "vary-star").await;
}

#[tokio::test]
async fn answers_to_requests_with_authorization_are_not_stored() {
    never_stored(page("", "x"), "Authorization: Basic eA==\r\n", "authorization").await;
    never_stored(page("Cache-Control: s-maxage=9\r\n", "x"), "Authorization: Bearer x\r\n", "authorization")
        .await;
}

#[tokio::test]
async fn bodies_without_framing_are_not_stored() {
    never_stored(b"HTTP/1.1 200 OK\r\n\r\nwhole?".to_vec(), "", "unframed").await;
}

#[tokio::test]
async fn bodies_larger_than_max_entry_are_not_stored() {
    let body = "x".repeat((1 << 20) + 1);
    never_stored(page("", &body), "", "too-large").await;
}

#[tokio::test]
async fn pages_of_a_rule_with_timeout_0_are_not_stored_but_get_its_headers() {
    let origin = Origin::pages("").await;
    let rules = "[[cache_page]]\npath = \"/p/\"\ntimeout = 0\n";
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), rules).await;
    for text in ["page 1", "page 2"] {
        let reply = scene.get("/p/").await;
        assert_eq!((reply.text(), reply.cache().as_str()), (text, "BYPASS fwd=bypass; detail=zero-age"));
        assert_eq!(reply.header("cache-control"), "max-age=0");
    }
}

#[tokio::test]
async fn a_body_of_exactly_max_entry_is_stored() {
    let body = "x".repeat(1 << 20);
    let origin = Origin::new(move |_, _| Script::Answer(page("", &body))).await;
    let scene = Scene::new(&origin).await;
    scene.get("/p/").await;
    assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
}

#[tokio::test]
async fn a_large_body_of_unknown_length_is_relayed_whole_and_not_stored() {
    let chunk = "x".repeat(600_000);
    let bytes = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{0:x}\r\n{chunk}\r\n{0:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    let origin = Origin::new(move |_, _| Script::Answer(bytes.clone().into_bytes())).await;
    let scene = Scene::new(&origin).await;
    for _ in 0..2 {
        let reply = scene.get("/p/").await;
        assert_eq!((reply.body.len(), reply.whole, reply.header("x-cache")), (1_200_000, true, "MISS"));
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_chunked_page_is_stored_with_its_length() {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\npag\r\n1\r\ne\r\n0\r\nX-T: 1\r\n\r\n";
    let origin = Origin::new(|_, _| Script::Answer(bytes.to_vec())).await;
    let scene = Scene::new(&origin).await;
    let miss = scene.get("/p/").await;
    assert_eq!((miss.text(), miss.cache().as_str()), ("page", "MISS fwd=uri-miss; detail=length-unknown"));
    let hit = scene.get("/p/").await;
    assert_eq!((hit.text(), hit.header("x-cache"), hit.header("content-length")), ("page", "HIT", "4"));
    assert_eq!((hit.header("transfer-encoding"), hit.header("trailer")), ("", ""));
}

#[tokio::test]
async fn an_empty_page_is_stored() {
    let origin = Origin::new(|_, _| Script::Answer(page("", ""))).await;
    let scene = Scene::new(&origin).await;
    scene.get("/p/").await;
    assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
}

/// Django serves the anonymous page to requests with credentials (`authorization-then-anonymous` in `semantics.json`).
#[tokio::test]
async fn a_request_with_credentials_gets_no_page_of_others() {
    let origin = Origin::pages("").await;
    let scene = Scene::new(&origin).await;
    let basic = "Authorization: Basic eA==\r\n";
    for (headers, text, x_cache) in [
        (basic, "page 1", "BYPASS"),
        ("", "page 2", "MISS"),
        (basic, "page 3", "BYPASS"),
        ("", "page 2", "HIT"),
        ("Authorization:\r\n", "page 2", "HIT"),
    ] {
        let reply = scene.get_with("/p/", headers).await;
        assert_eq!((reply.text(), reply.header("x-cache")), (text, x_cache), "{headers}");
    }
}

#[tokio::test]
async fn a_public_page_is_shared_with_requests_with_credentials() {
    let origin = Origin::pages("Cache-Control: public\r\n").await;
    let scene = Scene::new(&origin).await;
    let basic = "Authorization: Basic eA==\r\n";
    assert_eq!(scene.get_with("/p/", basic).await.cache(), "MISS fwd=uri-miss; stored");
    assert_eq!(scene.get_with("/p/", basic).await.header("x-cache"), "HIT");
    assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn authorization_vary_gives_each_credential_its_own_page() {
    let origin = Origin::pages("").await;
    let rules = "[[cache_page]]\npath = \"/p/\"\nauthorization = \"vary\"\n";
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), rules).await;
    for (headers, text, x_cache, vary) in [
        ("Authorization: Basic eA==\r\n", "page 1", "MISS", "Authorization"),
        ("", "page 2", "MISS", ""),
        ("Authorization: Basic eQ==\r\n", "page 3", "MISS", "Authorization"),
        ("Authorization: Basic eA==\r\n", "page 1", "HIT", "Authorization"),
        ("", "page 2", "HIT", ""),
    ] {
        let reply = scene.get_with("/p/", headers).await;
        assert_eq!(
            (reply.text(), reply.header("x-cache"), reply.header("vary")),
            (text, x_cache, vary),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn an_unreachable_store_is_a_miss_with_its_reason() {
    let origin = Origin::pages("").await;
    // Nothing listens on port 1.
    let scene = Scene::with(origin.address, redis_store("redis://127.0.0.1:1/1"), RULES).await;
    for text in ["page 1", "page 2"] {
        let reply = scene.get("/p/").await;
        assert_eq!((reply.text(), reply.cache().as_str()), (text, "MISS fwd=miss; detail=store-unreachable"));
        assert_eq!(reply.header("cache-control"), "max-age=60");
    }
}
