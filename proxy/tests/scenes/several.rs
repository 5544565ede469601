//! Several origins: which one a request goes to, and what becomes of it when that one fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use proxy::MemoryStore;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::{Origin, Scene, Script, answer, page};

/// A proxy before these origins, each with further lines.
async fn before(origins: &[(&Origin, &str)], settings: &str) -> Scene {
    let table = |(origin, lines): &(&Origin, &str)| {
        format!("[[origin]]\nurl = \"http://{}\"\n{lines}\n", origin.address)
    };
    let tables: String = origins.iter().map(table).collect();
    Scene::before(&[], MemoryStore::new(1 << 20), &format!("{settings}\n{tables}")).await
}

/// An origin that says its name, after a while.
async fn named(name: &'static str, pause: Duration) -> Origin {
    let (origin, mut requests) = Origin::piecewise().await;
    tokio::spawn(async move {
        while let Some(pieces) = requests.recv().await {
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                let _ = pieces.send(page("", name)).await;
            });
        }
    });
    origin
}

/// An origin that says its name at once, on a connection for each request. It says so, since a POST on a connection that ends at
/// the same moment may have been read, and is not sent again.
async fn quick(name: &'static str) -> Origin {
    Origin::new(move |_, _| Script::Close(page("Connection: close\r\n", name))).await
}

#[tokio::test]
async fn hosts_and_paths_choose_and_the_rest_goes_to_the_origin_without_either() {
    let [api, shop, rest] = [quick("api").await, quick("shop").await, quick("rest").await];
    let scene =
        before(&[(&api, "paths = [\"/api/*\"]"), (&shop, "hosts = [\"*.shop.example\"]"), (&rest, "")], "")
            .await;
    for (host, path, name) in [
        ("a", "/api/x", "api"),
        ("www.shop.example:8000", "/api/x", "api"),
        ("www.shop.example:8000", "/x", "shop"),
        ("shop.example", "/x", "rest"),
        ("a", "/", "rest"),
    ] {
        let reply = scene.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(reply.text(), name, "{host}{path}");
    }
    let alone = before(&[(&api, "paths = [\"/api/*\"]")], "").await;
    let reply = alone.get("/x").await;
    assert_eq!((reply.status(), reply.cache().as_str()), (404, "BYPASS fwd=bypass; detail=no-origin"));
}

#[tokio::test]
async fn a_slow_origin_gets_few_requests() {
    let quick = [quick("a").await, quick("b").await];
    // Slower than the others are even on a machine that is busy.
    let slow = named("slow", Duration::from_millis(500)).await;
    let scene = before(&[(&quick[0], ""), (&quick[1], ""), (&slow, "")], "").await;
    for _ in 0..300 {
        assert_eq!(scene.get("/").await.status(), 200);
    }
    assert!(slow.count() <= 30, "{}", slow.count());
    assert!(quick.iter().all(|origin| origin.count() >= 50));
}

#[tokio::test]
async fn an_origin_that_is_gone_costs_no_get() {
    let [one, other] = [quick("one").await, quick("other").await];
    let address = one.address;
    let scene = before(&[(&one, ""), (&other, "")], "").await;
    for _ in 0..10 {
        assert_eq!(scene.get("/").await.status(), 200);
    }
    one.stop().await;
    for _ in 0..50 {
        assert_eq!(scene.get("/").await.status(), 200);
        // Nothing was sent to the one that is gone.
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(scene.send(post).await.text(), "other");
    }
    assert!(other.seen().iter().filter(|seen| seen.line.starts_with("POST")).all(|seen| seen.body == b"abc"));
    drop(TcpListener::bind(address).await.unwrap());
}

#[tokio::test]
async fn a_request_that_may_have_been_read_is_sent_again_only_if_it_changes_nothing() {
    let cut = Origin::new(|_, _| Script::Close(Vec::new())).await;
    let good = quick("good").await;
    for (request, may_fail) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", true),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", true),
    ] {
        let scene = before(&[(&cut, ""), (&good, "")], "[origins]\neject_after = 1000").await;
        let mut statuses = Vec::new();
        for _ in 0..30 {
            statuses.push(scene.send(request).await.status());
        }
        assert_eq!(statuses.contains(&502), may_fail, "{request:?} {statuses:?}");
        assert!(statuses.iter().all(|status| [200, 502].contains(status)));
    }
}

