//! Weighs cache entries by the memory that they hold, since caches are bounded in bytes. Only this module knows how much
//! memory an allocation takes.

use std::hash::Hash;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use hyper::header::HeaderMap;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

/// A value that knows its allocations.
pub(crate) trait Weigh {
    /// The bytes that it holds, besides its own size.
    fn weigh(&self) -> usize;
}

/// Weighs entries by the memory that they hold: the key, the value, and their slot in the cache.
#[derive(Clone, Debug)]
pub(crate) struct ByBytes;

impl<K: AsRef<[u8]>, V: Weigh> Weighter<K, V> for ByBytes {
    fn weight(&self, key: &K, value: &V) -> u64 {
        let held = counted(key.as_ref().len()) + value.weigh() + slot::<K, V>();
        // While entries come and go, about an eighth of the allocator's blocks is free between those in use.
        (held + held / 8) as u64
    }
}

/// The parts of a limit, so that memory beside the pages counts, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// The part for the heads and markers that were last read.
    pub(crate) heads: u64,
    /// The part for the pages that are being captured.
    pub(crate) captures: u64,
    /// The part for the pages.
    pub(crate) pages: u64,
}

impl Shares {
    pub(crate) fn of(limit: u64) -> Self {
        /// Enough for about four thousand heads.
        const HEADS: u64 = 16 << 20;
        /// The memory of connections, answers under way, digests and counts of variants, whatever the limit is.
        const BESIDE: u64 = 4 << 20;
        let (heads, captures) = ((limit / 8).min(HEADS), limit / 8);
        let beside = BESIDE.min(limit / 8).max(limit / 16);
        Self { heads, captures, pages: limit - heads - captures - beside }
    }
}

/// A cache that is bounded in bytes, and counts what it evicts.
pub(crate) type Bounded<K, V> = Cache<K, V, ByBytes, DefaultHashBuilder, Evictions>;

/// How many entries were dropped to make room, including entries whose time was over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evictions(Arc<AtomicU64>);

impl Evictions {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl<K, V> Lifecycle<K, V> for Evictions {
    type RequestState = <DefaultLifecycle<K, V> as Lifecycle<K, V>>::RequestState;

    /// Not called for a value that is replaced by a new one.
    fn before_evict(&self, _: &mut Self::RequestState, _: &K, _: &mut V) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Evicted entries are dropped outside of the cache's locks.
    fn on_evict(&self, state: &mut Self::RequestState, key: K, value: V) {
        DefaultLifecycle::default().on_evict(state, key, value);
    }
}

/// A cache of this many bytes. Each of its parts can hold an entry of `largest` bytes.
pub(crate) fn cache<K: AsRef<[u8]> + Eq + Hash, V: Weigh + Clone>(
    limit: u64,
    largest: u64,
    evictions: &Evictions,
) -> Bounded<K, V> {
    /// The assumed size of a page, for the number of slots.
    const TYPICAL_PAGE: u64 = 16 * 1024;
    let entries = usize::try_from(limit / TYPICAL_PAGE).unwrap_or(usize::MAX).clamp(16, 1 << 20);
    let mut options = OptionsBuilder::new();
    options.weight_capacity(limit).estimated_items_capacity(entries);
    // Room for the head and slot of an entry, and for the overhead of the allocator.
    let most = limit / (largest + largest / 8 + TYPICAL_PAGE);
    let usual = 4 * std::thread::available_parallelism().map_or(1, NonZero::get);
    // The cache rounds up to a power of two.
    options.shards(1 << most.clamp(1, usual as u64).ilog2());
    let (hashes, evictions) = (DefaultHashBuilder::default(), evictions.clone());
    match options.build() {
        Ok(options) => Cache::with_options(options, ByBytes, hashes, evictions),
        // Unreachable: both capacities are set.
        Err(_) => Cache::with(entries, limit, ByBytes, hashes, evictions),
    }
}

/// The size of the block that the allocator gives for this many bytes. mimalloc has four classes for each power of two. Beyond
/// 512 KiB it gives whole pages of the system.
pub(crate) const fn block(size: usize) -> usize {
    const PAGE: usize = 4096;
    match size {
        0..=64 => size.next_multiple_of(16),
        65..=0x80000 => size.next_multiple_of(1 << ((size - 1).ilog2() - 2)),
        _ => size.next_multiple_of(PAGE),
    }
}

/// The size of this value in an `Arc`, which has two counters before it.
pub(crate) const fn counted(size: usize) -> usize {
    block(2 * size_of::<usize>() + size)
}

/// The size of a buffer of this length that several `Bytes` share, with its counter.
pub(crate) const fn shared(length: usize) -> usize {
    block(length) + block(3 * size_of::<usize>())
}

/// The size of the tables of a map of headers. Their texts are not counted.
pub(crate) fn tables(headers: &HeaderMap) -> usize {
    /// A hash and the index of the entry.
    const INDEX: usize = 4;
    /// A name, a value, a hash, and both ends of the list of further values.
    const ENTRY: usize = 104;
    /// A further value of a name, and its links.
    const FURTHER: usize = 72;
    let room = headers.capacity();
    let further = headers.len() - headers.keys_len();
    block((room + room / 3).next_power_of_two() * INDEX)
        + block(room * ENTRY)
        + block(further.next_power_of_two() * FURTHER * usize::from(further > 0))
}

/// A text that was copied out of a larger one.
impl Weigh for Bytes {
    fn weigh(&self) -> usize {
        shared(self.len())
    }
}

/// The slot of an entry: key and value, links and state, and an index to it. The cache doubles its slots when they are used
/// up, so up to half of them are free.
const fn slot<K, V>() -> usize {
    const STATE: usize = 24;
    const INDEX: usize = 8;
    2 * (size_of::<K>() + size_of::<V>() + STATE + INDEX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes are those of mimalloc's `mi_good_size`.
    #[test]
    fn blocks_have_the_sizes_of_mimallocs_classes() {
        for (size, expected) in [
            (0, 0),
            (1, 16),
            (64, 64),
            (65, 80),
            (128, 128),
            (129, 160),
            (257, 320),
            (1024, 1024),
            (1025, 1280),
            (14_600, 16_384),
            (512 << 10, 512 << 10),
            (900_000, 901_120),
        ] {
            assert_eq!(block(size), expected, "{size}");
        }
    }

    #[test]
    fn each_part_of_a_cache_holds_the_largest_entry() {
        for (limit, largest) in
            [(64 << 20, 16 << 20), (64 << 20, 1 << 20), (8 << 20, 4 << 20), (1 << 20, 1 << 20)]
        {
            let cache = cache::<Vec<u8>, Bytes>(limit, largest, &Evictions::default());
            let part = cache.capacity() / cache.num_shards() as u64;
            assert!(part >= largest, "{limit} {largest}: {part}");
        }
    }
}
