//! The nodes behind a store in Redis: a single Redis, or the nodes of a cluster.

use std::sync::Arc;

use bb8_redis::redis::RedisError;

use super::cluster::Cluster;
use super::node::{KeyCommand, RedisNode};
use super::pool::{Commands, Outcomes};
use super::resp::RedisReply;
use super::slots::Redirect;
use crate::store::{NodeNumber, NodeState, StoreError};

#[derive(Clone)]
pub(super) enum Nodes {
    /// One Redis, or the master that Sentinels name.
    One(Arc<RedisNode>),
    Cluster(Arc<Cluster>),
}

impl Nodes {
    /// Waits until the calling worker has connections.
    pub(super) async fn connect(&self) -> Result<(), StoreError> {
        match self {
            Self::One(node) => node.connect().await,
            Self::Cluster(cluster) => cluster.connect().await,
        }
    }

    /// Sends a read in one batch with those of other requests.
    pub(super) async fn read(
        &self,
        name: &'static str,
        arguments: &[&[u8]],
    ) -> Result<RedisReply, StoreError> {
        match self {
            Self::One(node) => node.read(name, arguments).await,
            // Boxed, so that commands to one Redis don't pay for it.
            Self::Cluster(cluster) => Box::pin(cluster.read(name, arguments)).await,
        }
    }

    /// Sends commands in batches with those of other requests, one batch for each node. Returns their outcomes.
    pub(super) async fn write(&self, commands: &[&KeyCommand<'_>]) -> Outcomes {
        match self {
            Self::One(node) => node.write(commands).await,
            Self::Cluster(cluster) => Box::pin(cluster.write(commands)).await,
        }
    }

    /// The node that has a key.
    pub(super) async fn owner(&self, key: &[u8]) -> Result<Arc<RedisNode>, StoreError> {
        match self {
            Self::One(node) => Ok(node.clone()),
            Self::Cluster(cluster) => cluster.owner(key).await,
        }
    }

    /// The node that a redirect in an error names, and whether it needs ASKING, since the slot is only moving there.
    pub(super) fn redirect(&self, node: &RedisNode, error: &RedisError) -> Option<(Arc<RedisNode>, bool)> {
        let Self::Cluster(cluster) = self else { return None };
        match Redirect::of_error(error, node.place()?)? {
            Redirect::Moved(slot, address) => {
                cluster.wanted.notify_one();
                Some((cluster.moved(slot, &address), false))
            }
            Redirect::Ask(address) => Some((cluster.stranger(&address), true)),
            Redirect::TryAgain => None,
        }
    }

    /// Sends commands on this key to the node that has it, on a connection of their own.
    pub(super) async fn ask(&self, key: &[u8], commands: &Commands) -> Outcomes {
        match self.owner(key).await {
            Ok(node) => node.ask(commands).await,
            Err(error) => vec![Err(error)],
        }
    }

    /// Whether all nodes answer, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        match self {
            Self::One(node) => node.is_up(),
            Self::Cluster(cluster) => !cluster.is_troubled(),
        }
    }

    /// The number of the node that has a key.
    pub(super) fn id_of(&self, key: &[u8]) -> NodeNumber {
        match self {
            Self::One(node) => node.id,
            Self::Cluster(cluster) => cluster.id_of(key),
        }
    }

    /// Notes whether a value was written under a key.
    pub(super) fn wrote(&self, key: &[u8], was_written: bool) {
        if let Some(node) = self.known_owner(key) {
            node.health.wrote(was_written);
        }
    }

    /// Whether the node that has a key took the last value.
    pub(super) fn takes_writes(&self, key: &[u8]) -> bool {
        self.known_owner(key).is_none_or(|node| node.health.takes_writes())
    }

    /// The node that has a key, without waiting for a map of the cluster.
    fn known_owner(&self, key: &[u8]) -> Option<Arc<RedisNode>> {
        match self {
            Self::One(node) => Some(node.clone()),
            Self::Cluster(cluster) => cluster.known_owner(key),
        }
    }

    /// Each node, for operators.
    pub(super) fn states(&self) -> Vec<NodeState> {
        let primary = |node: &Arc<RedisNode>| NodeState {
            address: node.address(),
            role: "primary",
            is_up: node.is_up(),
        };
        match self {
            Self::One(node) => vec![primary(node)],
            Self::Cluster(cluster) => {
                let map = cluster.map();
                // A cluster does not list replicas that are gone.
                let replica = |address: &super::address::NodeAddress| NodeState {
                    address: address.to_string(),
                    role: "replica",
                    is_up: true,
                };
                map.nodes().iter().map(primary).chain(map.replicas.iter().map(replica)).collect()
            }
        }
    }
}
