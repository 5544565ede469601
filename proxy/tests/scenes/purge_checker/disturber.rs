//! The faults that come in between.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use stack::{Brand, Redis};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use super::fleet::Fleet;
use super::laboratory::is_hit;
use super::{BOUND, Kind, PAGES};
use crate::backend::Backend;
use crate::support::PATIENCE;

/// Between two faults: time for hits.
const PAUSE: Duration = Duration::from_millis(150);

/// How many seconds the clock of a Redis that is replaced is ahead of its successor's.
const AHEAD: u64 = 2;

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Redis closes all connections.
    Disconnected,
    /// Some connections of a proxy are silent for a while.
    Held,
    LogDeleted,
    /// Nothing is left of the log but its epoch, and a proxy reads that anew.
    LogCut,
    Emptied,
    /// Redis is killed, and an empty one takes its place.
    Restarted,
    /// A replica takes the place of Redis. It lacks the end of the log, and its clock is behind.
    FailedOver,
    ProxyRestarted,
    /// A proxy that does not purge stores pages.
    Unaware,
    /// The database ends connections of proxies, one or all.
    Unheard,
}

const FAULTS: [Fault; 10] = [
    Fault::Disconnected,
    Fault::Held,
    Fault::LogDeleted,
    Fault::LogCut,
    Fault::Emptied,
    Fault::Restarted,
    Fault::FailedOver,
    Fault::ProxyRestarted,
    Fault::Unaware,
    Fault::Unheard,
];

impl Kind {
    /// Those that can come.
    pub(super) fn faults(self) -> &'static [Fault] {
        if self.followed { &FAULTS } else { &FAULTS[..FAULTS.len() - 1] }
    }
}

/// Brings all faults again and again, in any order.
pub(super) async fn disturb(fleet: Arc<Fleet>) {
    loop {
        let mut faults = fleet.kind.faults().to_vec();
        faults.shuffle(&mut rand::rng());
        for fault in faults {
            sleep(PAUSE).await;
            fleet.faults.lock().unwrap().push(fault);
            fleet.bring(fault).await;
        }
    }
}

impl Fleet {
    async fn bring(&self, fault: Fault) {
        let any = rand::rng().random_range(0..self.lines.len());
        match fault {
            Fault::Disconnected => self.cli(&["CLIENT", "KILL", "SKIPME", "yes"]).await,
            Fault::Held => {
                self.lines[any].hold(rand::rng().random());
                let pause = Duration::from_millis(rand::rng().random_range(20..250));
                sleep(pause).await;
                self.lines[any].hold(0);
            }
            Fault::LogDeleted => {
                // This proxy does not see it go, nor what is purged just before.
                self.lines[any].hold(u64::MAX);
                sleep(Duration::from_millis(60)).await;
                self.cli(&["DEL", self.kind.log()]).await;
                self.lines[any].hold(0);
            }
            Fault::LogCut => {
                self.cut_log().await;
                self.restart(any).await;
            }
            Fault::Emptied => self.cli(&["FLUSHALL"]).await,
            Fault::Restarted => {
                let mut redis = self.redis.write().await;
                let servers = redis.servers();
                let server = rand::rng().random_range(0..servers.len());
                block_in_place(|| servers[server].restart()).unwrap();
            }
            Fault::FailedOver => self.fail_over().await,
            Fault::ProxyRestarted => self.restart(any).await,
            Fault::Unaware => self.store_unaware().await,
            Fault::Unheard => self.cut_database().await,
        }
    }

    /// Runs `redis-cli`. It may find no Redis, or a replica: then the fault is a smaller one.
    async fn cli(&self, args: &[&str]) {
        let redis = self.redis.read().await;
        let _ = block_in_place(|| redis.cli(args));
    }

    /// Leaves only an entry that repeats the epoch.
    async fn cut_log(&self) {
        let Some(epoch) = self.epoch().await else { return };
        let log = self.kind.log();
        self.cli(&["XADD", log, "*", "k", "epoch", "v", &epoch]).await;
        self.cli(&["XTRIM", log, "MAXLEN", "1"]).await;
    }

    /// The last epoch of the log.
    async fn epoch(&self) -> Option<String> {
        let redis = self.redis.read().await;
        let read = ["XREVRANGE", self.kind.log(), "+", "-"];
        let said = block_in_place(|| redis.cli(&read)).ok()?;
        said.lines().skip_while(|line| *line != "epoch").nth(2).map(str::to_owned)
    }

    async fn fail_over(&self) {
        match &mut *self.redis.write().await {
            Backend::Alone(primary) => self.replace(primary).await,
            // Refused while another failover is under way.
            Backend::Sentinel(watched) => drop(block_in_place(|| watched.fail_over())),
            Backend::Cluster(_) => {}
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
        self.lines.iter().for_each(|line| line.lead_to(replica.port()));
        *primary = block_in_place(|| replica);
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

    async fn cut_database(&self) {
        let count = if rand::rng().random() { 1 } else { i64::MAX };
        if let Some(database) = &self.database {
            database.cut(count).await;
        }
    }

    /// Fills pages by a proxy that knows of no purges.
    async fn store_unaware(&self) {
        let member = self.another(0, false).await;
        for number in 0..PAGES {
            member.scene.get(&format!("/p/{number}")).await;
        }
    }
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
