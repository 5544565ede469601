//! The moments in which a purge is hardest to keep, one at a time. The checker meets them seldom.

use std::time::Duration;

use proxy::RedisStore;
use stack::Redis;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::disturber::{replica_of, seconds_of};
use super::line::Line;
use super::{BOUND, LOG};
use crate::purge::{OLD, PURGE, purging};
use crate::support::{Client, Origin, PATIENCE, RULES, Scene, Setup, answer};

type Requests = mpsc::UnboundedReceiver<mpsc::Sender<Vec<u8>>>;

/// Rules under which a page is validated before it is served, until the origin says otherwise.
const HTTP: &str = "[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\npolicy = \"http\"\n";

/// Sends a request for the page, whose answer is not read yet.
async fn ask(scene: &Scene) -> Client {
    let mut client = scene.connect().await;
    client.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    client
}

/// The next request that the origin gets.
async fn next(requests: &mut Requests) -> mpsc::Sender<Vec<u8>> {
    timeout(PATIENCE, requests.recv()).await.expect("the origin is asked").unwrap()
}

/// A page that was made just now.
fn undated(lines: &str, text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

/// Purges until that is acknowledged: connections may have been cut.
async fn purge(scene: &Scene, target: &str) {
    let request = format!("PURGE {target} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n");
    let acknowledged = async { while scene.send(&request).await.status() != 200 {} };
    timeout(PATIENCE, acknowledged).await.expect("the purge is acknowledged");
}

/// Expects that a new page is asked of the origin, and served.
async fn is_fetched(scene: &Scene, requests: &mut Requests) {
    let mut client = ask(scene).await;
    let reply = tokio::select! {
        origin = next(requests) => {
            origin.send(undated("Cache-Control: max-age=60\r\n", "new")).await.unwrap();
            client.reply(true).await
        }
        reply = client.reply(true) => reply,
    };
    assert_eq!(reply.text(), "new", "{OLD}");
}

/// Has a page stored that is validated before it is served.
async fn store_old(scene: &Scene, requests: &mut Requests) {
    let mut client = ask(scene).await;
    let page = undated("Cache-Control: no-cache\r\nETag: \"1\"\r\n", "old");
    next(requests).await.send(page).await.unwrap();
    client.reply(true).await;
}

/// A purge comes while the origin is asked whether the page is current. The origin says so, and for how long it is fresh.
#[tokio::test]
async fn a_page_that_is_confirmed_while_it_is_purged_stays_purged() {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = purging(Setup::Near, &origin, HTTP).await;
    store_old(&scene, &mut requests).await;
    let mut confirmed = ask(&scene).await;
    let validation = next(&mut requests).await;
    purge(&scene, "/p/").await;
    let fresh = "Cache-Control: max-age=60\r\nETag: \"1\"\r\n";
    validation.send(format!("HTTP/1.1 304 Not Modified\r\n{fresh}\r\n").into_bytes()).await.unwrap();
    drop(validation);
    assert_eq!(confirmed.reply(true).await.text(), "old", "it was asked for before the purge");
    is_fetched(&scene, &mut requests).await;
}

/// A page is deleted and stored anew by another proxy while the origin is asked whether the old one is current.
#[tokio::test]
async fn a_page_that_is_confirmed_late_takes_no_place_of_a_newer_one() {
    let redis = Redis::start().unwrap();
    let (origin, mut requests) = Origin::piecewise().await;
    let settings = format!("{HTTP}{PURGE}");
    let here = Scene::over(Setup::Plain, &redis.url(), &origin, &settings).await;
    let there = Scene::over(Setup::Plain, &redis.url(), &origin, &settings).await;
    store_old(&here, &mut requests).await;
    let mut confirmed = ask(&here).await;
    let validation = next(&mut requests).await;
    let key = redis.cli(&["KEYS", "*/p/*"]).unwrap();
    redis.cli(&["DEL", &key]).unwrap();
    is_fetched(&there, &mut requests).await;
    let fresh = "Cache-Control: max-age=60\r\nETag: \"1\"\r\n";
    validation.send(format!("HTTP/1.1 304 Not Modified\r\n{fresh}\r\n").into_bytes()).await.unwrap();
    drop(validation);
    confirmed.reply(true).await;
    assert_eq!(there.get("/p/").await.text(), "new", "{OLD}");
}

/// A fill begins before a failover and ends after it. The log of the new primary lacks the place that the page has, and its
/// clock is behind, so a purge has an earlier place there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_a_failover_overtakes_is_found_by_purges_of_the_new_primary() {
    let primary = Redis::start().unwrap();
    let (origin, mut requests) = Origin::piecewise().await;
    let line = Line::to(primary.port()).await;
    let store = RedisStore::new(&line.url(), Duration::from_secs(2), 1 << 20).unwrap();
    let scene = Scene::with(origin.address, store, &format!("{RULES}{PURGE}")).await;
    purge(&scene, "/p/other").await;
    let replica = tokio::task::block_in_place(|| replica_of(&primary));
    let ahead = seconds_of(&primary) + 600;
    primary.cli(&["XADD", LOG, &format!("{ahead}000-0"), "k", "tag", "v", "lost"]).unwrap();
    // It is acknowledged when this proxy has read the log up to it, and so the one before.
    purge(&scene, "/p/other").await;
    let mut filled = ask(&scene).await;
    let fill = next(&mut requests).await;
    line.lead_to(replica.port());
    fill.send(undated("", "old")).await.unwrap();
    drop(fill);
    filled.reply(true).await;
    let stored = replica.cli(&["KEYS", "*/p/*"]).unwrap();
    assert!(!stored.is_empty(), "the page is stored on the new primary");
    purge(&scene, "/p/").await;
    // Later the log of the new primary goes beyond the place of the page.
    replica.cli(&["XADD", LOG, &format!("{ahead}001-0"), "k", "tag", "v", "other"]).unwrap();
    purge(&scene, "/p/other").await;
    is_fetched(&scene, &mut requests).await;
}

/// Redis has said that nothing was purged, then something is; what it said first arrives late.
#[tokio::test]
async fn what_redis_has_said_before_a_purge_is_no_news_when_it_arrives_late() {
    let redis = Redis::start().unwrap();
    let (origin, mut requests) = Origin::piecewise().await;
    let line = Line::to(redis.port()).await;
    let settings = Setup::Near.settings(&format!("{RULES}{PURGE}"));
    let store = RedisStore::new(&line.url(), Duration::from_millis(50), 1 << 20).unwrap();
    let here = Scene::with(origin.address, store, &settings).await;
    let there = Scene::over(Setup::Plain, &redis.url(), &origin, &format!("{RULES}{PURGE}")).await;
    let mut first = ask(&here).await;
    next(&mut requests).await.send(undated("", "old")).await.unwrap();
    first.reply(true).await;
    let near = async { while !here.get("/p/").await.header("cache-status").ends_with("detail=near") {} };
    timeout(PATIENCE, near).await.expect("the page is near");
    line.hold_replies().await;
    purge(&there, "/p/").await;
    sleep(BOUND).await;
    line.pass_a_reply();
    let answers = async {
        while let Some(origin) = requests.recv().await {
            origin.send(answer("503 Service Unavailable", "", "new")).await.unwrap();
        }
    };
    let reads = async {
        for _ in 0..4 {
            assert_eq!(here.get("/p/").await.text(), "new", "{OLD}");
        }
    };
    tokio::select! { () = reads => {}, () = answers => unreachable!() }
}
