//! What was purged is not served: writers change pages and purge them, readers ask three proxies, and faults come in between.
//!
//! A page says its version. A reader that asks 50 ms after a purge was acknowledged must not get a version from before it.
//! `CACHEPAGE_TEST_PURGE_READS=1000000` makes it a long run.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proxy::{
    Feed, Key, Listener, Locks, LogCopy, LoggedPurge, NodeNumber, Purge, PurgeId, PurgeLog, PurgeLogSettings,
    RedisStore, Store, StoreError, Values, Write,
};
use rand::RngExt as _;
use stack::Redis;
use tokio::sync::{RwLock, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::backend::Backend;
use crate::support::{Origin, Reply, Scene, Script, Seen, page};

const PAGES: usize = 8;

/// Nothing from before a purge is served later than this after its acknowledgement.
const BOUND: Duration = Duration::from_millis(50);

/// By which policy pages are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    Django,
    /// The origin is asked each time whether its page is still current.
    Http,
}

impl Policy {
    fn settings(self) -> String {
        let policy = if self == Self::Http { "http" } else { "django" };
        format!(
            "near = \"64MiB\"\n[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\npolicy = \"{policy}\"\n\
             [purge]\nallow = [\"127.0.0.1\"]\n"
        )
    }

    /// The origin's answer with this version of a page.
    fn answer(self, seen: &Seen, number: usize, version: u64) -> Vec<u8> {
        let tag = format!("\"{version}\"");
        let lines = match self {
            Self::Django => format!("Surrogate-Key: page-{number}\r\n"),
            Self::Http => {
                format!("Surrogate-Key: page-{number}\r\nCache-Control: no-cache\r\nETag: {tag}\r\n")
            }
        };
        match seen.header("if-none-match") == Some(&tag) {
            true => format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n").into_bytes(),
            false => page(&lines, &version.to_string()),
        }
    }
}

const LOG: &str = ":1:views.decorators.cache.cache_page.purges";

/// A rule that makes purges exact, which the checker must miss if it does not hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Broken {
    Nothing,
    /// Pages get their position when they are stored, and not before the origin is asked.
    Position,
    /// A log that was lost goes unnoticed.
    Loss,
    /// A page that a 304 confirms takes the place of whatever is there.
    Renewal,
}

/// The versions of the pages, and from when on which of them is the least.
#[derive(Default)]
struct Laboratory {
    versions: [AtomicU64; PAGES],
    floors: [Mutex<Vec<(Instant, u64)>>; PAGES],
    reads: AtomicUsize,
    hits: AtomicUsize,
    stale: Mutex<Vec<String>>,
}

impl Laboratory {
    fn floor(&self, number: usize, asked: Instant) -> u64 {
        let floors = self.floors[number].lock().unwrap();
        floors.iter().rev().find(|(from, _)| *from <= asked).map_or(0, |(_, floor)| *floor)
    }

    /// Changes a page, and purges it until that is acknowledged.
    async fn change(&self, number: usize, scene: &Scene) {
        let version = self.versions[number].fetch_add(1, Ordering::SeqCst) + 1;
        let how = match rand::rng().random_range(0..4) {
            0 => format!("PURGE /p/{number}"),
            1 => format!("PURGE /p/{number}?x"),
            2 => "PURGEKEYS /".to_owned(),
            _ => "PURGE /".to_owned(),
        };
        let tags = if how.ends_with(" /") { format!("xkey: page-{number}\r\n") } else { String::new() };
        let request = format!("{how} HTTP/1.1\r\nHost: localhost:8000\r\n{tags}\r\n");
        // The URL with its query names one page only; the tag names both.
        let is_whole = !how.ends_with("?x");
        while scene.send(&request).await.status() != 200 {
            sleep(Duration::from_millis(5)).await;
        }
        if is_whole {
            let floor = (Instant::now() + BOUND, version);
            self.floors[number].lock().unwrap().push(floor);
        }
    }

    async fn read(&self, number: usize, scene: &Scene) {
        let query = if rand::rng().random_bool(0.5) { "?x" } else { "" };
        let asked = Instant::now();
        let reply = scene.get(&format!("/p/{number}{query}")).await;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let is_hit =
            reply.header("x-cache") == "HIT" || reply.header("cache-status").contains("fwd-status=304");
        self.hits.fetch_add(usize::from(is_hit), Ordering::Relaxed);
        let floor = self.floor(number, asked);
        if let Some(version) = version(&reply).filter(|version| *version < floor) {
            self.stale.lock().unwrap().push(format!("{version} of {number}, least {floor}: {reply:?}"));
        }
    }
}

