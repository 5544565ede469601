//! Purging on a cluster, where the log is in one node.

use stack::{Brand, Cluster};
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::near::KEY;
use crate::support::{Origin, PATIENCE, RULES, Scene, Setup};

const LOG: &str = ":1:views.decorators.cache.cache_page.purges";

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
