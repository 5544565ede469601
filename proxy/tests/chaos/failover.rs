//! Nodes of a cluster fail, move and come back under load, and so does the master of Sentinels. No request fails, and the
//! pages of other nodes stay hits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use stack::{Brand, Cluster, Redis, Watched};
use tokio::task::{JoinHandle, block_in_place};

use crate::load::{CLIENTS, Client, Habit, Load, PAGES};
use crate::origin::Origin;
use crate::program::{Proxy, signal};
use crate::{PATIENCE, scenario_length, turn};

/// Shorter runs than this are too short for figures.
const FIGURES: Duration = Duration::from_secs(10);

/// How long after the store's own recovery its pages may still be missed.
const BACK: Duration = Duration::from_secs(1);

/// A fault of the node that has page 0.
struct Fault {
    name: &'static str,
    /// Returns when the cluster has recovered by itself.
    strikes: fn(&mut Cluster, usize),
    /// Makes the cluster whole again.
    passes: fn(&mut Cluster, usize),
    /// Whether it meets the nodes of other pages, too.
    meets_all: bool,
}

const KILLED: Fault = Fault {
    name: "a primary killed (-9)",
    strikes: |cluster, node| {
        let replica = cluster.replica_of(node);
        signal(cluster.nodes[node].pid(), "KILL");
        promoted(cluster, replica);
    },
    passes: |cluster, node| cluster.nodes[node].restart().unwrap(),
    meets_all: false,
};

const FAILOVER: Fault = Fault {
    name: "CLUSTER FAILOVER",
    strikes: |cluster, node| {
        let replica = cluster.replica_of(node);
        cluster.nodes[replica.unwrap()].cli(&["CLUSTER", "FAILOVER"]).unwrap();
        promoted(cluster, replica);
    },
    passes: |_, _| {},
    meets_all: false,
};

const FORCED: Fault = Fault {
    name: "CLUSTER FAILOVER FORCE",
    strikes: |cluster, node| {
        let replica = cluster.replica_of(node);
        cluster.nodes[replica.unwrap()].cli(&["CLUSTER", "FAILOVER", "FORCE"]).unwrap();
        promoted(cluster, replica);
    },
    passes: |_, _| {},
    meets_all: false,
};

const MOVED: Fault = Fault {
    name: "500 slots moved there and back",
    strikes: |cluster, node| {
        let other =
            (0..cluster.nodes.len()).find(|&other| other != node && cluster.nodes[other].is_primary());
        cluster.move_slots(node, other.unwrap(), 500).unwrap();
        cluster.move_slots(other.unwrap(), node, 500).unwrap();
    },
    passes: |_, _| {},
    meets_all: false,
};

const FROZEN: Fault = Fault {
    name: "a primary frozen (SIGSTOP)",
    strikes: |cluster, node| {
        let replica = cluster.replica_of(node);
        signal(cluster.nodes[node].pid(), "STOP");
        promoted(cluster, replica);
    },
    passes: |cluster, node| signal(cluster.nodes[node].pid(), "CONT"),
    meets_all: false,
};

const RESTARTED: Fault = Fault {
    name: "all nodes restarted one after the other",
    strikes: |cluster, _| {
        for node in 0..cluster.nodes.len() {
            let replica = cluster.replica_of(node);
            signal(cluster.nodes[node].pid(), "KILL");
            promoted(cluster, replica);
            cluster.nodes[node].restart().unwrap();
            cluster.wait_until_complete().unwrap();
        }
    },
    passes: |_, _| {},
    meets_all: true,
};

/// Waits until a replica, if there is one, is a primary.
fn promoted(cluster: &Cluster, replica: Option<usize>) {
    let Some(replica) = replica else { return };
    let started = Instant::now();
    while !cluster.nodes[replica].is_primary() {
        assert!(started.elapsed() < PATIENCE, "the replica is not promoted");
        sleep(Duration::from_millis(5));
    }
}

/// The key of each page.
fn keys(cluster: &Cluster) -> Vec<String> {
    let of_nodes = cluster.nodes.iter().filter_map(|node| node.cli(&["KEYS", "*"]).ok());
    let all = of_nodes.collect::<Vec<_>>().join("\n");
    let key_of = |page| all.lines().find(|key| key.contains(&format!("./p/{page}."))).unwrap().to_owned();
    (0..PAGES).map(key_of).collect()
}

fn settings(origin: &Origin, store: &str) -> String {
    // In a debug build, or beside other tests, a node that has to wait for a core is not a silent one.
    let deadline = if scenario_length() >= FIGURES && !cfg!(debug_assertions) { 50 } else { 1000 };
    format!(
        "deadlines.store = \"{deadline}ms\"\nlisten = \"127.0.0.1:0\"\nsite = \"localhost\"\norigin = \"http://{}\"\n\
         store = \"{store}\"\n[[cache_page]]\npath = \"/p/*\"\ntimeout = 3600\n",
        origin.address
    )
}

