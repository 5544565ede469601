//! What fails of the servers behind a store: one is killed, frozen, restarted or replaced, and slots move.

use std::process::Command;
use std::time::Duration;

use rand::RngExt as _;
use stack::{Brand, Cluster, Redis, SlotMove, StackError, Watched};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use super::fleet::Fleet;
use super::laboratory::is_hit;
use super::{BOUND, PAGES};
use crate::backend::Backend;
use crate::support::PATIENCE;

/// How many seconds the clock of a Redis that is replaced is ahead of its successor's.
const AHEAD: u64 = 2;

const PROMOTED: &str = "a replica takes the place of its primary";

impl Fleet {
    /// A server is killed, and an empty one takes its place at once.
    pub(super) async fn restart_server(&self) {
        let mut store = self.store.write().await;
        let server = any(store.servers().len());
        block_in_place(|| match &mut *store {
            Backend::Alone(redis) => redis.restart(),
            Backend::Sentinel(watched) => watched.restart(server),
            Backend::Cluster(cluster) => {
                cluster.nodes[server].restart().and_then(|()| cluster.wait_until_complete())
            }
        })
        .unwrap();
    }

    pub(super) async fn fail_over(&self) {
        let mut store = self.store.write().await;
        match &mut *store {
            Backend::Alone(primary) => self.replace(primary).await,
            Backend::Sentinel(watched) => fail_over_sentinels(watched).await,
            Backend::Cluster(cluster) => {
                let primary = self.any_primary(cluster);
                let Some(replica) = block_in_place(|| cluster.replica_of(primary)) else { return };
                let kind = [&["FAILOVER"][..], &["FAILOVER", "FORCE"], &["FAILOVER", "TAKEOVER"]][any(3)];
                let said = block_in_place(|| cluster.nodes[replica].cli(&[&["CLUSTER"], kind].concat()));
                // Refused while the replica is not in step.
                if said.is_ok_and(|said| said == "OK") {
                    is_so(|| cluster.nodes[replica].is_primary()).await;
                }
                block_in_place(|| cluster.wait_until_complete()).unwrap();
            }
        }
    }

    /// A primary is killed. Its replica takes its place, and then it comes back.
    pub(super) async fn kill_primary(&self) {
        let mut store = self.store.write().await;
        match &mut *store {
            Backend::Alone(_) => {}
            Backend::Sentinel(watched) => {
                let Some(master) = watched.master() else { return };
                signal(&watched.servers[master], "KILL");
                assert!(is_so(|| watched.master() != Some(master)).await, "{PROMOTED}");
                block_in_place(|| watched.restart(master)).unwrap();
                let _ = block_in_place(|| watched.wait_until_ready());
            }
            Backend::Cluster(cluster) => {
                let primary = self.any_primary(cluster);
                let Some(replica) = block_in_place(|| cluster.replica_of(primary)) else { return };
                signal(&cluster.nodes[primary], "KILL");
                assert!(is_so(|| cluster.nodes[replica].is_primary()).await, "{PROMOTED}");
                block_in_place(|| {
                    cluster.nodes[primary].restart().and_then(|()| cluster.wait_until_complete())
                })
                .unwrap();
            }
        }
    }

    /// A server says nothing for a while. Sometimes that is so long that a replica takes its place.
    pub(super) async fn freeze_server(&self) {
        let mut store = self.store.write().await;
        let server = match &mut *store {
            Backend::Alone(_) => 0,
            Backend::Sentinel(watched) => watched.master().unwrap_or_default(),
            Backend::Cluster(cluster) => self.any_primary(cluster),
        };
        let has_replica = !matches!(*store, Backend::Alone(_));
        let frozen = &store.servers()[server];
        signal(frozen, "STOP");
        let longest = if has_replica && rand::rng().random_ratio(1, 3) { 2_000 } else { 250 };
        let pause = Duration::from_millis(rand::rng().random_range(20..longest));
        sleep(pause).await;
        signal(frozen, "CONT");
        match &*store {
            Backend::Alone(_) => {}
            Backend::Sentinel(watched) => roles_assigned(watched).await,
            Backend::Cluster(cluster) => block_in_place(|| cluster.wait_until_complete()).unwrap(),
        }
    }

