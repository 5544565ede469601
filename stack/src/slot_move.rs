//! A slot of a cluster that moves from one node to another, step by step.

use super::{Cluster, Redis, StackError};

/// A slot on its way between two nodes. While it moves, each of its keys is on one side or the other.
#[derive(Debug)]
pub struct SlotMove<'a> {
    cluster: &'a Cluster,
    slot: String,
    from: &'a Redis,
    to: &'a Redis,
}

impl<'a> SlotMove<'a> {
    /// Begins to move the slot of a key to the next node.
    pub fn begin(cluster: &'a Cluster, key: &str) -> Result<Self, StackError> {
        let owner = cluster.owner(key).unwrap_or_default();
        let (from, to) = (&cluster.nodes[owner], &cluster.nodes[(owner + 1) % cluster.nodes.len()]);
        let slot = from.cli(&["CLUSTER", "KEYSLOT", key])?;
        to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)?])?;
        from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)?])?;
        Ok(Self { cluster, slot, from, to })
    }

    /// Moves a key of the slot.
    pub fn migrate(&self, key: &str) -> Result<(), StackError> {
        migrate(self.from, self.to, key)
    }

    /// Gives the slot to its new node.
    pub fn end(self) -> Result<(), StackError> {
        let id = id(self.to)?;
        for node in [self.to, self.from].into_iter().chain(&self.cluster.nodes) {
            node.cli(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &id])?;
        }
        Ok(())
    }

    /// Moves a key of the slot back to its old node, and leaves the slot there.
    pub fn give_up(self, key: &str) -> Result<(), StackError> {
        migrate(self.to, self.from, key)?;
        for node in [self.to, self.from] {
            node.cli(&["CLUSTER", "SETSLOT", &self.slot, "STABLE"])?;
        }
        Ok(())
    }
}

fn id(node: &Redis) -> Result<String, StackError> {
    node.cli(&["CLUSTER", "MYID"])
}

fn migrate(from: &Redis, to: &Redis, key: &str) -> Result<(), StackError> {
    from.cli(&["MIGRATE", "127.0.0.1", &to.port().to_string(), key, "0", "1000"]).map(drop)
}
