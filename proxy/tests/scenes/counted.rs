//! Scripted loads whose every request, connection and byte is found again in the metrics, to one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::admin::Running;
use crate::backend::Backend;
use crate::metrics::sample;
use crate::support::{Client, Origin, PATIENCE, Script, exchange, page};

/// An origin that answers under `/held/` what the test sends, and nothing at all while it is down.
async fn held(is_down: Arc<AtomicBool>) -> (Origin, mpsc::UnboundedReceiver<mpsc::Sender<Vec<u8>>>) {
    Origin::piecewise_unless(move |seen| match is_down.load(Relaxed) {
        true => Some(Script::Close(Vec::new())),
        false => (!seen.line.contains("/held/")).then(|| Script::Answer(page("", "0123456789"))),
    })
    .await
}

#[tokio::test]
async fn every_outcome_is_counted_to_one() {
    let is_down = Arc::<AtomicBool>::default();
    let (origin, mut requests) = held(is_down.clone()).await;
    let running = Running::of(&format!(
        "origin = \"http://{}\"\nstore = \"memory\"\n[[cache_page]]\npath = \"/p/*\"\ntimeout = 1\nstale_if_error = 600\n\
         [[cache_page]]\npath = \"/held/*\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"TOKEN\"\n",
        origin.address
    ));
    // One leads, and six follow: each waits, so all seven are active.
    let get = b"GET /held/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..7 {
        let mut client = Client::connect(running.proxy).await;
        client.write(get).await;
        clients.push(client);
    }
    let answer = requests.recv().await.unwrap();
    running.until("cachepage_connections{state=\"active\"}", 7.0).await;
    answer.send(page("", "held")).await.unwrap();
    drop(answer);
    for client in &mut clients {
        assert_eq!(client.reply(true).await.text(), "held");
    }
    running.until("cachepage_connections{state=\"idle\"}", 7.0).await;
    let post = "POST /pass HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n";
    let post = [post.as_bytes(), &[b'x'; 1000]].concat();
    assert_eq!(exchange(running.proxy, &post).await.status(), 200);
    running.get("/p/", "").await;
    is_down.store(true, Relaxed);
    // Until the page is a second old.
    let stale = async {
        while !running.get("/p/", "").await.header("cache-status").contains("; detail=stale-if-error") {}
    };
    timeout(PATIENCE, stale).await.unwrap();
    let metrics = running.metrics().await;
    let of = |outcome: &str, rule: &str| {
        sample(&metrics, &format!("cachepage_requests_total{{outcome=\"{outcome}\",rule=\"{rule}\"}}"))
    };
    let outcomes = ["miss", "collapsed", "bypass", "hit", "stale", "error", "refused"];
    assert_eq!(outcomes.map(|outcome| of(outcome, "/held/*")), [1.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!((of("miss", "/p/*"), of("stale", "/p/*"), of("bypass", "")), (1.0, 1.0, 1.0));
    assert_eq!(sample(&metrics, "cachepage_bytes_total{direction=\"in\"}"), 1000.0);
    assert_eq!(running.get("/held/2", "").await.status(), 502);
    let error = "cachepage_requests_total{outcome=\"error\",rule=\"/held/*\"}";
    running.assert_samples(&[(error, 1), ("cachepage_connections{state=\"idle\"}", 7)]).await;
}

#[tokio::test]
async fn evictions_and_the_lag_of_purges_are_counted() {
    let large = Origin::new(|_, _| Script::Answer(page("", &"x".repeat(100_000)))).await;
    let top = "store = \"memory\"\nmemory_limit = \"1MiB\"\n[purge]\nallow = [\"127.0.0.0/8\"]\n";
    let running = Running::with(&large, top, "127.0.0.1:0", "");
    running
        .assert_samples(&[("cachepage_memory_evictions_total", 0), ("cachepage_near_evictions_total", 0)])
        .await;
    for number in 0..20 {
        running.get(&format!("/p/{number}"), "").await;
    }
    let metrics = running.metrics().await;
    let evictions = sample(&metrics, "cachepage_memory_evictions_total");
    assert!((10.0..20.0).contains(&evictions), "{evictions}");
    for _ in 0..2 {
        let purge = b"PURGE /p/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(exchange(running.proxy, purge).await.status(), 200);
    }
    running.assert_samples(&[("cachepage_purge_lag_seconds_count", 2)]).await;
}

#[tokio::test]
async fn a_purge_of_another_proxy_has_its_lag_counted_here() {
    let (redis, origin) = (Backend::start().unwrap(), Origin::pages("").await);
    let top = format!(
        "store = \"{}\"\ndeadlines.store = \"2s\"\n[purge]\nallow = [\"127.0.0.0/8\"]\n",
        redis.url()
    );
    let [one, other] = [(); 2].map(|()| Running::with(&origin, &top, "127.0.0.1:0", ""));
    for proxy in [&one, &other] {
        proxy.get("/p/1", "").await;
    }
    let purge = b"PURGE /p/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(one.proxy, purge).await.status(), 200);
    for proxy in [&one, &other] {
        proxy.until("cachepage_purge_lag_seconds_count", 1.0).await;
    }
    // On one machine both clocks are one.
    assert!(sample(&other.metrics().await, "cachepage_purge_lag_seconds_sum") < PATIENCE.as_secs_f64());
}