#[tokio::test]
async fn a_request_is_sent_twice_at_most_and_once_if_a_byte_of_an_answer_has_come() {
    for (sent, times) in
        [("", 2), ("H", 1), ("HTTP/1.1 200 OK\r\nContent-Le", 1), ("HTTP/1.1 103 Early\r\n\r\n", 1)]
    {
        let origins = [cut_after(sent).await, cut_after(sent).await, cut_after(sent).await];
        let tables = [(&origins[0], ""), (&origins[1], ""), (&origins[2], "")];
        let scene = before(&tables, "[origins]\neject_after = 1000").await;
        let requests = 5;
        for _ in 0..requests {
            assert_eq!(scene.get("/").await.status(), 502, "{sent:?}");
        }
        let count: usize = origins.iter().map(Origin::count).sum();
        assert_eq!(count, times * requests, "{sent:?}");
    }
}

/// An origin that closes each connection after these bytes.
async fn cut_after(bytes: &'static str) -> Origin {
    Origin::new(move |_, _| Script::Close(bytes.into())).await
}

#[tokio::test]
async fn a_connection_that_was_used_is_not_repeated_after_a_part_of_a_head() {
    for (sent, times) in [("", 2), ("HTTP/1.1 200 OK\r\nContent-Le", 1)] {
        let origin = Origin::new(move |_, number| match number {
            1 => Script::Answer(page("", "first")),
            2 => Script::Close(sent.into()),
            _ => Script::Answer(page("", "again")),
        })
        .await;
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), "").await;
        assert_eq!(scene.get("/").await.text(), "first");
        assert_eq!(scene.get("/").await.status(), if times == 2 { 200 } else { 502 }, "{sent:?}");
        assert_eq!(origin.count(), 1 + times, "{sent:?}");
    }
}

#[tokio::test]
async fn an_origin_that_answers_503_is_left_out_after_three() {
    let (ill, mut to_ill) = Origin::piecewise().await;
    let (good, mut to_good) = Origin::piecewise().await;
    let scene = Arc::new(before(&[(&ill, ""), (&good, "")], "[origins]\neject_for = \"60s\"").await);
    let (mut asked, mut at_ill, mut at_good) = (Vec::new(), Vec::new(), Vec::new());
    // Neither answers yet, so they get about as many.
    while at_ill.len() < 3 {
        let scene = scene.clone();
        asked.push(tokio::spawn(async move { scene.get("/").await.status() }));
        tokio::select! {
            pieces = to_ill.recv() => at_ill.push(pieces.unwrap()),
            pieces = to_good.recv() => at_good.push(pieces.unwrap()),
        }
    }
    tokio::spawn(async move {
        for pieces in at_good {
            pieces.send(page("", "good")).await.unwrap();
        }
        while let Some(pieces) = to_good.recv().await {
            pieces.send(page("", "good")).await.unwrap();
        }
    });
    for pieces in at_ill {
        pieces.send(answer("503 Service Unavailable", "", "ill")).await.unwrap();
    }
    let mut relayed = 0;
    for get in asked {
        relayed += usize::from(get.await.unwrap() == 503);
    }
    assert_eq!(relayed, 3, "a 503 is relayed");
    for _ in 0..50 {
        assert_eq!(scene.get("/").await.text(), "good");
    }
    assert_eq!(ill.count(), 3);
}

#[tokio::test]
async fn an_origin_that_was_left_out_is_tried_again() {
    let ill = Origin::new(|_, number| match number {
        1 => Script::Close(answer("503 Service Unavailable", "", "ill")),
        _ => Script::Close(page("Connection: close\r\n", "well")),
    })
    .await;
    let good = quick("good").await;
    const OUT: Duration = Duration::from_secs(1);
    let settings = "[origins]\neject_after = 1\neject_for = \"1s\"";
    let scene = before(&[(&ill, ""), (&good, "")], settings).await;
    while scene.get("/").await.text() != "ill" {}
    let began = Instant::now();
    let next = scene.get("/").await;
    // A machine that is busy may take longer than that for one answer.
    assert!(next.text() == "good" || began.elapsed() >= OUT);
    while scene.get("/").await.text() != "well" {}
}

