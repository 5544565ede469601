//! What is changed and purged, what must be seen from then on, and what was seen.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use proxy::{Purge, PurgeLog as _, Target, TargetKind};
use rand::RngExt as _;
use tokio::time::{Instant, sleep};

use super::disturber::FAULTS;
use super::fleet::{Fleet, PROXIES};
use super::{BOUND, PAGES, replicas};
use crate::support::Reply;

/// The least version of a page, from the instant on that is noted with it.
type Floors = Mutex<Vec<(Instant, u64)>>;

/// The versions of the pages, and from when on which of them is the least.
#[derive(Default)]
pub(super) struct Laboratory {
    pub(super) versions: [AtomicU64; PAGES],
    /// Without a query, and with one.
    floors: [[Floors; 2]; PAGES],
    pub(super) reads: AtomicUsize,
    pub(super) hits: AtomicUsize,
    pub(super) purges: AtomicUsize,
    pub(super) stale: Mutex<Vec<String>>,
}

/// How a page is purged.
enum Way {
    /// By a request.
    Request(String),
    /// As the proxy does it itself for other requests than those on its port.
    Target(TargetKind, String),
}

/// The pages that a purge names.
#[derive(Clone, Copy)]
enum Named {
    Both,
    Query,
    All,
}

impl Laboratory {
    fn floor(&self, number: usize, query: bool, asked: Instant) -> u64 {
        let floors = self.floors[number][usize::from(query)].lock().unwrap();
        // Purges of several pages are noted in any order, but soon.
        let last = floors.iter().rev().take(64).filter(|(from, _)| *from <= asked);
        last.map(|(_, floor)| *floor).max().unwrap_or_default()
    }

    /// Changes a page, and purges it until that is acknowledged.
    pub(super) async fn change(&self, number: usize, fleet: &Fleet) {
        self.versions[number].fetch_add(1, Ordering::SeqCst);
        let versions: Vec<_> = self.versions.iter().map(|version| version.load(Ordering::SeqCst)).collect();
        let (way, named) = way(number);
        while !carried_out(&way, fleet).await {
            sleep(Duration::from_millis(5)).await;
        }
        self.purges.fetch_add(1, Ordering::Relaxed);
        let from = Instant::now() + BOUND;
        for (page, floors) in self.floors.iter().enumerate() {
            for (floors, is_query) in floors.iter().zip([false, true]) {
                let is_named = match named {
                    Named::All => true,
                    Named::Both => page == number,
                    Named::Query => page == number && is_query,
                };
                if is_named {
                    floors.lock().unwrap().push((from, versions[page]));
                }
            }
        }
    }

    /// Checks what a reader has got.
    pub(super) fn note(&self, number: usize, query: bool, asked: Instant, reply: &Reply, fleet: &Fleet) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(usize::from(is_hit(reply)), Ordering::Relaxed);
        let floor = self.floor(number, query, asked);
        if let Some(version) = version(reply).filter(|version| *version < floor) {
            let faults = fleet.faults.lock().unwrap();
            let last = &faults[faults.len().saturating_sub(4)..];
            let stale = format!("{version} of {number}, least {floor}, after {last:?}: {reply:?}");
            self.stale.lock().unwrap().push(stale);
        }
    }

    /// Whether so many reads are over, of which so many were hits that they show something, and each fault has come; or one
    /// was stale.
    pub(super) fn is_over(&self, reads: usize, fleet: &Fleet) -> bool {
        let (done, hits) = (self.reads.load(Ordering::Relaxed), self.hits.load(Ordering::Relaxed));
        // A busy machine has few hits for a while.
        let is_enough = hits > reads / 20 && fleet.faults.lock().unwrap().len() >= FAULTS.len();
        !self.stale.lock().unwrap().is_empty() || done >= 20 * reads || (done >= reads && is_enough)
    }
}

/// Any way to purge a page, and what it names.
fn way(number: usize) -> (Way, Named) {
    let request = |line: &str| Way::Request(format!("{line}\r\n"));
    let target = |kind, value: String| Way::Target(kind, value);
    let host = "//localhost:8000";
    match rand::rng().random_range(0..40) {
        0 => (target(TargetKind::All, String::new()), Named::All),
        1 => (target(TargetKind::Origin, host.to_owned()), Named::All),
        2..5 => (target(TargetKind::Prefix, format!("{host}/p/{number}")), Named::Both),
        5..8 => (target(TargetKind::Group, format!("{host} group-{number}")), Named::Both),
        8..14 => (request(&format!("PURGE /p/{number}?x HTTP/1.1")), Named::Query),
        14..21 => (request(&format!("PURGE /p/{number} HTTP/1.1")), Named::Both),
        21..27 => (request(&format!("PURGE / HTTP/1.1\r\nxkey: page-{number}")), Named::Both),
        27..33 => {
            (request(&format!("PURGE / HTTP/1.1\r\nCache-Tag: page-{number}\r\nX-Purge: soft")), Named::Both)
        }
        _ => (request(&format!("PURGEKEYS / HTTP/1.1\r\nxkey-purge: page-{number}")), Named::Both),
    }
}

/// Purges by any proxy. Returns whether that is acknowledged.
async fn carried_out(way: &Way, fleet: &Fleet) -> bool {
    let _purging = fleet.purging.read().await;
    let proxy = rand::rng().random_range(0..PROXIES);
    let member = fleet.member(proxy);
    match way {
        Way::Request(text) => {
            member.scene.send(&format!("{text}Host: localhost:8000\r\n\r\n")).await.status() == 200
        }
        Way::Target(kind, value) => {
            let targets = vec![Target::new(*kind, value.as_str())];
            let purge = Purge { targets, is_soft: false, by: String::new() };
            member.store.append(purge, replicas(), SystemTime::UNIX_EPOCH).await.is_ok()
        }
    }
}

pub(super) fn is_hit(reply: &Reply) -> bool {
    reply.header("x-cache") == "HIT" || reply.header("cache-status").contains("fwd-status=304")
}

fn version(reply: &Reply) -> Option<u64> {
    reply.text().parse().ok()
}
