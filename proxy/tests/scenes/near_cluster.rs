//! The near cache over a cluster: it is never behind, while primaries and replicas change places and slots move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{Client, RedisError};
use rand::RngExt as _;
use stack::{Brand, Cluster};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep, timeout};

use crate::near::{BOUND, VersionedPage, is_near, numbered_key, stored};
use crate::support::{Origin, RULES, Scene, Script, Setup, page};

const PAGES: usize = 8;

/// Pages with versions, which are changed in a cluster while it changes itself.
struct Laboratory {
    cluster: Cluster,
    pages: Vec<VersionedPage>,
    reads: AtomicUsize,
    near: AtomicUsize,
    changes: AtomicUsize,
    is_over: AtomicBool,
}

/// A client of one node, which goes where a redirect sends it.
struct Writer {
    port: u16,
    connection: Option<MultiplexedConnection>,
}

impl Writer {
    /// Puts a value, until the cluster has acknowledged it.
    async fn put(&mut self, cluster: &Cluster, key: &str, value: &str) {
        loop {
            match timeout(Duration::from_secs(1), self.try_put(key, value)).await {
                Ok(Ok(())) => return,
                // MOVED or ASK: the slot, and the node.
                Ok(Err(error)) if error.redirect_node().is_some() => {
                    let (_, port) = error.redirect_node().unwrap();
                    self.go_to(port);
                }
                _ => {
                    let node = rand::rng().random_range(0..cluster.nodes.len());
                    self.go_to(cluster.nodes[node].port());
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn try_put(&mut self, key: &str, value: &str) -> Result<(), RedisError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let client = Client::open(format!("redis://127.0.0.1:{}", self.port))?;
                self.connection.insert(client.get_multiplexed_async_connection().await?)
            }
        };
        // A key on its way to another node is there for who asks so.
        let mut both = bb8_redis::redis::pipe();
        both.cmd("ASKING").ignore().cmd("SETEX").arg(key).arg(60).arg(value);
        both.exec_async(connection).await
    }

    fn go_to(&mut self, port: u16) {
        *self = Self { port, connection: None };
    }
}

impl Laboratory {
    async fn change(&self, number: usize) {
        let mut writer = Writer { port: self.cluster.nodes[0].port(), connection: None };
        let page = &self.pages[number];
        while !self.is_over.load(Ordering::Relaxed) {
            let version = page.version.fetch_add(1, Ordering::SeqCst) + 1;
            writer
                .put(
                    &self.cluster,
                    &numbered_key(number),
                    &stored(&numbered_key(number), &version.to_string()),
                )
                .await;
            page.raise(Instant::now() + BOUND, version);
            let pause = rand::rng().random_range(0..100);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn read(&self, scene: &Scene, number: usize) {
        let reply = self.pages[number].read(scene, number).await;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.near.fetch_add(usize::from(is_near(&reply)), Ordering::Relaxed);
    }

    /// Lets a replica take its primary's place, and moves slots from one primary to another, in turn.
    fn disturb(&self) {
        let cluster = &self.cluster;
        while !self.is_over.load(Ordering::Relaxed) {
            for number in 0..PAGES {
                let Some(owner) = cluster.owner(&numbered_key(number)) else { continue };
                let Some(replica) = cluster.replica_of(owner) else { continue };
                // A replica that is not in step yet refuses.
                let _ = cluster.nodes[replica].cli(&["CLUSTER", "FAILOVER"]);
                let _ = cluster.wait_until_complete();
                let other = (0..PAGES)
                    .filter_map(|other| cluster.owner(&numbered_key(other)))
                    .find(|&other| other != replica);
                if let Some(other) = other {
                    let _ = cluster.move_slots(replica, other, 100);
                }
                self.changes.fetch_add(1, Ordering::Relaxed);
                if self.is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

/// `CACHEPAGE_TEST_READS=100000 cargo test --release -p proxy --test scenes near_cluster` for the long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coherence_on_a_cluster_whose_nodes_change_places() {
    let reads = std::env::var("CACHEPAGE_TEST_READS").map_or(2_000, |reads| reads.parse().unwrap());
    let cluster = block_in_place(|| Cluster::start(Brand::chosen(), 3, 1)).unwrap();
    // What the origin has is never stored: the cluster holds what the writers wrote.
    let origin = Origin::new(|_, _| Script::Answer(page("Cache-Control: private\r\n", "origin"))).await;
    let mut scenes = Vec::new();
    for _ in 0..2 {
        scenes.push(Scene::over(Setup::Near, &cluster.url(), &origin, RULES).await);
    }
    let laboratory = Arc::new(Laboratory {
        cluster,
        pages: (0..PAGES).map(|_| VersionedPage::default()).collect(),
        reads: AtomicUsize::new(0),
        near: AtomicUsize::new(0),
        changes: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let mut others = JoinSet::new();
    for number in 0..PAGES {
        let laboratory = laboratory.clone();
        others.spawn(async move { laboratory.change(number).await });
    }
    let disturber = laboratory.clone();
    let disturbing = std::thread::spawn(move || disturber.disturb());
    let (scenes, mut readers) = (Arc::new(scenes), JoinSet::new());
    for reader in 0..4 {
        let (laboratory, scenes) = (laboratory.clone(), scenes.clone());
        readers.spawn(async move {
            let goes_on = || {
                laboratory.reads.load(Ordering::Relaxed) < reads
                    || laboratory.changes.load(Ordering::Relaxed) < 2
            };
            while goes_on() {
                let number = rand::rng().random_range(0..PAGES);
                laboratory.read(&scenes[reader % 2], number).await;
            }
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    laboratory.is_over.store(true, Ordering::Relaxed);
    block_in_place(|| disturbing.join()).unwrap();
    while let Some(other) = others.join_next().await {
        other.unwrap();
    }
    let count = |figure: &AtomicUsize| figure.load(Ordering::Relaxed);
    let (all, near) = (count(&laboratory.reads), count(&laboratory.near));
    println!("{all} reads, {near} of them near, {} changes of the cluster", count(&laboratory.changes));
    assert!(near > all / 20, "{near} of {all} reads were near: that shows little");
}