#[tokio::test]
async fn all_gone_is_503_at_once_or_the_stale_page() {
    let [one, other] = [quick("page").await, quick("page").await];
    let settings = "[[cache_page]]\npath = \"/p/\"\ntimeout = 1\nstale_if_error = 60\n";
    let scene = before(&[(&one, ""), (&other, "")], settings).await;
    assert_eq!(scene.get("/p/").await.status(), 200);
    one.stop().await;
    other.stop().await;
    let reply = scene.get("/").await;
    assert_eq!((reply.status(), reply.cache().as_str()), (503, "BYPASS fwd=bypass; detail=origins-gone"));
    assert_eq!(reply.header("retry-after"), "1");
    while !scene.get("/p/").await.cache().contains("stale-if-error") {}
    let reply = scene.get("/p/").await;
    assert_eq!((reply.status(), reply.text()), (200, "page"));
}

#[tokio::test]
async fn a_backup_is_asked_only_while_the_others_are_left_out() {
    let [main, backup] = [quick("main").await, quick("backup").await];
    let scene = before(&[(&main, ""), (&backup, "backup = true")], "[origins]\neject_for = \"60s\"").await;
    for _ in 0..20 {
        assert_eq!(scene.get("/").await.text(), "main");
    }
    main.stop().await;
    for _ in 0..20 {
        assert_eq!(scene.get("/").await.text(), "backup");
    }
}

#[tokio::test]
async fn origins_that_are_gone_cost_no_request_while_another_is_there() {
    let gone = [gone().await, gone().await];
    let there = named("there", Duration::from_millis(20)).await;
    for lines in ["", "backup = true"] {
        let urls = gone.map(|address| format!("[[origin]]\nurl = \"http://{address}\"\n")).concat();
        let settings = format!("{urls}[[origin]]\nurl = \"http://{}\"\n{lines}", there.address);
        let scene = Scene::before(&[], MemoryStore::new(1 << 20), &settings).await;
        let visit = || async {
            for _ in 0..40 {
                assert_eq!(scene.get("/").await.status(), 200, "{lines}");
            }
        };
        join_all((0..10).map(|_| visit())).await;
    }
}

#[tokio::test]
async fn the_first_request_to_many_origins_that_are_gone_is_503() {
    let mut urls = String::new();
    for _ in 0..6 {
        urls += &format!("[[origin]]\nurl = \"http://{}\"\n", gone().await);
    }
    let scene = Scene::before(&[], MemoryStore::new(1 << 20), &urls).await;
    let reply = scene.get("/").await;
    assert_eq!((reply.status(), reply.header("retry-after")), (503, "1"));
    assert_eq!(reply.cache(), "BYPASS fwd=bypass; detail=origins-gone");
}

/// The address of an origin that has gone.
async fn gone() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_error_that_comes_fast_attracts_no_requests() {
    let failing = Origin::new(|_, _| Script::Close(answer("500 Oops", "Connection: close\r\n", "no"))).await;
    let well = named("well", Duration::from_millis(20)).await;
    let scene = before(&[(&failing, ""), (&well, "")], "").await;
    for _ in 0..100 {
        scene.get("/").await;
    }
    assert!(failing.count() < 20, "{}", failing.count());
}

#[tokio::test]
async fn all_gone_is_503_without_a_budget_of_retries_too() {
    let [one, other] = [quick("one").await, quick("other").await];
    let scene = before(&[(&one, ""), (&other, "")], "[origins]\nretry_budget = 0").await;
    one.stop().await;
    other.stop().await;
    // The first request of each finds out.
    scene.get("/").await;
    scene.get("/").await;
    for _ in 0..10 {
        let reply = scene.get("/").await;
        assert_eq!((reply.status(), reply.header("retry-after")), (503, "1"));
    }
}

#[tokio::test]
async fn probes_leave_an_origin_out_and_bring_it_back_without_a_request() {
    let is_well = Arc::new(AtomicBool::new(false));
    let asked = is_well.clone();
    let ill = Origin::new(move |seen, _| match asked.load(Relaxed) || seen.line.starts_with("GET /x") {
        true => Script::Close(page("Connection: close\r\n", "well")),
        false => Script::Close(answer("500 Internal Server Error", "", "ill")),
    })
    .await;
    let good = quick("good").await;
    let settings = "[origins]\nprobe = \"/healthz\"\nprobe_interval = \"20ms\"\neject_for = \"60s\"";
    let scene = before(&[(&ill, ""), (&good, "")], settings).await;
    while ill.count() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..30 {
        assert_eq!(scene.get("/x").await.text(), "good");
    }
    is_well.store(true, Relaxed);
    while scene.get("/x").await.text() != "well" {}
}
