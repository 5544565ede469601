//! What was purged is not served: writers change pages and purge them, readers ask three proxies, and faults come in between.
//!
//! A page says its version. A reader that asks 50 ms after a purge was acknowledged must not get a version from before it.
//! Some fleets follow a PostgreSQL that has the versions. There a commit counts as acknowledged when the first proxy has purged
//! its pages, or at the latest when the time of `on_loss` is over; how long that takes is printed.
//!
//! `CACHEPAGE_TEST_PURGE_READS=200000` makes each of the five tests a long run. `CACHEPAGE_TEST_STORE=sentinel` has a master
//! that Sentinels replace, `CACHEPAGE_TEST_STORE=cluster` three primaries with a replica each, and `proxy/tests/purge_rules.rs` shows that the checker finds each rule that does not hold.

mod database;
mod disturber;
mod fleet;
mod floors;
mod laboratory;
mod line;
mod lines;
mod moments;
mod servers;
mod tampered;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt as _;
use stack::Redis;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::database::Database;
use self::fleet::{Fleet, Member, PROXIES};
use self::laboratory::Laboratory;
pub(crate) use self::tampered::{Broken, Tampered};
use crate::backend::Backend;
use crate::support::{Client, Origin, Reply, Script, Seen, page};

const PAGES: usize = 8;

/// Those of a short run, and of a long one.
const READERS: [usize; 2] = [6, 24];

/// Nothing from before a purge is served later than this after its acknowledgement.
const BOUND: Duration = Duration::from_millis(50);

const LOG: &str = ":1:views.decorators.cache.cache_page.purges";

/// How pages are stored, and how changes of them are told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Kind {
    /// Under Django's keys.
    django: bool,
    /// By HTTP's policy: the origin is asked each time whether its page is still current.
    http: bool,
    /// The proxies follow a database.
    followed: bool,
}

impl Kind {
    fn settings(self, purges: bool) -> String {
        let keys = if self.django { "keys = \"django\"\n" } else { "" };
        let policy = if self.http { "http" } else { "django" };
        let purge = match purges {
            true => format!("[purge]\nallow = [\"127.0.0.1\"]\nreplicas = {}\n", replicas()),
            false => String::new(),
        };
        format!(
            "near = \"64MiB\"\n{keys}[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\npolicy = \"{policy}\"\n{purge}"
        )
    }

    /// The key of the purge log.
    fn log(self) -> &'static str {
        if self.django { ":1:views.decorators.cache.cache_purges" } else { LOG }
    }

    /// The origin's answer with this version of a page.
    fn answer(self, seen: &Seen, number: usize, version: u64) -> Vec<u8> {
        let tag = format!("\"{version}\"");
        let names = format!("Surrogate-Key: page-{number}\r\nCache-Groups: \"group-{number}\"\r\n");
        let lines = match self.http {
            true => format!("{names}Cache-Control: no-cache\r\nETag: {tag}\r\n"),
            false => names,
        };
        match seen.header("if-none-match") == Some(&tag) {
            true => format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n").into_bytes(),
            false => page(&lines, &version.to_string()),
        }
    }
}

/// A purge that no replica has may be lost when a replica takes the place of its primary.
fn replicas() -> u32 {
    u32::from(std::env::var("CACHEPAGE_TEST_STORE").is_ok_and(|store| store != "redis"))
}

/// A connection to a proxy. The next one takes its place when the proxy is replaced.
struct Reader {
    member: Arc<Member>,
    client: Client,
}

impl Reader {
    async fn to(member: Arc<Member>) -> Self {
        Self { client: member.scene.connect().await, member }
    }

    async fn read(&mut self, number: usize, query: bool) -> Reply {
        let query = if query { "?x" } else { "" };
        let request = format!("GET /p/{number}{query} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n");
        self.client.write(request.as_bytes()).await;
        self.client.reply(true).await
    }
}

/// Reads until there were enough, or until one was stale.
async fn read(laboratory: Arc<Laboratory>, fleet: Arc<Fleet>, proxy: usize, reads: usize) {
    let mut reader = Reader::to(fleet.member(proxy)).await;
    while !laboratory.is_over(reads, &fleet) {
        let member = fleet.member(proxy);
        if !Arc::ptr_eq(&member, &reader.member) {
            reader = Reader::to(member).await;
        }
        let (number, query) = (rand::rng().random_range(0..PAGES), rand::rng().random());
        let asked = Instant::now();
        let reply = reader.read(number, query).await;
        laboratory.note(number, query, asked, &reply, &fleet);
        if reply.header("connection") == "close" {
            reader = Reader::to(fleet.member(proxy)).await;
        }
    }
}

