//! Answers that are never stored, with their reasons in Cache-Status, and answers that are stored.

use crate::support::{Origin, RULES, Scene, Script, Setup, answer, page};
use proxy::MemoryStore;

scenes! {
    answers_with_other_statuses_than_200_are_not_stored
    answers_with_cookies_are_not_stored
    private_no_cache_and_no_store_in_any_case_are_not_stored
    a_vary_with_a_star_or_unusable_names_is_not_stored
    answers_to_requests_with_authorization_are_not_stored
    bodies_without_framing_are_not_stored
    bodies_with_a_coding_besides_chunks_are_refused
    bodies_larger_than_max_entry_are_not_stored
    a_body_of_exactly_max_entry_is_stored
    a_large_body_of_unknown_length_is_relayed_whole_and_not_stored
    a_chunked_page_is_stored_with_its_length
    an_empty_page_is_stored
    a_request_with_credentials_gets_no_page_of_others
    a_public_page_is_shared_with_requests_with_credentials
    an_unreachable_store_is_a_miss_with_its_reason
}

/// Sends a request twice, and expects that the origin answers both.
async fn never_stored(on: Setup, bytes: Vec<u8>, request: &str, reason: &str) {
    let origin = Origin::new(move |_, _| Script::Close(bytes.clone())).await;
    let scene = Scene::new(on, &origin).await;
    for _ in 0..2 {
        let reply = scene.get_with("/p/", request).await;
        assert_eq!(reply.cache(), format!("BYPASS fwd=bypass; detail={reason}"));
    }
    assert_eq!(origin.count(), 2, "{reason}");
}

async fn answers_with_other_statuses_than_200_are_not_stored(on: Setup) {
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
        never_stored(on, answer(status, "", ""), "", "status").await;
    }
}

async fn answers_with_cookies_are_not_stored(on: Setup) {
    never_stored(on, page("Set-Cookie: sid=1\r\n", "x"), "", "set-cookie").await;
    never_stored(on, page("set-cookie: sid=1\r\nVary: Cookie\r\n", "x"), "Cookie: a=1\r\n", "set-cookie")
        .await;
}

async fn private_no_cache_and_no_store_in_any_case_are_not_stored(on: Setup) {
    for (line, reason) in [
        ("private", "private"),
        ("Private", "private"),
        ("max-age=60, PRIVATE=\"x\"", "private"),
        ("no-cache", "no-cache"),
        ("No-Cache=\"f\"", "no-cache"),
        ("no-store", "no-store"),
        ("public, NO-STORE", "no-store"),
    ] {
        never_stored(on, page(&format!("Cache-Control: {line}\r\n"), "x"), "", reason).await;
    }
    never_stored(on, page("Cache-Control: public\r\nCache-Control: no-store\r\n", "x"), "", "no-store").await;
}

async fn a_vary_with_a_star_or_unusable_names_is_not_stored(on: Setup) {
    for (line, reason) in [
        ("*", "vary-star"),
        ("Accept, *", "vary-star"),
        (",*", "vary-star"),
        ("a b", "vary-names"),
        ("X-Forwarded-For", "vary-names"),
    ] {
        never_stored(on, page(&format!("Vary: {line}\r\n"), "x"), "", reason).await;
    }
    never_stored(on, page("Vary: Accept\r\nVary: *\r\n", "x"), "", "vary-star").await;
}

async fn answers_to_requests_with_authorization_are_not_stored(on: Setup) {
    never_stored(on, page("", "x"), "Authorization: Basic eA==\r\n", "authorization").await;
    never_stored(
        on,
        page("Cache-Control: s-maxage=9\r\n", "x"),
        "Authorization: Bearer x\r\n",
        "authorization",
    )
    .await;
}

async fn bodies_without_framing_are_not_stored(on: Setup) {
    never_stored(on, b"HTTP/1.1 200 OK\r\n\r\nwhole?".to_vec(), "", "unframed").await;
}

async fn bodies_with_a_coding_besides_chunks_are_refused(on: Setup) {
    for codings in [
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{codings}\r\n4\r\nhalf\r\n0\r\n\r\n");
        let origin = Origin::new(move |_, _| Script::Answer(answer.clone().into())).await;
        let scene = Scene::new(on, &origin).await;
        for path in ["/p/", "/p/", "/pass/"] {
            assert_eq!(scene.get(path).await.status(), 502, "{codings}");
        }
    }
}

async fn bodies_larger_than_max_entry_are_not_stored(on: Setup) {
    let body = "x".repeat((1 << 20) + 1);
    never_stored(on, page("", &body), "", "too-large").await;
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

async fn a_body_of_exactly_max_entry_is_stored(on: Setup) {
    let body = "x".repeat(1 << 20);
    let origin = Origin::new(move |_, _| Script::Answer(page("", &body))).await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
}

async fn a_large_body_of_unknown_length_is_relayed_whole_and_not_stored(on: Setup) {
    let chunk = "x".repeat(600_000);
    let bytes = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{0:x}\r\n{chunk}\r\n{0:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    let origin = Origin::new(move |_, _| Script::Answer(bytes.clone().into_bytes())).await;
    let scene = Scene::new(on, &origin).await;
    for _ in 0..2 {
        let reply = scene.get("/p/").await;
        assert_eq!((reply.body.len(), reply.whole, reply.header("x-cache")), (1_200_000, true, "MISS"));
    }
    assert_eq!(origin.count(), 2);
}

async fn a_chunked_page_is_stored_with_its_length(on: Setup) {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\npag\r\n1\r\ne\r\n0\r\nX-T: 1\r\n\r\n";
    let origin = Origin::new(|_, _| Script::Answer(bytes.to_vec())).await;
    let scene = Scene::new(on, &origin).await;
    let miss = scene.get("/p/").await;
    assert_eq!((miss.text(), miss.cache().as_str()), ("page", "MISS fwd=uri-miss; detail=length-unknown"));
    let hit = scene.get("/p/").await;
    assert_eq!((hit.text(), hit.header("x-cache"), hit.header("content-length")), ("page", "HIT", "4"));
    assert_eq!((hit.header("transfer-encoding"), hit.header("trailer")), ("", ""));
}

async fn an_empty_page_is_stored(on: Setup) {
    let origin = Origin::new(|_, _| Script::Answer(page("", ""))).await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
}

/// Django serves the anonymous page to requests with credentials (`authorization-then-anonymous` in `semantics.json`).
async fn a_request_with_credentials_gets_no_page_of_others(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
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

async fn a_public_page_is_shared_with_requests_with_credentials(on: Setup) {
    let origin = Origin::pages("Cache-Control: public\r\n").await;
    let scene = Scene::new(on, &origin).await;
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

async fn an_unreachable_store_is_a_miss_with_its_reason(on: Setup) {
    let origin = Origin::pages("").await;
    // Nothing listens on port 1.
    let scene = Scene::over(on, "redis://127.0.0.1:1/1", &origin, RULES).await;
    for text in ["page 1", "page 2"] {
        let reply = scene.get("/p/").await;
        assert_eq!((reply.text(), reply.cache().as_str()), (text, "MISS fwd=miss; detail=store-unreachable"));
        assert_eq!(reply.header("cache-control"), "max-age=60");
    }
}
