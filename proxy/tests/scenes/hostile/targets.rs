//! Methods, targets, hosts and forwarded headers (inputs 15 to 25 and 48 of docs/hostile.md).

use proxy::MemoryStore;

use super::{all_refused, echo, is_well, last_words, with};
use crate::support::{Origin, Scene, Script, Setup, page};

scenes! {
    h15_unsupported_methods_and_targets_are_refused
    h16_h17_ambiguous_or_invalid_hosts_are_refused
    h19_forwarded_headers_of_an_untrusted_client_are_replaced
    h20_targets_are_not_normalized
    h20_raw_characters_in_paths_and_queries_are_passed_as_they_came
    h20_targets_that_cannot_be_passed_are_refused_with_a_reason
    h21_a_file_extension_makes_no_page_cacheable
    h22_h23_queries_are_neither_parsed_nor_sorted_nor_stripped
    h25_connection_cannot_hide_a_selecting_header
    h48_clients_cannot_purge
}

async fn h15_unsupported_methods_and_targets_are_refused(on: Setup) {
    all_refused(
        on,
        405,
        &[
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            b"CONNECT /p/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"TRACE /p/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    .await;
    all_refused(
        on,
        400,
        &[
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET p/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET  /p/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /p/ x HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    .await;
}

async fn h16_h17_ambiguous_or_invalid_hosts_are_refused(on: Setup) {
    all_refused(
        on,
        400,
        &[
            b"GET http://b/p/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET http://a@b/p/ HTTP/1.1\r\nHost: b\r\n\r\n",
            b"GET http://a:80/p/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET https://a/p/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET ftp://a/p/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost:\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: user@a\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a:port\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a:80:80\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a, b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a/b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: a\\b\r\n\r\n",
            b"GET /p/ HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn h18_case_and_default_port_of_a_host_do_not_matter() {
    let origin = Origin::pages("").await;
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), crate::support::RULES).await;
    for (host, text) in [
        ("localhost:8000", "page 1"),
        ("LOCALHOST:8000", "page 1"),
        ("shop.example", "page 2"),
        ("Shop.Example:80", "page 2"),
        ("shop.example:8080", "page 3"),
        ("shop.example.", "page 4"),
    ] {
        let reply = scene.send(&format!("GET /p/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(reply.text(), text, "{host}");
    }
    let absolute = "GET http://shop.example/p/ HTTP/1.1\r\nHost: SHOP.example\r\n\r\n";
    assert_eq!(scene.send(absolute).await.text(), "page 2");
}

/// A header that does not select a page must not reach the origin, whose answer is shared with other clients.
async fn h19_forwarded_headers_of_an_untrusted_client_are_replaced(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    for name in [
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "X-Forwarded-Proto",
        "X-Forwarded-Scheme",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-For",
        "Forwarded",
        "X-Original-URL",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-Host",
        "X-Real-IP",
    ] {
        let target = format!("/p/{name}");
        let lied = scene.get_with(&target, &format!("{name}: evil.example\r\n")).await;
        assert!(!lied.text().contains("evil"), "{}", lied.text());
        let hit = scene.get(&target).await;
        assert_eq!((hit.header("x-cache"), hit.text()), ("HIT", lied.text()));
    }
}

async fn h20_targets_are_not_normalized(on: Setup) {
    let origin = Origin::new(|seen, _| Script::Answer(page("", &seen.line))).await;
    let scene = Scene::new(on, &origin).await;
    let targets = [
        "/p/a",
        "/p//a",
        "/p/./a",
        "/p/x/../a",
        "/p/%2e%2e/a",
        "/p/%2E%2E/a",
        "/p/..%2fa",
        "/p%2fa",
        "/p/a;x",
        "/p/a%3bx",
        "/p/a%00",
        "/p/a.",
        "/p/a%20",
        "/p/A",
        "/p/%61",
        "/p/a%",
        "/p/a%zz",
        "/p/a?",
        "/p/a?%00",
        "/p/\u{7f}",
    ];
    for target in targets.iter().filter(|target| target.is_ascii() && !target.contains('\u{7f}')) {
        assert_eq!(
            scene.get(target).await.text(),
            match *target {
                // An empty query counts as no query, and that page is stored already.
                "/p/a?" => "GET /p/a HTTP/1.1".to_owned(),
                target => format!("GET {target} HTTP/1.1"),
            }
        );
    }
}

/// One rule for paths and queries: visible ASCII and UTF-8 pass, byte for byte.
async fn h20_raw_characters_in_paths_and_queries_are_passed_as_they_came(on: Setup) {
    let origin = Origin::new(|seen, _| Script::Answer(page("", &seen.line))).await;
    let scene = Scene::new(on, &origin).await;
    let raw = "\"<>^`{|}\\[]'_~!$&()*+,;=:@%";
    let targets = ["/p/", "/p/?", "/x/", "/x/?a="].map(|before| format!("{before}{raw}22\u{e9}"));
    let each = raw.chars().flat_map(|c| [format!("/p/{c}"), format!("/p/?{c}"), format!("/x/?{c}")]);
    for target in each.chain(targets) {
        // The origin's reader takes each byte for a character.
        let expected: String = format!("GET {target} HTTP/1.1").bytes().map(char::from).collect();
        for round in 0..2 {
            let reply = scene.get(&target).await;
            let is_hit = round == 1 && target.starts_with("/p/");
            assert_eq!((reply.text(), reply.header("x-cache") == "HIT"), (&*expected, is_hit), "{target}");
        }
    }
    let mut client = scene.connect().await;
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n");
    client.write(["/x/1\"", "/x/2", "/x/<3>"].map(get).concat().as_bytes()).await;
    for target in ["/x/1\"", "/x/2", "/x/<3>"] {
        assert_eq!(client.reply(true).await.text(), format!("GET {target} HTTP/1.1"));
    }
}

async fn h20_targets_that_cannot_be_passed_are_refused_with_a_reason(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    is_well(&scene).await;
    for (target, name) in [
        (&b"/p/#a"[..], "bad-target"),
        (b"/p/?a#b", "bad-target"),
        (b"/p/\x01", "bad-target"),
        (b"/p/?\x7f", "bad-target"),
        (b"http://localhost:8000/p/?\"", "bad-target"),
        (b"http://localhost:8000/p/\"", "bad-target"),
        (b"/p/caf\xe9", "not-http"),
        (b"/p/?caf\xe9", "not-http"),
        (b"/p/ a", "not-http"),
    ] {
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: localhost:8000\r\n\r\n"].concat();
        let reply = last_words(&scene, &request).await;
        let shown = target.escape_ascii();
        assert_eq!(
            (reply.status(), reply.cache()),
            (400, format!("BYPASS fwd=bypass; detail={name}")),
            "{shown}"
        );
        assert!(reply.text().starts_with("400: ") && reply.text().len() > 20, "{}", reply.text());
    }
    assert_eq!(origin.count(), 1);
}

async fn h21_a_file_extension_makes_no_page_cacheable(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    for target in
        ["/account/x.css", "/account/%23.css", "/account/;x.js", "/account?x.png", "/account%2fp/x.css"]
    {
        for _ in 0..2 {
            assert_eq!(scene.get(target).await.cache(), "BYPASS fwd=bypass; detail=no-rule", "{target}");
        }
    }
}

/// An origin may parse a query in its own way (`;` as `&`), so the key and the forwarded request have it unchanged.
async fn h22_h23_queries_are_neither_parsed_nor_sorted_nor_stripped(on: Setup) {
    let origin = Origin::new(|seen, _| Script::Answer(page("", &seen.line))).await;
    let scene = Scene::new(on, &origin).await;
    for target in [
        "/p/?q=1",
        "/p/?q=1&utm_source=x;callback=evil",
        "/p/?q=1&utm_source=x%3bcallback=evil",
        "/p/?q=1;utm_source=x",
        "/p/?q=1&q=2",
        "/p/?q=2&q=1",
        "/p/?Q=1",
        "/p/?q=%31",
        &format!("/p/?{}", "a=1&".repeat(1_000)),
    ] {
        for _ in 0..2 {
            assert_eq!(scene.get(target).await.text(), format!("GET {target} HTTP/1.1"));
        }
    }
    assert_eq!(origin.count(), 9);
}

#[tokio::test]
async fn h23_h24_oversized_heads_are_refused() {
    let origin = Origin::pages("").await;
    let scene = with(&origin, "").await;
    let head = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n{headers}\r\n")
    };
    for (request, status) in [
        (head(&format!("/p/?{}", "a=1&".repeat(10_000)), ""), 414),
        (head(&format!("/p/{}", "y".repeat(64 << 10)), ""), 414),
        (head(&format!("/p/{}", "y".repeat((8 << 10) - 18)), ""), 200),
        (head(&format!("/p/{}", "y".repeat((8 << 10) - 17)), ""), 414),
        ("x".repeat(1 << 20), 414),
        (head("/p/", &"X: y\r\n".repeat(10_000)), 431),
        (head("/p/", &"X: y\r\n".repeat(99)), 200),
        (head("/p/", &"X: y\r\n".repeat(100)), 431),
        (head("/p/", &format!("X: {}\r\n", "y".repeat(1 << 20))), 431),
        (head("/p/", &format!("X: {}\r\n", "y".repeat(31 << 10))), 200),
        (head("/p/", &format!("{}: y\r\n", "x".repeat(40 << 10))), 431),
        (head("/p/", &format!("Cookie: {}\r\n", "a=b; ".repeat(8 << 10))), 431),
    ] {
        let mut client = scene.connect().await;
        client.try_write(request.as_bytes()).await;
        let reply = client.reply(true).await;
        assert_eq!(reply.status(), status, "{}", &request[..100]);
        if status != 200 {
            let (name, limit) = match status {
                414 => ("target-too-long", "request_line"),
                _ if request.contains("X: y\r\nX: y") => ("too-many-headers", "headers"),
                _ => ("head-too-large", "head"),
            };
            assert_eq!(reply.cache(), format!("BYPASS fwd=bypass; detail={name}"));
            assert!(reply.text().contains(&format!("`{limit}`")), "{}", reply.text());
            assert!(client.is_closed().await);
        }
        is_well(&scene).await;
    }
}

#[tokio::test]
async fn h24_the_limits_of_a_head_are_settings() {
    let origin = Origin::pages("").await;
    let scene = with(&origin, "limits.request_line = 64\nlimits.head = 9000\nlimits.headers = 200\n").await;
    let head = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n{headers}\r\n")
    };
    for (request, status) in [
        (head(&format!("/p/{}", "y".repeat(60)), ""), 414),
        (head("/p/", &"X: y\r\n".repeat(199)), 200),
        (head("/p/", &"X: y\r\n".repeat(200)), 431),
        (head("/p/", &format!("X: {}\r\n", "y".repeat(9000))), 431),
    ] {
        assert_eq!(scene.send(&request).await.status(), status, "{}", &request[..50]);
    }
}

/// Headers that `Connection` names are removed before any decision, so the stored page was selected without them.
async fn h25_connection_cannot_hide_a_selecting_header(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    let cut = "Authorization: Basic eA==\r\nCookie: sid=1\r\nConnection: Authorization, cookie, Host, Content-Length\r\n";
    let stored = scene.get_with("/p/", cut).await;
    assert_eq!(stored.cache(), "MISS fwd=uri-miss; stored");
    let text = stored.text().to_ascii_lowercase();
    assert!(!text.contains("authorization") && !text.contains("cookie"), "{text}");
    assert!(text.contains("host: localhost:8000"), "{text}");
    assert_eq!(scene.get("/p/").await.text(), stored.text());
    let kept = scene.get_with("/p/", "Authorization: Basic eA==\r\n").await;
    assert_eq!(kept.header("x-cache"), "BYPASS");
}

/// Nobody may purge unless the settings say so, and the page stays stored.
async fn h48_clients_cannot_purge(on: Setup) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    let forbidden = "BYPASS fwd=bypass; detail=purge-forbidden";
    for (method, cache) in [
        ("PURGE", forbidden),
        ("BAN", forbidden),
        ("REFRESH", "BYPASS fwd=method"),
        ("DELETE", "BYPASS fwd=method"),
    ] {
        let reply = scene.send(&format!("{method} /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n")).await;
        assert_eq!(reply.cache(), cache);
    }
    let hit = scene.get_with("/p/", "Cache-Control: no-cache\r\nPragma: no-cache\r\n").await;
    assert_eq!((hit.header("x-cache"), hit.text()), ("HIT", "page 1"));
    assert_eq!(
        last_words(&scene, b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n")
            .await
            .text(),
        "page 1"
    );
}