    /// A slot of a cluster moves with its keys, that of the log or of a page. Now and then it stays after all.
    pub(super) async fn move_slot(&self) {
        let store = self.store.read().await;
        let Backend::Cluster(cluster) = &*store else { return };
        let key = self.any_key();
        let begun = block_in_place(|| SlotMove::begin(cluster, &key)).unwrap();
        let pause = || sleep(Duration::from_millis(rand::rng().random_range(0..100)));
        pause().await;
        if rand::rng().random_ratio(1, 4) {
            return block_in_place(|| begun.stay()).unwrap();
        }
        block_in_place(|| begun.migrate_all()).unwrap();
        pause().await;
        block_in_place(|| {
            begun.migrate_all()?;
            begun.end()?;
            cluster.wait_until_complete()
        })
        .unwrap();
    }

    /// The primary that has the log, or a page.
    fn any_primary(&self, cluster: &Cluster) -> usize {
        let key = self.any_key();
        block_in_place(|| cluster.owner(&key)).expect("each slot has an owner")
    }

    /// The key of the log, or of a page without its query.
    fn any_key(&self) -> String {
        match rand::rng().random() {
            true => self.kind.log().to_owned(),
            false => format!(
                ":1:views.decorators.cache.cache_page.GET./p/{}.d41d8cd98f00b204e9800998ecf8427e",
                any(PAGES)
            ),
        }
    }

    /// Puts a replica into the place of its primary, which has gone on without it.
    async fn replace(&self, primary: &mut Redis) {
        let replica = block_in_place(|| replica_of(primary));
        block_in_place(|| {
            let ahead = seconds_of(primary) + AHEAD;
            let id = format!("{ahead}000-0");
            primary.cli(&["XADD", self.kind.log(), &id, "k", "tag", "v", "lost"]).unwrap();
        });
        // Pages get positions that the new primary does not have, and are stored there.
        let pause = Duration::from_millis(rand::rng().random_range(20..100));
        sleep(pause).await;
        let _none_is_under_way = self.purging.write().await;
        if !self.is_spread().await {
            return;
        }
        self.lines.iter().for_each(|lines| lines.lead_to(replica.port()));
        block_in_place(|| *primary = replica);
    }

    /// Waits until each proxy has heard of every purge: what fewer know is lost with Redis. A hit shows that.
    async fn is_spread(&self) -> bool {
        sleep(BOUND).await;
        for number in 0..self.lines.len() {
            let member = self.member(number);
            let hit = async { while !is_hit(&member.scene.get("/p/0").await) {} };
            if timeout(PATIENCE, hit).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// The old master goes on for a while, as it does until the Sentinels demote it.
async fn fail_over_sentinels(watched: &Watched) {
    let before = watched.master();
    // Refused while another failover is under way, and given up if the replica is not in step.
    let said = block_in_place(|| watched.fail_over());
    if said.is_ok_and(|said| said == "OK") {
        is_so(|| watched.master() != before).await;
    }
    let pause = Duration::from_millis(rand::rng().random_range(0..2_000));
    sleep(pause).await;
    roles_assigned(watched).await;
}

/// Gives servers their roles, and waits until the Sentinels know.
async fn roles_assigned(watched: &Watched) {
    // A failover may be under way.
    sleep(Duration::from_millis(500)).await;
    let assigned = || {
        (0..watched.servers.len()).try_for_each(|server| watched.assign(server))?;
        Ok::<_, StackError>(())
    };
    block_in_place(assigned).unwrap();
}

/// Waits until this holds, for a while.
async fn is_so(holds: impl Fn() -> bool) -> bool {
    let held = async {
        while !block_in_place(&holds) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), held).await.is_ok()
}

fn any(count: usize) -> usize {
    rand::rng().random_range(0..count)
}

fn signal(server: &Redis, name: &str) {
    let pid = server.pid().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
}

/// A replica that has all that its primary has, and has just become a primary itself.
pub(super) fn replica_of(primary: &Redis) -> Redis {
    let (began, port) = (Instant::now(), primary.port().to_string());
    primary.cli(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).unwrap();
    let replica = Redis::start_as(Brand::chosen(), &[]).unwrap();
    replica.cli(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    while !replica.cli(&["INFO", "replication"]).unwrap().contains("master_link_status:up") {
        assert!(began.elapsed() < PATIENCE, "the replica follows in time");
        std::thread::sleep(Duration::from_millis(5));
    }
    replica.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    replica
}

/// The clock of a Redis, in seconds since 1970.
pub(super) fn seconds_of(redis: &Redis) -> u64 {
    redis.cli(&["TIME"]).unwrap().lines().next().unwrap().parse().unwrap()
}
