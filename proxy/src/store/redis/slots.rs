//! The slots of a cluster: the slot of a key, and the node of a slot.

use std::sync::Arc;

use bb8_redis::redis::{RedisError, Value};
use crc::{CRC_16_XMODEM, Crc};

use super::address::NodeAddress;
use super::node::RedisNode;

/// The number of slots of every cluster.
pub(super) const SLOTS: usize = 16_384;

/// Marks a slot without a node in [`Map::owners`].
const NOBODY: u16 = u16::MAX;

static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The slot of a key. If a key has braces, only the text between the first `{` and the next `}` counts, unless it is empty.
pub(super) fn slot(key: &[u8]) -> u16 {
    CRC.checksum(tag(key).unwrap_or(key)) % SLOTS as u16
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let after = &key[key.iter().position(|byte| *byte == b'{')? + 1..];
    let tag = &after[..after.iter().position(|byte| *byte == b'}')?];
    (!tag.is_empty()).then_some(tag)
}

/// A range of slots with one node and its replicas.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) primary: NodeAddress,
    pub(super) replicas: Vec<NodeAddress>,
}

/// Reads the reply to `CLUSTER SLOTS`. A node that does not know its own name has the address at which it was asked.
pub(super) fn ranges(reply: &Value, asked: &NodeAddress) -> Option<Vec<Range>> {
    let Value::Array(ranges) = reply else { return None };
    ranges.iter().map(|range| self::range(range, asked)).collect()
}

fn range(reply: &Value, asked: &NodeAddress) -> Option<Range> {
    let Value::Array(parts) = reply else { return None };
    let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = &parts[..] else { return None };
    let slot = |number: i64| u16::try_from(number).ok().filter(|slot| usize::from(*slot) < SLOTS);
    let replicas = replicas.iter().filter_map(|replica| address(replica, asked)).collect();
    Some(Range { first: slot(*first)?, last: slot(*last)?, primary: address(primary, asked)?, replicas })
}

fn address(reply: &Value, asked: &NodeAddress) -> Option<NodeAddress> {
    let Value::Array(parts) = reply else { return None };
    let [host, Value::Int(port), ..] = &parts[..] else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::Nil => "",
        _ => return None,
    };
    at(host, u16::try_from(*port).ok()?, asked)
}

/// The address of a node in a reply of another one. Without a host (`?` means that it is unknown), the node is on the host
/// that was asked.
fn at(host: &str, port: u16, asked: &NodeAddress) -> Option<NodeAddress> {
    let host = match (host, asked) {
        ("" | "?", NodeAddress::Tcp { host, .. }) => host,
        ("" | "?", NodeAddress::Unix(_)) => return None,
        (host, _) => host,
    };
    Some(NodeAddress::Tcp { host: host.to_owned(), port })
}

/// The place of a key, as a node says it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Redirect {
    /// The slot belongs to another node now.
    Moved(u16, NodeAddress),
    /// The slot is moving, and the key may be on this node already.
    Ask(NodeAddress),
    /// The slot is moving, and some of the keys have moved already.
    TryAgain,
}

impl Redirect {
    /// Reads an error reply of the node at `asked`; `None` if it is no redirect.
    pub(super) fn of(error: &str, asked: &NodeAddress) -> Option<Self> {
        let mut words = error.split(' ');
        let kind = words.next()?;
        if kind == "TRYAGAIN" {
            return Some(Self::TryAgain);
        }
        let slot = words.next()?.parse().ok().filter(|slot| usize::from(*slot) < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let address = at(host, port.parse().ok()?, asked)?;
        match kind {
            "MOVED" => Some(Self::Moved(slot, address)),
            "ASK" => Some(Self::Ask(address)),
            _ => None,
        }
    }

    /// As [`of`](Self::of), for an error on a connection of the library.
    pub(super) fn of_error(error: &RedisError, asked: &NodeAddress) -> Option<Self> {
        Self::of(&format!("{} {}", error.code()?, error.detail()?), asked)
    }
}

/// The node of each slot. A map never changes; it is replaced.
#[derive(Clone)]
pub(super) struct Map {
    /// For each slot, an index into `nodes`.
    owners: Box<[u16]>,
    nodes: Vec<Arc<RedisNode>>,
    pub(super) replicas: Vec<NodeAddress>,
}

impl Map {
    /// A map of no slots.
    pub(super) fn empty() -> Self {
        Self { owners: vec![NOBODY; SLOTS].into(), nodes: Vec::new(), replicas: Vec::new() }
    }

