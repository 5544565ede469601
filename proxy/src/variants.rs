//! A bound on the variants of one page.
//!
//! A page that varies on a header has a variant for each value that clients send. Without a bound, one client could fill
//! the store with variants of one page and push out all others. Each process therefore stores a limited number of them
//! at a time; requests for further variants are answered by the origin and not stored.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::key::Key;
use crate::weight::{self, Bounded, Evictions, Weigh};

/// The memory for the counts, in bytes; the least used page is forgotten first. A page with a thousand variants takes
/// about 50 KB, one with a few takes 500 bytes.
const LIMIT: u64 = 1 << 20;

/// The largest entry of one page's variants, which has room for ten times the default limit.
const LARGEST: u64 = 512 << 10;

/// The variants that this process has stored and that have not ended yet.
#[derive(Clone, Debug)]
pub(crate) struct Variants {
    limit: usize,
    pages: Arc<Bounded<Key, PageVariants>>,
    hasher: RandomState,
}

/// When each variant of a page leaves the store, by its hash.
type Ends = Mutex<HashMap<u64, Instant>>;

/// The variants of a page, and the capacity of their map when it was last weighed.
#[derive(Clone, Debug, Default)]
struct PageVariants {
    ends: Arc<Ends>,
    room: usize,
}

impl Weigh for PageVariants {
    fn weigh(&self) -> usize {
        /// The memory of one variant: a hash, a time, and a byte of the map's own. A map leaves an eighth to a half of its
        /// places empty.
        const PLACE: usize = 2 * (size_of::<(u64, Instant)>() + 1);
        weight::counted(size_of::<Ends>()) + weight::block(self.room * PLACE)
    }
}

impl Variants {
    pub(crate) fn new(limit: usize) -> Self {
        let pages = Arc::new(weight::cache(LIMIT, LARGEST, &Evictions::default()));
        Self { limit, pages, hasher: RandomState::new() }
    }

    /// The same variants, with another limit.
    pub(crate) fn with_limit(&self, limit: usize) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Whether a variant may be stored. If so, it is counted for the time `keep`.
    pub(crate) fn admit(&self, page: &Key, variant: &Key, keep: Duration, now: Instant) -> bool {
        let variant = self.hasher.hash_one(variant);
        let counted = self
            .pages
            .get_or_insert_with(page, || Ok::<_, std::convert::Infallible>(PageVariants::default()));
        let Ok(PageVariants { ends: shared, room }) = counted;
        // A panic elsewhere cannot leave the map half-changed.
        let mut ends = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() >= self.limit {
            ends.retain(|_, end| *end > now);
        }
        let is_admitted = ends.len() < self.limit || ends.contains_key(&variant);
        if is_admitted {
            ends.insert(variant, now + keep);
        }
        if ends.capacity() != room {
            let room = ends.capacity();
            drop(ends);
            self.pages.insert(page.clone(), PageVariants { ends: shared, room });
        }
        is_admitted
    }

    /// Forgets the variants of a page that gets a new marker: those of the old one are unreachable.
    pub(crate) fn forget(&self, page: &Key) {
        self.pages.remove(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn variants_are_admitted_up_to_the_limit_until_one_has_ended() {
        let (variants, mut now) = (Variants::new(2), Instant::now());
        let [page, other] = ["page", "other"].map(Key::new);
        let [one, two, three] = ["1", "2", "3"].map(Key::new);
        assert!(variants.admit(&page, &one, MINUTE, now));
        now += MINUTE / 2;
        assert!(variants.admit(&page, &two, MINUTE, now));
        assert!(!variants.admit(&page, &three, MINUTE, now));
        assert!(variants.admit(&page, &two, MINUTE, now), "a variant may be filled again");
        assert!(variants.admit(&other, &three, MINUTE, now), "each page has its own");
        now += MINUTE / 2;
        assert!(variants.admit(&page, &three, MINUTE, now));
        assert!(!variants.admit(&page, &one, MINUTE, now));
        variants.forget(&page);
        assert!(variants.admit(&page, &one, MINUTE, now));
    }
}