/// Asks for some pages all the time, and counts the answers that are no hits.
fn watch(proxy: &Proxy, pages: Vec<usize>) -> (JoinHandle<()>, Arc<AtomicUsize>) {
    let (mut client, misses) = (Client::new(proxy.address, Habit::KeepAlive), Arc::<AtomicUsize>::default());
    let counter = misses.clone();
    let task = tokio::spawn(async move {
        for page in pages.into_iter().cycle() {
            let answer = client.fetch(&format!("/p/{page}")).await.unwrap();
            counter.fetch_add(usize::from(!answer.is_hit), Ordering::Relaxed);
        }
    });
    (task, misses)
}

/// Fills the store, and waits until the pages are in the replicas, too.
async fn fill(proxy: &Proxy, servers: &[Redis]) {
    let mut client = Client::new(proxy.address, Habit::KeepAlive);
    for page in 0..PAGES {
        client.fetch(&format!("/p/{page}")).await.unwrap();
    }
    block_in_place(|| {
        for server in servers {
            // A master that is demoted at this moment cuts its clients.
            while server.is_primary() && server.cli(&["WAIT", "1", "2000"]).is_err() {}
        }
    });
}

/// Asks for page 0 until it is a hit. Returns how long that took.
async fn back(proxy: &Proxy) -> Duration {
    let (mut client, began) = (Client::new(proxy.address, Habit::KeepAlive), Instant::now());
    while !client.fetch("/p/0").await.unwrap().is_hit {
        assert!(began.elapsed() < PATIENCE, "the page never is a hit again");
    }
    began.elapsed()
}

/// A load, and a fault in its middle. `strikes` returns when the store has recovered by itself.
async fn under_load(name: &str, proxy: &Proxy, strikes: impl FnOnce()) {
    let load = Load::start(&[proxy.address], CLIENTS, Habit::KeepAlive);
    load.hits(CLIENTS).await;
    let calm = Instant::now();
    tokio::time::sleep(scenario_length() / 4).await;
    let struck = Instant::now();
    block_in_place(strikes);
    let recovered = Instant::now();
    let back = back(proxy).await;
    tokio::time::sleep(scenario_length() / 4).await;
    load.hits(CLIENTS).await;
    let end = Instant::now();
    let seen = load.stop().await;
    let after = seen.between(recovered + BACK, end.max(recovered + BACK));
    println!("{name}: {:?} failed, hits again {} ms after the store", seen.failures(), back.as_millis());
    println!("  calm         {}", seen.between(calm, struck));
    println!("  in the fault {}", seen.between(struck, recovered));
    assert!(
        seen.failures().is_empty() && seen.retried == 0,
        "{name}: {:?}\n{}",
        seen.failures(),
        proxy.log()
    );
    if scenario_length() >= FIGURES {
        println!("  after        {after}");
        assert!(back < BACK, "{name}: {back:?}");
        assert_eq!(after.hits, after.answers, "{name}");
    }
}

async fn on_a_cluster(faults: &[Fault]) {
    let _turn = turn().await;
    let mut cluster = block_in_place(|| Cluster::start(Brand::chosen(), 3, 1)).unwrap();
    let origin = Origin::start().await;
    let proxy = block_in_place(|| Proxy::start(&settings(&origin, &cluster.url())));
    for fault in faults {
        fill(&proxy, &cluster.nodes).await;
        let keys = block_in_place(|| keys(&cluster));
        let node = cluster.owner(&keys[0]).unwrap();
        let others = (0..PAGES).filter(|&page| fault.meets_all || cluster.owner(&keys[page]) != Some(node));
        let (watch, misses) = watch(&proxy, others.take(5).collect());
        under_load(fault.name, &proxy, || (fault.strikes)(&mut cluster, node)).await;
        watch.abort();
        assert!(watch.await.unwrap_err().is_cancelled(), "{}: a page of another node failed", fault.name);
        let misses = misses.load(Ordering::Relaxed);
        println!("  pages of other nodes: {misses} missed");
        assert!(fault.meets_all || misses == 0, "{}: {misses} pages of other nodes were missed", fault.name);
        block_in_place(|| {
            (fault.passes)(&mut cluster, node);
            cluster.wait_until_complete().unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_fails_over_fails_no_request() {
    match scenario_length() >= FIGURES {
        true => on_a_cluster(&[KILLED, FAILOVER, FORCED, MOVED, FROZEN, RESTARTED]).await,
        false => on_a_cluster(&[KILLED, FAILOVER]).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_sentinels_replace_fails_no_request() {
    let _turn = turn().await;
    let watched = block_in_place(|| Watched::start(Brand::chosen())).unwrap();
    let origin = Origin::start().await;
    let proxy = block_in_place(|| Proxy::start(&settings(&origin, &watched.url())));
    for (name, strikes) in [
        ("SENTINEL FAILOVER", Box::new(|| drop(watched.fail_over().unwrap())) as Box<dyn Fn()>),
        (
            "the master killed (-9)",
            Box::new(|| signal(watched.servers[watched.master().unwrap()].pid(), "KILL")),
        ),
    ] {
        fill(&proxy, &watched.servers).await;
        let master = watched.master().unwrap();
        under_load(name, &proxy, || {
            strikes();
            let started = Instant::now();
            while watched.master() == Some(master) {
                assert!(started.elapsed() < PATIENCE, "the master stays");
                sleep(Duration::from_millis(5));
            }
        })
        .await;
        block_in_place(|| {
            if name.starts_with("SENTINEL") {
                watched.wait_until_ready().unwrap()
            }
        });
    }
}