    /// The map in a reply. `node` returns the node at an address.
    pub(super) fn of(ranges: &[Range], mut node: impl FnMut(&NodeAddress) -> Arc<RedisNode>) -> Self {
        let mut map = Self::empty();
        for range in ranges {
            let index = map.index_of(&range.primary, &mut node);
            (range.first..=range.last).for_each(|slot| map.owners[usize::from(slot)] = index);
            map.replicas.extend_from_slice(&range.replicas);
        }
        map.replicas.sort();
        map.replicas.dedup();
        map
    }

    /// The same map, with one slot changed.
    pub(super) fn with(
        &self,
        slot: u16,
        address: &NodeAddress,
        node: impl FnMut(&NodeAddress) -> Arc<RedisNode>,
    ) -> Self {
        let mut map = self.clone();
        let index = map.index_of(address, node);
        map.owners[usize::from(slot)] = index;
        map
    }

    fn index_of(
        &mut self,
        address: &NodeAddress,
        mut node: impl FnMut(&NodeAddress) -> Arc<RedisNode>,
    ) -> u16 {
        let known = self.nodes.iter().position(|node| node.place() == Some(address));
        let index = known.unwrap_or_else(|| {
            self.nodes.push(node(address));
            self.nodes.len() - 1
        });
        u16::try_from(index).unwrap_or(NOBODY)
    }

    /// The node that has a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<RedisNode>> {
        self.nodes.get(usize::from(self.owners[usize::from(slot)]))
    }

    /// The nodes that have slots, or had some in the map before this one.
    pub(super) fn nodes(&self) -> &[Arc<RedisNode>] {
        &self.nodes
    }

    /// Whether each slot has a node.
    pub(super) fn is_complete(&self) -> bool {
        !self.owners.contains(&NOBODY)
    }

    /// The nodes that have a slot in this map and not in a later one.
    pub(super) fn losers(&self, later: &Self) -> Vec<Arc<RedisNode>> {
        let mut losers = Vec::<Arc<RedisNode>>::new();
        for slot in 0..SLOTS as u16 {
            let Some(before) = self.owner(slot) else { continue };
            let is_same = later.owner(slot).is_some_and(|after| Arc::ptr_eq(before, after));
            if !is_same && !losers.iter().any(|loser| Arc::ptr_eq(loser, before)) {
                losers.push(before.clone());
            }
        }
        losers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> NodeAddress {
        NodeAddress::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn slots_are_those_that_redis_says() {
        // CLUSTER KEYSLOT of Redis 7.0.15.
        for (key, expected) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{user1000}.following", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        assert_eq!(slot(b"{:1:a}.b"), slot(b":1:a"));
        assert_eq!(slot(b"a}b{c"), CRC.checksum(b"a}b{c") % SLOTS as u16);
    }

    #[test]
    fn redirects_are_read_and_other_errors_are_none() {
        let asked = tcp("10.0.0.1", 7000);
        for (error, expected) in [
            ("MOVED 3999 127.0.0.1:6381", Some(Redirect::Moved(3999, tcp("127.0.0.1", 6381)))),
            ("MOVED 3999 :6381", Some(Redirect::Moved(3999, tcp("10.0.0.1", 6381)))),
            ("MOVED 1 ?:6381", Some(Redirect::Moved(1, tcp("10.0.0.1", 6381)))),
            ("ASK 3999 fe80::1:6381", Some(Redirect::Ask(tcp("fe80::1", 6381)))),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Some(Redirect::TryAgain)),
            ("MOVED 16384 127.0.0.1:6381", None),
            ("MOVED x 127.0.0.1:6381", None),
            ("MOVED 1 127.0.0.1:x", None),
            ("MOVED", None),
            ("CLUSTERDOWN The cluster is down", None),
            ("", None),
        ] {
            assert_eq!(Redirect::of(error, &asked), expected, "{error}");
        }
    }

    #[test]
    fn a_map_is_read_from_what_a_node_says() {
        let text = |text: &str| Value::BulkString(text.into());
        let node =
            |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        let range = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let asked = tcp("asked", 1);
        let reply = Value::Array(vec![
            Value::Array(vec![Value::Int(0), Value::Int(9), node(text("a"), 1), node(text("b"), 2)]),
            range(10, 16_383, node(Value::Nil, 3)),
        ]);
        let expected = [
            Range { first: 0, last: 9, primary: tcp("a", 1), replicas: vec![tcp("b", 2)] },
            Range { first: 10, last: 16_383, primary: tcp("asked", 3), replicas: vec![] },
        ];
        assert_eq!(ranges(&reply, &asked).unwrap(), expected);
        for odd in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![range(0, 16_384, node(text("a"), 1))]),
        ] {
            assert!(ranges(&odd, &asked).is_none(), "{odd:?}");
        }
    }
}
