//! Weighs cache entries by their bytes, since caches are bounded in bytes.

use quick_cache::Weighter;

/// A value whose approximate size in memory is known.
pub(crate) trait Weigh {
    /// The size in bytes, without the key and the cache's own overhead.
    fn weigh(&self) -> usize;
}

/// Weighs entries by their bytes.
#[derive(Clone, Debug)]
pub(crate) struct ByBytes;

impl<K: AsRef<[u8]>, V: Weigh> Weighter<K, V> for ByBytes {
    fn weight(&self, key: &K, value: &V) -> u64 {
        /// What the cache itself keeps for an entry, about.
        const OVERHEAD: usize = 192;
        (key.as_ref().len() + value.weigh() + OVERHEAD) as u64
    }
}
