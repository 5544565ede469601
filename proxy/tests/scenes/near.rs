//! The near cache: what it saves, and that it is never behind Redis.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{AsyncConnectionConfig, Client, RedisError, cmd};
use proxy::RedisStore;
use rand::RngExt as _;
use stack::Redis;
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::Backend;
use crate::support::{Origin, PATIENCE, RULES, Reply, Scene, Script, Setup, page};

pub(crate) const KEY: &str = ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e";

/// No proxy may serve an older page later than this after its change was acknowledged.
pub(crate) const BOUND: Duration = Duration::from_millis(50);

pub(crate) fn is_near(reply: &Reply) -> bool {
    reply.header("cache-status").ends_with("detail=near")
}

/// Asks until the answer comes from the near cache.
async fn get_near(scene: &Scene, target: &str, headers: &str) -> Reply {
    let asked = async {
        loop {
            let reply = scene.get_with(target, headers).await;
            if is_near(&reply) {
                return reply;
            }
        }
    };
    timeout(PATIENCE, asked).await.expect("a near hit in time")
}

/// Asks until the answer says this, and tells how long that took.
async fn until(scene: &Scene, target: &str, expected: impl Fn(&Reply) -> bool) -> Duration {
    let start = Instant::now();
    while !expected(&scene.get(target).await) {
        assert!(start.elapsed() < PATIENCE, "{target} never is what is expected");
    }
    start.elapsed()
}

#[tokio::test]
async fn a_near_hit_is_the_same_page_and_asks_redis_nothing() {
    let redis = Redis::start().unwrap();
    let origin = Origin::pages("ETag: \"1\"\r\n").await;
    let scene = Scene::over(Setup::Near, &redis.url(), &origin, RULES).await;
    scene.get("/p/").await;
    let stored = scene.get("/p/").await;
    let near = get_near(&scene, "/p/", "").await;
    let varying = ["age", "cache-status", "date"];
    assert_eq!((near.text(), near.without(&varying)), (stored.text(), stored.without(&varying)));
    assert_eq!(near.cache().split('=').next(), Some("HIT hit; ttl"));

    let gets = || {
        let stats = redis.cli(&["INFO", "commandstats"]).unwrap();
        stats
            .lines()
            .find(|line| line.starts_with("cmdstat_get:"))
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned()
    };
    let before = gets();
    for _ in 0..10 {
        assert!(is_near(&scene.get("/p/").await));
    }
    let head = scene.send("HEAD /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
    assert!(is_near(&head) && head.header("content-length") == "6");
    assert_eq!(gets(), before);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn what_changes_in_redis_by_any_way_is_seen_by_all_proxies() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scenes = [
        Scene::over(Setup::Near, &redis.url(), &origin, RULES).await,
        Scene::over(Setup::Near, &redis.url(), &origin, RULES).await,
        Scene::over(Setup::Near, &redis.url(), &origin, RULES).await,
    ];
    let value = stored(KEY, "elsewhere");
    for change in [
        &["DEL", KEY][..],
        &["SETEX", KEY, "60", &value],
        &["UNLINK", KEY],
        &["PEXPIRE", KEY, "30"],
        &["FLUSHDB"],
        &["RENAME", KEY, &format!("{{{KEY}}}")],
        &["FLUSHALL"],
    ] {
        scenes[0].get("/p/").await;
        let mut old = String::new();
        for scene in &scenes {
            old = get_near(scene, "/p/", "").await.text().to_owned();
        }
        redis.cli(change).unwrap();
        for scene in &scenes {
            until(scene, "/p/", |reply| reply.text() != old).await;
        }
    }
}

#[tokio::test]
async fn a_page_that_varies_and_its_marker_are_both_near_and_both_followed() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("Vary: Accept\r\n").await;
    let scene = Scene::over(Setup::Near, &redis.url(), &origin, RULES).await;
    for (accept, text) in [("Accept: a/b\r\n", "page 1"), ("Accept: c/d\r\n", "page 2")] {
        scene.get_with("/p/", accept).await;
        assert_eq!(get_near(&scene, "/p/", accept).await.text(), text);
    }
    // The marker's end is the end of all variants.
    redis.cli(&["DEL", KEY]).unwrap();
    let start = Instant::now();
    while is_near(&scene.get_with("/p/", "Accept: a/b\r\n").await) {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_ne!(scene.get_with("/p/", "Accept: c/d\r\n").await.text(), "page 2");
}

#[tokio::test]
async fn with_djangos_keys_both_reads_are_saved() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("Vary: Accept\r\n").await;
    let settings = format!(
        "keys = \"django\"\n{RULES}[django]\nversion = \"5.2.19\"\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\n"
    );
    let scene = Scene::over(Setup::Near, &redis.url(), &origin, &settings).await;
    scene.get("/p/").await;
    assert_eq!(get_near(&scene, "/p/", "").await.text(), "page 1");
    redis.cli(&["FLUSHALL"]).unwrap();
    until(&scene, "/p/", |reply| reply.text() == "page 2").await;
}

