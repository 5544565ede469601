//! The faults that come in between.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::fleet::Fleet;
use super::{Kind, PAGES};
use crate::backend::Backend;

/// Between two faults: time for hits.
const PAUSE: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The servers close all connections.
    Disconnected,
    /// Some connections of a proxy are silent for a while.
    Held,
    LogDeleted,
    /// Nothing is left of the log but its epoch, and a proxy reads that anew.
    LogCut,
    Emptied,
    /// A server is killed, and an empty one takes its place.
    Restarted,
    /// A replica takes the place of its primary. That of one Redis lacks the end of the log, and its clock is behind.
    FailedOver,
    /// A primary is killed, and its replica takes its place.
    Killed,
    /// A server is silent for a while.
    Frozen,
    /// A slot moves to another node.
    SlotMoved,
    ProxyRestarted,
    /// A proxy that does not purge stores pages.
    Unaware,
    /// The database ends connections of proxies, one or all.
    Unheard,
}

impl Fault {
    /// Those that can come.
    pub(super) fn possible(store: &Backend, kind: Kind) -> Vec<Self> {
        use Fault::*;
        let mut faults = vec![Disconnected, Held, LogDeleted, LogCut, Emptied, Restarted, FailedOver];
        faults.extend([ProxyRestarted, Unaware, Frozen]);
        match store {
            Backend::Alone(_) => {}
            Backend::Sentinel(_) => faults.push(Killed),
            Backend::Cluster(_) => faults.extend([Killed, SlotMoved]),
        }
        if kind.followed {
            faults.push(Unheard);
        }
        faults
    }
}

/// Brings all faults again and again, in any order.
pub(super) async fn disturb(fleet: Arc<Fleet>) {
    loop {
        let mut faults = fleet.possible.clone();
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
                self.lines[any].hold_some();
                let pause = Duration::from_millis(rand::rng().random_range(20..250));
                sleep(pause).await;
                self.lines[any].let_go();
            }
            Fault::LogDeleted => {
                // This proxy does not see it go, nor what is purged just before.
                self.lines[any].hold();
                sleep(Duration::from_millis(60)).await;
                self.cli(&["DEL", self.kind.log()]).await;
                self.lines[any].let_go();
            }
            Fault::LogCut => {
                self.cut_log().await;
                self.restart(any).await;
            }
            Fault::Emptied => self.cli(&["FLUSHALL"]).await,
            Fault::Restarted => self.restart_server().await,
            Fault::FailedOver => self.fail_over().await,
            Fault::Killed => self.kill_primary().await,
            Fault::Frozen => self.freeze_server().await,
            Fault::SlotMoved => self.move_slot().await,
            Fault::ProxyRestarted => self.restart(any).await,
            Fault::Unaware => self.store_unaware().await,
            Fault::Unheard => self.cut_database().await,
        }
    }

    /// Runs `redis-cli`. It may find no Redis, or a replica: then the fault is a smaller one.
    async fn cli(&self, args: &[&str]) {
        let store = self.store.read().await;
        let _ = block_in_place(|| store.cli(args));
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
        let store = self.store.read().await;
        let read = ["XREVRANGE", self.kind.log(), "+", "-"];
        let said = block_in_place(|| store.cli(&read)).ok()?;
        said.lines().skip_while(|line| *line != "epoch").nth(2).map(str::to_owned)
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