/// An origin that is slow by turns, and says the version that a page had when it was asked.
async fn origin(laboratory: &Arc<Laboratory>, kind: Kind, database: Option<&Arc<Database>>) -> Origin {
    let (laboratory, database) = (laboratory.clone(), database.cloned());
    Origin::new(move |seen, _| {
        let path = seen.line.split(' ').nth(1).unwrap();
        let number: usize = path.trim_start_matches("/p/").trim_end_matches("?x").parse().unwrap();
        let pause = match rand::rng().random_range(0..10) {
            0 => Duration::from_millis(rand::rng().random_range(20..150)),
            1..4 => Duration::from_millis(rand::rng().random_range(0..10)),
            _ => Duration::ZERO,
        };
        let version = laboratory.versions[number].load(Ordering::SeqCst);
        if pause.is_zero() && database.is_none() {
            return Script::Answer(kind.answer(seen, number, version));
        }
        let (sender, pieces) = mpsc::channel(1);
        let (seen, database) = (seen.clone(), database.clone());
        tokio::spawn(async move {
            let version = match database {
                Some(database) => database.version(number).await,
                None => version,
            };
            sleep(pause).await;
            let _ = sender.send(kind.answer(&seen, number, version)).await;
        });
        Script::Pieces(pieces)
    })
    .await
}

async fn check(
    store: Backend,
    kind: Kind,
    reads: usize,
    broken: Broken,
    is_disturbed: bool,
) -> Arc<Laboratory> {
    let laboratory = Arc::new(Laboratory::default());
    let name = format!("checker_{broken:?}_{}", kind.django).to_lowercase();
    let database = if kind.followed { Some(Arc::new(Database::new(&name).await)) } else { None };
    let origin = origin(&laboratory, kind, database.as_ref()).await;
    let fleet = Arc::new(Fleet::start(store, kind, origin.address, broken, database.clone()).await);
    let mut background = JoinSet::new();
    if is_disturbed {
        background.spawn(disturber::disturb(fleet.clone()));
    }
    for number in 0..PAGES {
        let (laboratory, fleet, database) = (laboratory.clone(), fleet.clone(), database.clone());
        background.spawn(async move {
            loop {
                let pause = rand::rng().random_range(0..200);
                sleep(Duration::from_millis(pause)).await;
                match &database {
                    Some(database) => laboratory.commit(number, &fleet, database).await,
                    None => laboratory.change(number, &fleet).await,
                }
            }
        });
    }
    let mut readers = JoinSet::new();
    for reader in 0..READERS[usize::from(reads > 100_000)] {
        readers.spawn(read(laboratory.clone(), fleet.clone(), reader % PROXIES, reads));
    }
    tokio::select! {
        _ = readers.join_all() => {}
        ended = background.join_next() => panic!("nothing in the background ends by itself: {ended:?}"),
    }
    background.shutdown().await;
    laboratory.faults.store(fleet.faults.lock().unwrap().len(), Ordering::Relaxed);
    laboratory
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_served_that_was_purged_whatever_fails() {
    println!("{}", nothing_purged_is_served(Kind::default()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_served_that_was_purged_under_the_keys_of_a_django() {
    println!("{}", nothing_purged_is_served(Kind { django: true, ..Kind::default() }).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_renewed_that_was_purged_whatever_fails() {
    println!("{}", nothing_purged_is_served(Kind { http: true, ..Kind::default() }).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_served_that_a_commit_has_changed_whatever_fails() {
    println!("{}", nothing_purged_is_served(Kind { followed: true, ..Kind::default() }).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_served_that_a_commit_has_changed_under_the_keys_of_a_django() {
    println!("{}", nothing_purged_is_served(Kind { followed: true, django: true, ..Kind::default() }).await);
}

/// Checks with faults, and returns the figures.
async fn nothing_purged_is_served(kind: Kind) -> String {
    // Under HTTP's policy each read asks the origin, and a commit takes longer than a purge.
    let few = match (kind.followed, kind.http) {
        (true, _) => 500,
        (false, true) => 2_000,
        (false, false) => 4_000,
    };
    let wanted = std::env::var("CACHEPAGE_TEST_PURGE_READS").map_or(few, |reads| reads.parse().unwrap());
    let store = Backend::start_with_replicas().unwrap();
    let laboratory = check(store, kind, wanted, Broken::Nothing, true).await;
    let (reads, hits) = (laboratory.reads.load(Ordering::Relaxed), laboratory.hits.load(Ordering::Relaxed));
    let purges = laboratory.purges.load(Ordering::Relaxed);
    let stale = laboratory.stale.lock().unwrap();
    assert!(stale.is_empty(), "{reads} reads: {stale:?}");
    // A commit, and each reconnection to the database, makes many pages misses.
    let least = wanted / if kind.followed { 50 } else { 20 };
    assert!(hits > least, "{hits} of {reads} reads were hits: that shows little");
    let faults = laboratory.faults.load(Ordering::Relaxed);
    let figures = format!("{reads} reads, {hits} of them hits, {purges} purges, {faults} faults");
    figures + &laboratory.delays()
}

/// The checker sees a stale page if a rule does not hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_checker_finds_each_broken_rule() {
    let followed = Kind { followed: true, ..Kind::default() };
    for (broken, kind, is_disturbed) in [
        (Broken::Position, Kind::default(), false),
        (Broken::Loss, Kind::default(), true),
        (Broken::Purge, followed, false),
    ] {
        let redis = Backend::Alone(Redis::start().unwrap());
        let laboratory = check(redis, kind, 100_000, broken, is_disturbed).await;
        println!("{broken:?}: found after {} reads", laboratory.reads.load(Ordering::Relaxed));
        assert!(!laboratory.stale.lock().unwrap().is_empty(), "{broken:?} was not found");
    }
}