fn version(reply: &Reply) -> Option<u64> {
    reply.text().parse().ok()
}

/// An origin that is slow by turns, and says the version that it had when it was asked.
async fn origin(laboratory: &Arc<Laboratory>, policy: Policy) -> Origin {
    let laboratory = laboratory.clone();
    Origin::new(move |seen, _| {
        let path = seen.line.split(' ').nth(1).unwrap();
        let number: usize = path.trim_start_matches("/p/").trim_end_matches("?x").parse().unwrap();
        let version = laboratory.versions[number].load(Ordering::SeqCst);
        let answer = policy.answer(seen, number, version);
        let pause = match rand::rng().random_range(0..10) {
            0 => Duration::from_millis(rand::rng().random_range(20..150)),
            1..4 => Duration::from_millis(rand::rng().random_range(0..10)),
            _ => return Script::Answer(answer),
        };
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(async move {
            sleep(pause).await;
            let _ = sender.send(answer).await;
        });
        Script::Pieces(pieces)
    })
    .await
}

/// Cuts connections, deletes the log, empties and restarts Redis.
async fn disturb(redis: Arc<RwLock<Backend>>) {
    for round in 0_u32.. {
        sleep(Duration::from_millis(120)).await;
        let step = match round % 6 {
            5 => {
                let mut redis = redis.write().await;
                let servers = redis.servers();
                let server = round as usize % servers.len();
                tokio::task::block_in_place(|| servers[server].restart()).unwrap();
                continue;
            }
            4 => &["FLUSHALL"][..],
            1 | 3 => &["DEL", LOG],
            _ => &["CLIENT", "KILL", "SKIPME", "yes"],
        };
        let redis = redis.read().await;
        let _ = tokio::task::block_in_place(|| redis.cli(step));
    }
}

