//! Purging on a cluster, where the log is in one node.

use std::time::Duration;

use stack::{Brand, Cluster, SlotMove};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use crate::near::KEY;
use crate::purge::PURGE as PURGING;
use crate::support::{Origin, PATIENCE, RULES, Scene, Setup};

const LOG: &str = ":1:views.decorators.cache.cache_page.purges";

/// Nothing from before a purge is served later than this after its acknowledgement.
const BOUND: Duration = Duration::from_millis(50);

/// A page that is not purged.
const OTHER: &str = "/p/other";

const PURGE: &str = "PURGE /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_node_of_the_log_pages_come_from_the_origin_and_nothing_is_purged() {
    let mut cluster = block_in_place(|| Cluster::start(Brand::chosen(), 3, 0)).unwrap();
    let (origin, log) = (Origin::pages("").await, cluster.owner(LOG).unwrap());
    let is_elsewhere = |path: &String| cluster.owner(&KEY.replace("/p/", path)) != Some(log);
    let mut paths = (0..).map(|number| format!("/p/{number}")).filter(is_elsewhere);
    let (path, other) = (paths.next().unwrap(), paths.next().unwrap());
    drop(paths);
    let settings = format!("{RULES}[purge]\nallow = [\"127.0.0.1\"]\n");
    let purging = Scene::over(Setup::Near, &cluster.url(), &origin, &settings).await;
    let plain = Scene::over(Setup::Near, &cluster.url(), &origin, RULES).await;
    let is_hit = async |scene: &Scene, path: &str| scene.get(path).await.header("x-cache") == "HIT";
    let hits = async {
        while !is_hit(&purging, &path).await {}
        while !is_hit(&plain, &other).await {}
    };
    timeout(PATIENCE, hits).await.expect("the pages are stored");
    assert_eq!(purging.send(PURGE).await.status(), 200);

    cluster.nodes[log].stop();
    let reply = purging.get(&path).await;
    assert_eq!((reply.status(), reply.cache()), (200, "MISS fwd=miss; detail=store-unreachable".to_owned()));
    assert_eq!(purging.send(PURGE).await.status(), 503);
    assert!(is_hit(&plain, &other).await, "without purging only the pages of that node are missed");

    block_in_place(|| cluster.nodes[log].restart().and_then(|()| cluster.wait_until_complete())).unwrap();
    let back = async { while !is_hit(&purging, &path).await {} };
    timeout(PATIENCE, back).await.expect("pages are hits again");
    assert_eq!(purging.send(PURGE).await.status(), 200);
}

/// The slot of the log moves to another node, and the log with it. Then it nearly moves on: it is taken back, and the owner
/// has no log for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_count_while_the_slot_of_the_log_moves() {
    let cluster = block_in_place(|| Cluster::start(Brand::chosen(), 3, 0)).unwrap();
    let origin = Origin::pages("").await;
    let settings = format!("{RULES}{PURGING}");
    let mut scenes = Vec::new();
    for _ in 0..2 {
        scenes.push(Scene::over(Setup::Near, &cluster.url(), &origin, &settings).await);
    }
    are_hits(&scenes, "/p/", "at the start").await;
    are_hits(&scenes, OTHER, "at the start").await;
    let move_ = SlotMove::begin(&cluster, LOG).unwrap();
    a_purge_alone_counts(&scenes, "the slot begins to move").await;
    move_.migrate(LOG).unwrap();
    a_purge_alone_counts(&scenes, "the log is on the other side").await;
    move_.end().unwrap();
    a_purge_alone_counts(&scenes, "the slot is on the other side").await;
    let move_ = SlotMove::begin(&cluster, LOG).unwrap();
    move_.migrate(LOG).unwrap();
    a_purge_alone_counts(&scenes, "the slot moves on").await;
    move_.take_back(LOG).and_then(|()| move_.stay()).unwrap();
    a_purge_counts(&scenes, "the log is back").await;
}

/// The same, and the other page stays a hit.
async fn a_purge_alone_counts(scenes: &[Scene], when: &str) {
    a_purge_counts(scenes, when).await;
    for scene in scenes {
        let reply = scene.get(OTHER).await;
        assert_eq!(reply.header("x-cache"), "HIT", "{when}: the other page was not purged: {reply:?}");
    }
}

/// The first proxy acknowledges a purge, none serves the old page, and then all have the new one.
async fn a_purge_counts(scenes: &[Scene], when: &str) {
    let old = scenes[0].get("/p/").await.text().to_owned();
    let reply = scenes[0].send(PURGE).await;
    assert_eq!(reply.status(), 200, "{when}: {reply:?}");
    sleep(BOUND).await;
    for scene in scenes {
        assert_ne!(scene.get("/p/").await.text(), old, "{when}: the page was purged");
    }
    are_hits(scenes, "/p/", when).await;
}

async fn are_hits(scenes: &[Scene], path: &str, when: &str) {
    let hits = async {
        for scene in scenes {
            while scene.get(path).await.header("x-cache") != "HIT" {}
        }
    };
    timeout(PATIENCE, hits).await.unwrap_or_else(|_| panic!("{when}: the page is no hit"));
}
