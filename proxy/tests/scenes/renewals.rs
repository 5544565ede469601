//! Renewals by 304 at the same moment as purges, deletions and new pages: no older page comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{Client, cmd};
use rand::RngExt as _;
use stack::Redis;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::near::{BOUND, VersionedPage, is_near, numbered_key};
use crate::purge_checker::{Broken, Tampered};
use crate::support::{Origin, Scene, Script, Seen, page, redis_store};

const SETTINGS: &str = "near = \"64MiB\"\n[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\npolicy = \"http\"\n";

const PAGES: usize = 8;

/// Pages with versions. Only the test writes new ones into Redis; the proxies renew what they find there.
#[derive(Default)]
struct Laboratory {
    pages: [VersionedPage; PAGES],
    reads: AtomicUsize,
    near: AtomicUsize,
    renewals: AtomicUsize,
    /// The place in the purge log that all pages have.
    position: OnceLock<String>,
}

#[allow(clippy::disallowed_methods, reason = "a test's")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A page as a proxy would have stored it, which is fresh or past its time.
fn stored(key: &str, version: u64, is_fresh: bool, position: &str) -> String {
    let now = now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let expires = if is_fresh { now + 60 } else { now - 5 };
    let number: u64 = rand::rng().random();
    let text = version.to_string();
    format!(
        "HTTP/1.1 200 OK\r\nCachepage-Expires: {expires}\r\nCachepage-Key: {key}\r\nCachepage-Version: {number:016x}\r\n\
         Cachepage-Born: {now}\r\nCachepage-Log: {position}\r\nCachepage-Url: //localhost:8000/p\r\nEtag: \"{version}\"\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

impl Laboratory {
    /// Says that a version is current, often late, and has nothing else that can be stored.
    fn answer(&self, seen: &Seen) -> Script {
        let number: usize = seen.line.split(['/', ' ']).nth(3).unwrap().parse().unwrap();
        let version = self.pages[number].version.load(Ordering::SeqCst);
        if seen.header("if-none-match") != Some(&format!("\"{version}\"")) {
            return Script::Answer(page("Cache-Control: private\r\n", "origin"));
        }
        let date = httpdate::fmt_http_date(now());
        let head = format!(
            "HTTP/1.1 304 Not Modified\r\nDate: {date}\r\nCache-Control: max-age=1\r\nETag: \"{version}\"\r\n\r\n"
        );
        if rand::rng().random_bool(0.3) {
            return Script::Answer(head.into_bytes());
        }
        let (sender, pieces) = mpsc::channel(1);
        let pause = Duration::from_millis(rand::rng().random_range(0..150));
        tokio::spawn(async move {
            sleep(pause).await;
            let _ = sender.send(head.into_bytes()).await;
        });
        Script::Pieces(pieces)
    }

    /// Puts a new version of a page into Redis, or deletes the page, and waits until that is acknowledged.
    async fn change(&self, number: usize, connection: &mut MultiplexedConnection) {
        let page = &self.pages[number];
        let version = page.version.fetch_add(1, Ordering::SeqCst) + 1;
        let (key, position) = (numbered_key(number), self.position.get().unwrap());
        let command = match rand::rng().random_range(0..10) {
            0 => cmd("DEL").arg(&key).clone(),
            change => cmd("SETEX").arg(&key).arg(60).arg(stored(&key, version, change < 3, position)).clone(),
        };
        command.exec_async(connection).await.unwrap();
        page.raise(Instant::now() + BOUND, version);
    }

    async fn read(&self, number: usize, scene: &Scene) {
        let reply = self.pages[number].read(scene, number).await;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.near.fetch_add(usize::from(is_near(&reply)), Ordering::Relaxed);
        let is_renewed = reply.header("cache-status").ends_with("fwd-status=304; stored");
        self.renewals.fetch_add(usize::from(is_renewed), Ordering::Relaxed);
    }
}

/// Reads through two proxies while pages change, and fails as soon as one gets an older page than it must.
async fn check(reads: usize, broken: Broken) -> Arc<Laboratory> {
    let redis = Redis::start().unwrap();
    let laboratory = Arc::new(Laboratory::default());
    let asked = laboratory.clone();
    let origin = Origin::new(move |seen, _| asked.answer(seen)).await;
    let mut scenes = Vec::new();
    for _ in 0..2 {
        let store = Tampered::new(redis_store(&redis.url()), &redis.url(), broken);
        scenes.push(Scene::with(origin.address, store.clone(), SETTINGS).await);
        // The first proxy begins the log.
        while laboratory.position.get().is_none() {
            sleep(Duration::from_millis(5)).await;
            store.position().await.map(|position| laboratory.position.set(position));
        }
    }
    let scenes = Arc::new(scenes);
    let client = Client::open(redis.url()).unwrap();
    let mut changes = JoinSet::new();
    for number in 0..PAGES {
        let (laboratory, client) = (laboratory.clone(), client.clone());
        changes.spawn(async move {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            loop {
                laboratory.change(number, &mut connection).await;
                let pause = rand::rng().random_range(0..300);
                sleep(Duration::from_millis(pause)).await;
            }
        });
    }
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let (laboratory, scenes) = (laboratory.clone(), scenes.clone());
        readers.spawn(async move {
            while laboratory.reads.load(Ordering::Relaxed) < reads {
                let number = rand::rng().random_range(0..PAGES);
                laboratory.read(number, &scenes[reader % 2]).await;
            }
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    changes.shutdown().await;
    laboratory
}

/// `CACHEPAGE_TEST_READS=20000 cargo test --release -p proxy --test scenes renewal` for the long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_renewal_brings_an_older_page_back() {
    let reads = std::env::var("CACHEPAGE_TEST_READS").map_or(4_000, |reads| reads.parse().unwrap());
    let laboratory = check(reads, Broken::Nothing).await;
    let count = |figure: &AtomicUsize| figure.load(Ordering::Relaxed);
    let (reads, near, renewals) =
        (count(&laboratory.reads), count(&laboratory.near), count(&laboratory.renewals));
    println!("{reads} reads, {near} of them near, {renewals} renewals");
    assert!(near > reads / 20 && renewals > reads / 50, "{near} near and {renewals} renewals show little");
}

/// The checker sees an older page if a renewal takes any place.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[should_panic(expected = "is the least")]
async fn the_checker_finds_a_renewal_that_takes_the_place_of_another_version() {
    check(100_000, Broken::Renewal).await;
}
