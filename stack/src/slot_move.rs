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
    /// Begins to move the slot of a key to the next primary.
    pub fn begin(cluster: &'a Cluster, key: &str) -> Result<Self, StackError> {
        let owner = cluster.owner(key).unwrap_or_default();
        let from = &cluster.nodes[owner];
        let mut others = cluster.nodes[owner + 1..].iter().chain(&cluster.nodes[..owner]);
        let to = others.find(|node| node.is_primary()).unwrap_or(from);
        let slot = from.cli(&["CLUSTER", "KEYSLOT", key])?;
        to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)?])?;
        from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)?])?;
        Ok(Self { cluster, slot, from, to })
    }

    /// The node that the slot is on its way to.
    pub fn new_owner(&self) -> &Redis {
        self.to
    }

    /// Moves a key of the slot.
    pub fn migrate(&self, key: &str) -> Result<(), StackError> {
        migrate(self.from, self.to, key)
    }

    /// Moves all keys that the slot has now.
    pub fn migrate_all(&self) -> Result<(), StackError> {
        /// More keys than any test has in a slot.
        const ALL: &str = "1000";
        let keys = self.from.cli(&["CLUSTER", "GETKEYSINSLOT", &self.slot, ALL])?;
        keys.lines().try_for_each(|key| self.migrate(key))
    }

    /// Leaves the slot where it was, and moves a key back. The other side expects the slot until [`Self::stay`].
    pub fn take_back(&self, key: &str) -> Result<(), StackError> {
        // The owner takes no key of a slot that it gives away.
        self.from.cli(&["CLUSTER", "SETSLOT", &self.slot, "STABLE"])?;
        migrate(self.to, self.from, key)
    }

    /// Gives the slot to its new node.
    pub fn end(self) -> Result<(), StackError> {
        let id = id(self.to)?;
        let primaries = self.cluster.nodes.iter().filter(|node| node.is_primary());
        for node in [self.to, self.from].into_iter().chain(primaries) {
            node.cli(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &id])?;
        }
        Ok(())
    }

    /// Leaves the slot where it was.
    pub fn stay(self) -> Result<(), StackError> {
        for node in [self.to, self.from] {
            node.cli(&["CLUSTER", "SETSLOT", &self.slot, "STABLE"])?;
        }
        Ok(())
    }
}

fn id(node: &Redis) -> Result<String, StackError> {
    node.cli(&["CLUSTER", "MYID"])
}

/// Moves a key, if it is there, into the place of any other.
fn migrate(from: &Redis, to: &Redis, key: &str) -> Result<(), StackError> {
    let said = from.cli(&["MIGRATE", "127.0.0.1", &to.port().to_string(), key, "0", "1000", "REPLACE"])?;
    match said.as_str() {
        "OK" | "NOKEY" => Ok(()),
        _ => Err(StackError::Command { command: format!("MIGRATE {key}"), output: said }),
    }
}