async fn check(
    mut redis: Backend,
    policy: Policy,
    reads: usize,
    broken: Broken,
    is_disturbed: bool,
) -> Arc<Laboratory> {
    let laboratory = Arc::new(Laboratory::default());
    let origin = origin(&laboratory, policy).await;
    let mut scenes = Vec::new();
    for _ in 0..3 {
        let store = RedisStore::new(&redis.url(), Duration::from_millis(50), 1 << 20).unwrap();
        let store = Tampered::new(store, &mut redis, broken);
        scenes.push(Scene::with(origin.address, store, &policy.settings()).await);
    }
    let (scenes, redis) = (Arc::new(scenes), Arc::new(RwLock::new(redis)));
    let mut background = JoinSet::new();
    if is_disturbed {
        background.spawn(disturb(redis.clone()));
    }
    for number in 0..PAGES {
        let (laboratory, scenes) = (laboratory.clone(), scenes.clone());
        background.spawn(async move {
            loop {
                let pause = rand::rng().random_range(0..200);
                sleep(Duration::from_millis(pause)).await;
                let scene = rand::rng().random_range(0..3);
                laboratory.change(number, &scenes[scene]).await;
            }
        });
    }
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let (laboratory, scenes) = (laboratory.clone(), scenes.clone());
        readers.spawn(async move {
            while laboratory.reads.load(Ordering::Relaxed) < reads
                && laboratory.stale.lock().unwrap().is_empty()
            {
                let number = rand::rng().random_range(0..PAGES);
                laboratory.read(number, &scenes[reader % 3]).await;
            }
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    background.shutdown().await;
    laboratory
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_served_that_was_purged_whatever_fails() {
    println!("{}", nothing_purged_is_served(Policy::Django).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_renewed_that_was_purged_whatever_fails() {
    println!("{}", nothing_purged_is_served(Policy::Http).await);
}

/// Checks with faults, and returns the figures.
async fn nothing_purged_is_served(policy: Policy) -> String {
    // Under HTTP's policy each read asks the origin.
    let few = if policy == Policy::Http { 2_000 } else { 6_000 };
    let reads = std::env::var("CACHEPAGE_TEST_PURGE_READS").map_or(few, |reads| reads.parse().unwrap());
    let redis = Backend::start().unwrap();
    let laboratory = check(redis, policy, reads, Broken::Nothing, true).await;
    let (reads, hits) = (laboratory.reads.load(Ordering::Relaxed), laboratory.hits.load(Ordering::Relaxed));
    let purges: usize = laboratory.floors.iter().map(|floors| floors.lock().unwrap().len()).sum();
    let stale = laboratory.stale.lock().unwrap();
    assert!(stale.is_empty(), "{stale:?}");
    assert!(hits > reads / 20, "{hits} of {reads} reads were hits: that shows little");
    format!("{reads} reads, {hits} of them hits, {purges} purges")
}

/// The checker sees a stale page if a rule does not hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_checker_finds_each_broken_rule() {
    for (broken, is_disturbed) in [(Broken::Position, false), (Broken::Loss, true)] {
        let redis = Backend::Alone(Redis::start().unwrap());
        let laboratory = check(redis, Policy::Django, 100_000, broken, is_disturbed).await;
        println!("{broken:?}: found after {} reads", laboratory.reads.load(Ordering::Relaxed));
        assert!(!laboratory.stale.lock().unwrap().is_empty(), "{broken:?} was not found");
    }
}

/// A store in which a rule does not hold.
#[derive(Clone)]
pub(crate) struct Tampered {
    store: RedisStore,
    client: Arc<bb8_redis::redis::Client>,
    broken: Broken,
}

impl Tampered {
    pub(crate) fn new(store: RedisStore, redis: &mut Backend, broken: Broken) -> Self {
        let client = bb8_redis::redis::Client::open(redis.servers()[0].url()).unwrap();
        Self { store, client: Arc::new(client), broken }
    }

    /// The value with the position that the log has now.
    async fn restamped(&self, value: &Bytes) -> Option<Bytes> {
        let text = std::str::from_utf8(value).ok()?;
        let (before, rest) = text.split_once("Cachepage-Log: ")?;
        let after = rest.split_once("\r\n")?.1;
        let position = self.position().await?;
        Some(format!("{before}Cachepage-Log: {position}\r\n{after}").into())
    }

    /// The last epoch of the log, and its last entry.
    pub(crate) async fn position(&self) -> Option<String> {
        let mut connection = self.client.get_multiplexed_async_connection().await.ok()?;
        let mut read = bb8_redis::redis::cmd("XREVRANGE");
        let entries: Vec<(String, Vec<String>)> =
            read.arg(LOG).arg("+").arg("-").query_async(&mut connection).await.ok()?;
        let epoch = entries.iter().find(|(_, fields)| fields[1] == "epoch")?.1[3].clone();
        Some(format!("{epoch}/{}", entries.first()?.0))
    }

    /// Whether the epoch of a value is not in the log any more.
    async fn is_of_a_lost_log(&self, value: &Bytes) -> bool {
        let text = String::from_utf8_lossy(value);
        let epoch = text.split("Cachepage-Log: ").nth(1).and_then(|rest| rest.split('/').next());
        let position = self.position().await;
        matches!((epoch, position), (Some(epoch), Some(position)) if !position.starts_with(epoch))
    }
}

impl Store for Tampered {
    async fn connect(&self) {}
}

impl Values for Tampered {
    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        let mut values = self.store.get(keys).await?;
        if self.broken == Broken::Loss {
            for value in values.iter_mut().flatten() {
                if self.is_of_a_lost_log(value).await
                    && let Some(restamped) = self.restamped(value).await
                {
                    *value = restamped;
                }
            }
        }
        Ok(values)
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        self.store.ttl(key).await
    }

    async fn put(&self, mut writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        if self.broken == Broken::Position {
            for write in &mut writes {
                if let Write::Set(_, value) = write
                    && let Some(restamped) = self.restamped(value).await
                {
                    *value = restamped;
                }
            }
        }
        self.store.put(writes, ttl).await
    }

    async fn replace(
        &self,
        key: &Key,
        start: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        match self.broken {
            Broken::Renewal => self.store.put(vec![Write::Set(key.clone(), value)], ttl).await.map(|()| true),
            _ => self.store.replace(key, start, value, ttl).await,
        }
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.store.delete(keys).await
    }
}

impl Locks for Tampered {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.store.claim(key, token, ttl).await
    }

    async fn renew(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.store.renew(key, token, ttl).await
    }

    async fn release(&self, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        self.store.release(key, token).await
    }
}

impl Feed for Tampered {
    fn node_of(&self, key: &[u8]) -> NodeNumber {
        self.store.node_of(key)
    }

    fn follow(&self, prefixes: &[Vec<u8>], listeners: Vec<Arc<dyn Listener>>) -> bool {
        self.store.follow(prefixes, listeners)
    }
}

impl PurgeLog for Tampered {
    fn follow_log(&self, prefixes: &[Vec<u8>], settings: PurgeLogSettings) -> Arc<LogCopy> {
        self.store.follow_log(prefixes, settings)
    }

    async fn append(&self, purge: Purge, replicas: u32, now: SystemTime) -> Result<PurgeId, StoreError> {
        self.store.append(purge, replicas, now).await
    }

    async fn purges(&self, after: PurgeId) -> Result<Vec<LoggedPurge>, StoreError> {
        self.store.purges(after).await
    }
}
