//! A bound on the variants of one page.
//!
//! A page that varies on a header has as many variants as clients care to send values. Each is right, and each is stored:
//! a stranger could fill the store with copies of one page, and push all others out. So a process stores so many of one
//! page at a time; what comes beyond is answered by the origin, as without a cache.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::key::Key;

/// How many pages that vary are watched, the least used forgotten first. With a thousand variants each takes some 24 KB.
const PAGES: usize = 1_000;

/// The variants that this process has stored, as far as they are still there.
#[derive(Debug)]
pub(crate) struct Variants {
    limit: usize,
    pages: Cache<Key, Arc<Ends>>,
    hasher: RandomState,
}

/// When each variant of a page leaves the store.
type Ends = Mutex<HashMap<u64, Instant>>;

impl Variants {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, pages: Cache::new(PAGES), hasher: RandomState::new() }
    }

    /// Whether a variant may be stored; it counts from then on, for as long as it is kept.
    pub(crate) fn admit(&self, page: &Key, variant: &Key, keep: Duration, now: Instant) -> bool {
        let variant = self.hasher.hash_one(variant);
        let page = self.pages.get_or_insert_with(page, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(page) = page;
        // A map is whole whoever panicked beside it.
        let mut ends = page.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() >= self.limit {
            ends.retain(|_, end| *end > now);
        }
        let is_admitted = ends.len() < self.limit || ends.contains_key(&variant);
        if is_admitted {
            ends.insert(variant, now + keep);
        }
        is_admitted
    }

    /// Starts a page anew: the variants of its last marker cannot be reached any more.
    pub(crate) fn forget(&self, page: &Key) {
        self.pages.remove(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn so_many_of_a_page_are_admitted_until_one_of_them_has_ended() {
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