#[tokio::test]
async fn a_page_does_not_outlive_its_time_in_redis() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Near, &redis.url(), &origin, RULES).await;
    // It says of itself that it has a minute; Redis has it for less.
    let start = Instant::now();
    redis.cli(&["PSETEX", KEY, "700", &stored(KEY, "short")]).unwrap();
    let set = Instant::now();
    assert_eq!(get_near(&scene, "/p/", "").await.text(), "short");
    until(&scene, "/p/", |reply| reply.text() != "short" || set.elapsed() > Duration::from_millis(701)).await;
    assert_ne!(scene.get("/p/").await.text(), "short");
    assert!(start.elapsed() >= Duration::from_millis(699), "nor does it end before");
}

/// Nobody knows what happens in a Redis that does not answer: it is not near then, for longer than promised.
#[tokio::test]
async fn a_redis_that_falls_silent_is_not_near() {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let store = RedisStore::new(&redis.url(), BOUND, 1 << 20).unwrap();
    let scene = Scene::with(origin.address, store, &Setup::Near.settings(RULES)).await;
    scene.get("/p/").await;
    get_near(&scene, "/p/", "").await;
    let signal = |signal: &str| {
        Command::new("kill").args([signal, &redis.server_of(KEY).pid().to_string()]).status().unwrap()
    };
    signal("-STOP");
    let stopped = Instant::now();
    loop {
        let asked = stopped.elapsed();
        if !is_near(&scene.get("/p/").await) {
            break;
        }
        assert!(asked < BOUND, "{asked:?}");
    }
    signal("-CONT");
    get_near(&scene, "/p/", "").await;
}

#[tokio::test]
async fn without_the_invalidations_it_is_off_and_begins_empty_again() {
    let mut redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(Setup::Near, &redis.url(), &origin, RULES).await;
    scene.get("/p/").await;
    get_near(&scene, "/p/", "").await;
    // All connections are cut, and what is changed before they are back is not heard of.
    redis.cli(&["CLIENT", "KILL", "SKIPME", "yes"]).unwrap();
    redis.cli(&["SETEX", KEY, "60", &stored(KEY, "unheard")]).unwrap();
    until(&scene, "/p/", |reply| reply.text() == "unheard").await;
    assert_eq!(get_near(&scene, "/p/", "").await.text(), "unheard");

    redis.stop();
    until(&scene, "/p/", |reply| reply.text() != "unheard").await;
    assert!(!is_near(&scene.get("/p/").await));
    redis.restart().unwrap();
    until(&scene, "/p/", |reply| reply.cache().starts_with("MISS fwd=uri-miss")).await;
    get_near(&scene, "/p/", "").await;
}

