//! How much caches hold: a bound in bytes, not in entries.

use quick_cache::Weighter;

use crate::key::Key;

/// Something whose size in memory is known, about.
pub(crate) trait Weigh {
    /// Bytes, without the key and what the cache itself keeps.
    fn weigh(&self) -> usize;
}

/// Weighs entries by their bytes.
#[derive(Clone, Debug)]
pub(crate) struct ByBytes;

impl<V: Weigh> Weighter<Key, V> for ByBytes {
    fn weight(&self, key: &Key, value: &V) -> u64 {
        /// About what the cache itself keeps for an entry.
        const OVERHEAD: usize = 192;
        (key.as_bytes().len() + value.weigh() + OVERHEAD) as u64
    }
}
