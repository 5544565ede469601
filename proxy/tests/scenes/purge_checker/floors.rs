//! The least versions that readers may get.

use std::sync::Mutex;

use tokio::time::Instant;

use super::PAGES;

/// The pages that a purge names.
#[derive(Clone, Copy)]
pub(super) enum Named {
    /// A page without a query, and with one.
    Both(usize),
    Query(usize),
    All,
}

/// The least version of a page, from the instant on that is noted with it.
type Floor = Mutex<Vec<(Instant, u64)>>;

/// The least versions of all pages, without a query and with one.
#[derive(Default)]
pub(super) struct Floors([[Floor; 2]; PAGES]);

/// The purges of a page that are looked at, the last ones: they are noted in any order, but soon.
const LAST: usize = 256;

impl Floors {
    pub(super) fn of(&self, number: usize, query: bool, asked: Instant) -> u64 {
        let floor = self.0[number][usize::from(query)].lock().unwrap();
        let last = floor.iter().rev().take(LAST).filter(|(from, _)| *from <= asked);
        last.map(|(_, version)| *version).max().unwrap_or_default()
    }

    /// Readers that ask from then on get no older versions of the pages.
    pub(super) fn raise(&self, named: Named, from: Instant, versions: &[u64; PAGES]) {
        for (page, floors) in self.0.iter().enumerate() {
            for (floor, is_query) in floors.iter().zip([false, true]) {
                let is_named = match named {
                    Named::All => true,
                    Named::Both(number) => page == number,
                    Named::Query(number) => page == number && is_query,
                };
                if is_named {
                    floor.lock().unwrap().push((from, versions[page]));
                }
            }
        }
    }
}
