//! Keeps the map of a cluster, and a stream of changes from each of its nodes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::cmd;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::address::NodeAddress;
use super::cluster::Cluster;
use super::control::{ControlConnection, Lost};
use super::node::RedisNode;
use super::slots::{Range, ranges};
use super::tracking::{Beat, Tracking};
use crate::store::Listener as _;

/// How often a healthy cluster is asked for its map. In between, redirects tell of changes.
const CALM: Duration = Duration::from_secs(1);

/// How often a cluster is asked while a part of it is away.
const TROUBLED: Duration = Duration::from_millis(200);

/// The least time between two requests for the map.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks for the map again and again.
pub(super) struct Keeper {
    cluster: Arc<Cluster>,
    /// The node that answered last.
    asked: Option<(NodeAddress, ControlConnection)>,
    /// The number of nodes that were asked. When one fails, the next is asked.
    turn: usize,
    streams: Vec<(Arc<RedisNode>, AbortHandle)>,
    was_told: bool,
}

impl Keeper {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, asked: None, turn: 0, streams: Vec::new(), was_told: true }
    }

    /// Runs as long as the store exists.
    pub(super) async fn run(mut self) {
        loop {
            self.refresh().await;
            self.follow_nodes();
            let pause = if self.cluster.is_troubled() { TROUBLED } else { CALM };
            if timeout(pause, self.cluster.wanted.notified()).await.is_ok() || pause == TROUBLED {
                // The node that was asked may be the one with the wrong map.
                self.asked = None;
                self.turn += 1;
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks one node after the other until one returns the map.
    async fn refresh(&mut self) {
        let candidates = self.candidates();
        let mut last = Lost::Silence;
        for _ in 0..candidates.len() {
            match self.ask(&candidates[self.turn % candidates.len()]).await {
                Ok(ranges) => {
                    self.cluster.learn(&ranges);
                    if !std::mem::replace(&mut self.was_told, true) {
                        info!("the cluster tells its map again");
                    }
                    return;
                }
                Err(lost) => last = lost,
            }
            self.asked = None;
            self.turn += 1;
        }
        if std::mem::replace(&mut self.was_told, false) {
            warn!(error = %last, "no node of the cluster tells its map (CLUSTER SLOTS)");
        }
    }

    /// All known addresses. Nodes that answer come first.
    fn candidates(&self) -> Vec<NodeAddress> {
        let map = self.cluster.map();
        let nodes = map.nodes().iter().filter(|node| node.is_up());
        let mut all: Vec<_> = nodes.filter_map(|node| node.place()).collect();
        for address in map.replicas.iter().chain(&self.cluster.seeds) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all.into_iter().cloned().collect()
    }

    async fn ask(&mut self, address: &NodeAddress) -> Result<Vec<Range>, Lost> {
        let asked = match self.asked.take().filter(|(_, control)| control.is_open()) {
            Some(asked) => self.asked.insert(asked),
            None => {
                let opened = ControlConnection::to(address, &self.cluster.login).await?;
                self.asked.insert((address.clone(), opened))
            }
        };
        let reply = asked.1.ask(cmd("CLUSTER").arg("SLOTS")).await?;
        ranges(&reply, &asked.0)
            .filter(|ranges| !ranges.is_empty())
            .ok_or_else(|| Lost::Io(io::Error::other(format!("{} knows no slots", asked.0))))
    }

    /// Follows the changes of the nodes that are in the map, and no others.
    fn follow_nodes(&mut self) {
        let Some(feed) = self.cluster.followed.get() else { return };
        let map = self.cluster.map();
        self.streams.retain(|(node, stream)| {
            let stays = map.nodes().iter().any(|known| Arc::ptr_eq(known, node));
            if !stays {
                stream.abort();
                self.cluster.listeners.lost(node.id);
            }
            stays
        });
        for node in map.nodes() {
            if self.streams.iter().any(|(known, _)| Arc::ptr_eq(known, node)) {
                continue;
            }
            let beat = Beat::Key(self.cluster.clone());
            let tracking = Tracking { node: node.clone(), feed: feed.clone(), beat };
            self.streams.push((node.clone(), tokio::spawn(tracking.run()).abort_handle()));
        }
    }
}
