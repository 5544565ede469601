//! What is changed and purged, what must be seen from then on, and what was seen.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use proxy::{Purge, PurgeLog as _, Target, TargetKind};
use rand::RngExt as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout};

use super::database::{Database, payload};
use super::fleet::{Fleet, ON_LOSS, PROXIES};
use super::floors::{Floors, Named};
use super::tampered::Appended;
use super::{BOUND, PAGES, replicas};
use crate::support::{PATIENCE, Reply};

/// A page is not served for longer than `on_loss` says, and this, after a commit that no proxy has heard of. A busy machine
/// is slow to notice a loss.
const NOTICED: Duration = Duration::from_secs(2);

/// The versions of the pages, and from when on which of them is the least.
#[derive(Default)]
pub(super) struct Laboratory {
    pub(super) versions: [AtomicU64; PAGES],
    floors: Floors,
    /// The floors if a commit were acknowledged as a purge is.
    commits: Floors,
    /// Reads below those.
    late: AtomicUsize,
    /// The times from commits to their purges.
    delays: Mutex<Vec<Duration>>,
    pub(super) faults: AtomicUsize,
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

impl Laboratory {
    /// Changes a page, and purges it until that is acknowledged.
    pub(super) async fn change(&self, number: usize, fleet: &Fleet) {
        self.versions[number].fetch_add(1, Ordering::SeqCst);
        let versions = self.versions.each_ref().map(|version| version.load(Ordering::SeqCst));
        let (way, named) = way(number);
        while !carried_out(&way, fleet).await {
            sleep(Duration::from_millis(5)).await;
        }
        self.purges.fetch_add(1, Ordering::Relaxed);
        self.floors.raise(named, Instant::now() + BOUND, &versions);
    }

    /// Changes a page in the database, and waits until a proxy has purged it.
    pub(super) async fn commit(&self, number: usize, fleet: &Fleet, database: &Database) {
        let _purging = fleet.purging.read().await;
        let mut appended = fleet.appended.subscribe();
        let mut versions = self.versions.each_ref().map(|version| version.load(Ordering::SeqCst));
        versions[number] += 1;
        let tag = format!("change-{number}-{}", versions[number]);
        let (payload, named) = payload(number, &tag);
        database.commit(number, versions[number], &payload).await;
        let committed = Instant::now();
        self.versions[number].store(versions[number], Ordering::SeqCst);
        self.commits.raise(named, committed + BOUND, &versions);
        self.floors.raise(named, committed + ON_LOSS + NOTICED, &versions);
        // The pauses between the attempts of a proxy grow to 5 s, and a fault may meet each of them.
        match timeout(3 * PATIENCE, is_purged(&mut appended, &tag, committed)).await {
            Ok(()) => self.floors.raise(named, Instant::now() + BOUND, &versions),
            Err(_) => self.stale.lock().unwrap().push(format!("{payload} purges nothing")),
        }
        self.delays.lock().unwrap().push(committed.elapsed());
        self.purges.fetch_add(1, Ordering::Relaxed);
    }

    /// How long after commits their purges came, if there were any.
    pub(super) fn delays(&self) -> String {
        let mut delays = self.delays.lock().unwrap();
        delays.sort_unstable();
        let Some(longest) = delays.last() else { return String::new() };
        let (median, late) = (delays[delays.len() / 2], self.late.load(Ordering::Relaxed));
        format!(
            "; purged {median:.1?} after the commit (median), at most {longest:.1?}; {late} reads were late"
        )
    }

    /// Checks what a reader has got.
    pub(super) fn note(&self, number: usize, query: bool, asked: Instant, reply: &Reply, fleet: &Fleet) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(usize::from(is_hit(reply)), Ordering::Relaxed);
        let floor = self.floors.of(number, query, asked);
        let Some(version) = version(reply) else { return };
        self.late.fetch_add(usize::from(version < self.commits.of(number, query, asked)), Ordering::Relaxed);
        if version < floor {
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
        let is_enough = hits > reads / 20 && fleet.faults.lock().unwrap().len() >= fleet.possible.len();
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
        2..5 => (target(TargetKind::Prefix, format!("{host}/p/{number}")), Named::Both(number)),
        5..8 => (target(TargetKind::Group, format!("{host} group-{number}")), Named::Both(number)),
        8..14 => (request(&format!("PURGE /p/{number}?x HTTP/1.1")), Named::Query(number)),
        14..21 => (request(&format!("PURGE /p/{number} HTTP/1.1")), Named::Both(number)),
        21..27 => (request(&format!("PURGE / HTTP/1.1\r\nxkey: page-{number}")), Named::Both(number)),
        27..33 => (
            request(&format!("PURGE / HTTP/1.1\r\nCache-Tag: page-{number}\r\nX-Purge: soft")),
            Named::Both(number),
        ),
        _ => (request(&format!("PURGEKEYS / HTTP/1.1\r\nxkey-purge: page-{number}")), Named::Both(number)),
    }
}

/// Completes when a proxy has purged what was committed: by its tag, or everything.
async fn is_purged(appended: &mut Receiver<Appended>, tag: &str, committed: Instant) {
    let (tag, all) = (Target::tag(tag), Target::all());
    loop {
        match appended.recv().await {
            Ok(Appended { targets, .. }) if targets.contains(&tag) => return,
            Ok(Appended { targets, began }) if began > committed && targets.contains(&all) => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => unreachable!("the fleet has a sender"),
        }
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
