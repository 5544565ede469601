//! The last purges of a log, as many as a bounded memory holds. A new primary may lack them.

use std::collections::VecDeque;

use crate::purge::{Purge, Target};
use crate::weight::block;

/// A failover loses only the purges that the primary has not yet sent to its replicas, those of a moment.
const MOST: usize = 1_000;

/// The most bytes of all purges together. A notice may have a megabyte of names.
const LARGEST: usize = 4 << 20;

/// Purges with their numbers, the oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentPurges {
    purges: VecDeque<(Purge, u64)>,
    bytes: usize,
}

impl RecentPurges {
    /// Adds the newest purge. It stays, however large it is; the oldest ones are dropped.
    pub(super) fn push(&mut self, purge: Purge, number: u64) {
        self.bytes += weight(&purge);
        self.purges.push_back((purge, number));
        while self.purges.len() > 1 && (self.purges.len() > MOST || self.bytes > LARGEST) {
            self.bytes -= self.purges.pop_front().map_or(0, |(oldest, _)| weight(&oldest));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Purge, u64)> {
        self.purges.iter()
    }
}

/// The memory that a purge holds.
fn weight(purge: &Purge) -> usize {
    let names: usize = purge.targets.iter().map(|target| block(target.value.len())).sum();
    size_of::<(Purge, u64)>()
        + block(size_of::<Target>() * purge.targets.len())
        + names
        + block(purge.by.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that are left after so many purges, each of a tag of this length.
    fn left(count: u64, length: usize) -> Vec<u64> {
        let mut recent = RecentPurges::default();
        for number in 0..count {
            let targets = vec![Target::tag(vec![b't'; length])];
            recent.push(Purge { targets, is_soft: false, by: "admin".to_owned() }, number);
        }
        recent.iter().map(|(_, number)| *number).collect()
    }

    #[test]
    fn the_oldest_give_way_beyond_a_number_and_beyond_a_size() {
        assert_eq!(left(3, 10), [0, 1, 2]);
        assert_eq!(left(1_002, 10), (2..1_002).collect::<Vec<_>>());
        assert_eq!(left(10, 1 << 20), [7, 8, 9], "a fourth would be above 4 MiB");
        assert_eq!(left(2, 5 << 20), [1], "the newest stays");
    }
}
