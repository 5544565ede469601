//! The moments in which a purge is hardest to keep, one at a time. The checker meets them seldom.

use std::time::Duration;

use proxy::RedisStore;
use stack::{Brand, Cluster, Redis, SlotMove};
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use super::line::Line;
use super::lines::Lines;
use super::servers::{replica_of, seconds_of};
use super::{BOUND, LOG};
use crate::backend::Backend;
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
    let mut primary = Redis::start().unwrap();
    let (origin, mut requests) = Origin::piecewise().await;
    let line = Line::to(primary.port()).await;
    let store = RedisStore::new(&line.url(), Duration::from_secs(2), 1 << 20).unwrap();
    let scene = Scene::with(origin.address, store, &format!("{RULES}{PURGE}")).await;
    let mut ahead = 0;
    let overtaken = async {
        // If the proxy has read the log of the new primary before the fill ends, it does not store the page.
        while primary.cli(&["KEYS", "*/p/*"]).unwrap().is_empty() {
            purge(&scene, "/p/other").await;
            let replica = block_in_place(|| replica_of(&primary));
            ahead = seconds_of(&primary) + 600;
            primary.cli(&["XADD", LOG, &format!("{ahead}000-0"), "k", "tag", "v", "lost"]).unwrap();
            // It is acknowledged when this proxy has read the log up to it, and so the one before.
            purge(&scene, "/p/other").await;
            let mut filled = ask(&scene).await;
            let fill = next(&mut requests).await;
            line.lead_to(replica.port());
            fill.send(undated("", "old")).await.unwrap();
            drop(fill);
            filled.reply(true).await;
            primary = replica;
        }
    };
    timeout(PATIENCE, overtaken).await.expect("the page is stored on the new primary");
    purge(&scene, "/p/").await;
    // Later the log of the new primary goes beyond the place of the page.
    primary.cli(&["XADD", LOG, &format!("{ahead}001-0"), "k", "tag", "v", "other"]).unwrap();
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

/// The log goes to another node, a proxy learns so, and the log is taken back before the proxy asks there. The purge is in the
/// one log that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_taken_back_while_it_is_asked_for_stays_one() {
    let mut store = block_in_place(|| Cluster::start(Brand::chosen(), 3, 0).map(Backend::Cluster)).unwrap();
    let lines = Lines::to(&mut store).await;
    let Backend::Cluster(cluster) = &store else { unreachable!() };
    let origin = Origin::pages("").await;
    let settings = format!("{RULES}{PURGE}");
    let here = Scene::over(Setup::Plain, &lines.url, &origin, &settings).await;
    let there = Scene::over(Setup::Plain, &cluster.url(), &origin, &settings).await;
    purge(&here, "/p/other").await;
    let old = stored(&there).await;
    // On a busy machine the log is back too late for the purge.
    let acknowledged = async { while !is_purged_while_the_log_returns(cluster, &lines, &here).await {} };
    timeout(3 * PATIENCE, acknowledged).await.expect("the purge is acknowledged");
    sleep(BOUND).await;
    assert_ne!(there.get("/p/").await.text(), old, "{OLD}");
}

/// Returns whether the purge is acknowledged.
async fn is_purged_while_the_log_returns(cluster: &Cluster, lines: &Lines, here: &Scene) -> bool {
    let begun = block_in_place(|| SlotMove::begin(cluster, LOG)).unwrap();
    block_in_place(|| begun.migrate(LOG)).unwrap();
    let other = lines.to_port(begun.new_owner().port());
    other.hold(u64::MAX);
    let before = other.connections();
    let mut purging = here.connect().await;
    purging.write(b"PURGE /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    other.connected(before + 1).await;
    block_in_place(|| begun.take_back(LOG)).unwrap();
    // Only the purge is let go: no reader of the log makes good what it does.
    other.hold(!(1 << (before % 64)));
    let status = purging.reply(true).await.status();
    other.hold(0);
    block_in_place(|| begun.stay()).unwrap();
    status == 200
}

/// Has a page stored, and returns it.
async fn stored(scene: &Scene) -> String {
    let hit = async {
        loop {
            let reply = scene.get("/p/").await;
            if reply.header("x-cache") == "HIT" {
                return reply.text().to_owned();
            }
        }
    };
    timeout(PATIENCE, hit).await.expect("the page is stored")
}