/// A page as the proxy would have stored it, with a minute to go.
#[allow(clippy::disallowed_methods, reason = "a test's")]
pub(crate) fn stored(key: &str, text: &str) -> String {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    format!(
        "HTTP/1.1 200 OK\r\nCachepage-Expires: {expires}\r\nCachepage-Key: {key}\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// Pages with versions, changed in Redis in all ways while they are read through three proxies.
struct Laboratory {
    client: Client,
    pages: Vec<VersionedPage>,
    /// Held by who changes a page, and wholly by who restarts Redis.
    redis: RwLock<Redis>,
    reads: AtomicUsize,
    near: AtomicUsize,
}

/// One page, and from when on its versions may not be served any more.
#[derive(Default)]
pub(crate) struct VersionedPage {
    pub(crate) version: AtomicU64,
    /// Each: who asks from then on must not get a version below this one.
    floors: std::sync::Mutex<Vec<(Instant, u64)>>,
    /// Each: who asks from then on must not get this very version, whose time in Redis is over.
    ends: std::sync::Mutex<Vec<(Instant, u64)>>,
}

impl VersionedPage {
    pub(crate) fn raise(&self, from: Instant, floor: u64) {
        self.floors.lock().unwrap().push((from, floor));
    }

    fn end(&self, at: Instant, version: u64) {
        self.ends.lock().unwrap().push((at, version));
    }

    fn has_ended(&self, version: u64, asked: Instant) -> bool {
        self.ends.lock().unwrap().iter().any(|&(at, ended)| ended == version && at <= asked)
    }

    fn floor(&self, asked: Instant) -> u64 {
        let floors = self.floors.lock().unwrap();
        floors.iter().filter(|(from, _)| *from <= asked).map(|(_, floor)| *floor).max().unwrap_or(0)
    }

    /// Asks for the page, and compares its version with what may be served.
    pub(crate) async fn read(&self, scene: &Scene, number: usize) -> Reply {
        let asked = Instant::now();
        let floor = self.floor(asked);
        let reply = scene.get(&format!("/p/{number}")).await;
        if let Ok(version) = reply.text().parse::<u64>() {
            assert!(version >= floor, "{version} of page {number}, where {floor} is the least: {reply:?}");
            assert!(!self.has_ended(version, asked), "{version} of page {number} is over: {reply:?}");
        }
        reply
    }
}

/// The key of a page by its number.
pub(crate) fn numbered_key(page: usize) -> String {
    KEY.replace("/p/", &format!("/p/{page}"))
}

impl Laboratory {
    const PAGES: usize = 8;

    /// Changes a page, until Redis has acknowledged it.
    async fn change(&self, number: usize, connection: &mut MultiplexedConnection) {
        let page = &self.pages[number];
        let change = rand::rng().random_range(0..10);
        let redis = self.redis.read().await;
        let version = page.version.load(Ordering::SeqCst);
        let mut command = cmd(match change {
            0..6 => "SETEX",
            6..8 => "PSETEX",
            _ => "DEL",
        });
        let key = numbered_key(number);
        command.arg(&key);
        let milliseconds = rand::rng().random_range(5..100);
        let floor = version + 1;
        match change {
            0..6 => command.arg(60).arg(stored(&key, &floor.to_string())),
            6..8 => command.arg(milliseconds).arg(stored(&key, &floor.to_string())),
            _ => &mut command,
        };
        page.version.store(floor, Ordering::SeqCst);
        while command.exec_async(connection).await.is_err() {
            if let Ok(Ok(another)) = timeout(PATIENCE, self.connect()).await {
                *connection = another;
            }
        }
        let acknowledged = Instant::now();
        page.raise(acknowledged + BOUND, floor);
        if (6..8).contains(&change) {
            // No tolerance here: it must not be served for one moment longer than Redis has it, which is to the end of
            // the millisecond in which its time is over.
            page.end(acknowledged + Duration::from_millis(milliseconds + 1), floor);
        }
        drop(redis);
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        // Without a deadline: a command that was given up and is carried out later would undo a newer one.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn read(&self, scene: &Scene, number: usize) {
        let reply = self.pages[number].read(scene, number).await;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.near.fetch_add(usize::from(is_near(&reply)), Ordering::Relaxed);
    }

    /// Cuts connections, and now and then restarts Redis.
    async fn disturb(&self) {
        for round in 0_u32.. {
            sleep(Duration::from_millis(150)).await;
            if round % 8 == 7 {
                let mut redis = self.redis.write().await;
                tokio::task::block_in_place(|| redis.restart()).unwrap();
                let restarted = Instant::now();
                for page in &self.pages {
                    page.raise(restarted + BOUND, page.version.fetch_add(1, Ordering::SeqCst) + 1);
                }
            } else if let Ok(mut connection) = self.connect().await {
                let _ = cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes").exec_async(&mut connection).await;
            }
        }
    }
}

/// `CACHEPAGE_TEST_READS=100000 cargo test --release -p proxy --test scenes coherence` for the long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coherence() {
    let reads = std::env::var("CACHEPAGE_TEST_READS").map_or(4_000, |reads| reads.parse().unwrap());
    let redis = Redis::start().unwrap();
    // What the origin has is never stored: Redis holds what the writers wrote.
    let origin = Origin::new(|_, _| Script::Answer(page("Cache-Control: private\r\n", "origin"))).await;
    let mut scenes = Vec::new();
    for _ in 0..3 {
        scenes.push(Scene::over(Setup::Near, &redis.url(), &origin, RULES).await);
    }
    let laboratory = Arc::new(Laboratory {
        client: Client::open(redis.url()).unwrap(),
        pages: (0..Laboratory::PAGES).map(|_| VersionedPage::default()).collect(),
        redis: RwLock::new(redis),
        reads: AtomicUsize::new(0),
        near: AtomicUsize::new(0),
    });
    let mut disturbances = tokio::task::JoinSet::new();
    for number in 0..Laboratory::PAGES {
        let laboratory = laboratory.clone();
        disturbances.spawn(async move {
            let mut connection = laboratory.connect().await.unwrap();
            loop {
                laboratory.change(number, &mut connection).await;
                let pause = rand::rng().random_range(0..100);
                sleep(Duration::from_millis(pause)).await;
            }
        });
    }
    let disturber = laboratory.clone();
    disturbances.spawn(async move { disturber.disturb().await });
    let scenes = Arc::new(scenes);
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..6 {
        let (laboratory, scenes) = (laboratory.clone(), scenes.clone());
        readers.spawn(async move {
            while laboratory.reads.load(Ordering::Relaxed) < reads {
                let number = rand::rng().random_range(0..Laboratory::PAGES);
                laboratory.read(&scenes[reader % 3], number).await;
            }
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    disturbances.abort_all();
    let (all, near) = (laboratory.reads.load(Ordering::Relaxed), laboratory.near.load(Ordering::Relaxed));
    println!("{all} reads, {near} of them near");
    assert!(near > all / 20, "{near} of {all} reads were near: that shows little");
}
