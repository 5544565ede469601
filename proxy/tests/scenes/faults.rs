//! Whatever the store does, clients get the answers of the origin.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proxy::{
    Feed, Key, Listener, Locks, LogCopy, LoggedPurge, MemoryStore, Purge, PurgeId, PurgeLog,
    PurgeLogSettings, Store, StoreError, Values, Write,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

use crate::support::{Origin, PATIENCE, Reply, Scene, Script, answer, exchange};

/// Django's keys, without headers that are added to hits, so that hits equal the origin's answers.
const DJANGO: &str = r#"
keys = "django"
[django]
version = "5.2.19"
[django.hit_headers]
X-Content-Type-Options = ""
Referrer-Policy = ""
Cross-Origin-Opener-Policy = ""
X-Frame-Options = ""
"#;

/// The longest delay of the store.
const DEADLINE: Duration = Duration::from_millis(5);

/// A store with random faults: it fails, is slow, forgets values, truncates them, confuses them, and returns values
/// that were never put.
#[derive(Clone)]
struct Faulty {
    store: MemoryStore,
    chance: Arc<Mutex<Chance>>,
}

struct Chance {
    random: StdRng,
    /// The probability of a fault in an operation.
    odds: f64,
    /// The keys that were read so far.
    keys: Vec<Key>,
}

impl Faulty {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let odds = random.random_range(0.1..0.9);
        let chance = Arc::new(Mutex::new(Chance { random, odds, keys: Vec::new() }));
        Self { store: MemoryStore::new(64 << 20), chance }
    }

    /// Waits for a random time or not at all, then fails or not.
    async fn strike(&self) -> Result<(), StoreError> {
        let (delay, error) = {
            let chance = &mut *self.chance.lock().unwrap();
            let strikes = |chance: &mut Chance| chance.random.random_bool(chance.odds / 2.0);
            let delay = strikes(chance).then(|| chance.random.random_range(Duration::ZERO..DEADLINE));
            (delay, strikes(chance).then(|| chance.error()))
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        error.map_or(Ok(()), Err)
    }
}

impl Chance {
    fn error(&mut self) -> StoreError {
        match self.random.random_range(0..3) {
            0 => StoreError::Unreachable("it is gone".to_owned()),
            1 => StoreError::Deadline(DEADLINE),
            _ => StoreError::Refused("OOM".to_owned()),
        }
    }

    /// The key whose value is returned for this one.
    fn mix_up(&mut self, key: &Key) -> Key {
        if !self.keys.contains(key) {
            self.keys.push(key.clone());
        }
        match self.random.random_bool(self.odds / 2.0) {
            true => self.keys[self.random.random_range(0..self.keys.len())].clone(),
            false => key.clone(),
        }
    }

    /// The value that is returned instead of this one.
    fn spoil(&mut self, value: Option<Bytes>) -> Option<Bytes> {
        if !self.random.random_bool(self.odds) {
            return value;
        }
        match self.random.random_range(0..4) {
            0 => None,
            1 => Some((0..self.random.random_range(0..200)).map(|_| self.random.random::<u8>()).collect()),
            2 => value.map(|value| value.slice(..self.random.random_range(0..=value.len()))),
            _ => {
                const FOREIGN: [&[u8]; 6] = [
                    b"",
                    b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nforeign",
                    b"HTTP/1.1 404 Not Found\r\nCachepage-Expires: 4000000000\r\nContent-Length: 0\r\n\r\n",
                    b"cachepage/1 vary 00000000000000000000000000000000 accept-language\n",
                    b"\x80\x05]\x94.",
                    b"apart",
                ];
                Some(Bytes::from_static(FOREIGN[self.random.random_range(0..FOREIGN.len())]))
            }
        }
    }
}

impl Store for Faulty {
    async fn connect(&self) {}
}

impl PurgeLog for Faulty {
    fn follow_log(&self, prefixes: &[Vec<u8>], settings: PurgeLogSettings) -> Arc<LogCopy> {
        self.store.follow_log(prefixes, settings)
    }

    async fn append(&self, purge: Purge, replicas: u32, now: SystemTime) -> Result<PurgeId, StoreError> {
        self.strike().await?;
        self.store.append(purge, replicas, now).await
    }

    async fn purges(&self, after: PurgeId) -> Result<Vec<LoggedPurge>, StoreError> {
        self.store.purges(after).await
    }
}

impl Values for Faulty {
    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        self.strike().await?;
        let keys = keys.map(|key| self.chance.lock().unwrap().mix_up(&Key::new(key)));
        let values = self.store.get(keys.each_ref().map(Key::as_bytes)).await?;
        let mut chance = self.chance.lock().unwrap();
        Ok(values.map(|value| chance.spoil(value)))
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        self.strike().await?;
        self.store.ttl(key).await
    }

    async fn put(&self, writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        // The fault comes before or after the writes, or the last write is lost.
        self.strike().await?;
        let done = writes.len() - usize::from(self.chance.lock().unwrap().random.random_bool(0.1));
        self.store.put(writes[..done].to_vec(), ttl).await?;
        self.strike().await
    }

    async fn replace(
        &self,
        key: &Key,
        start: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.strike().await?;
        let replaced = self.store.replace(key, start, value, ttl).await?;
        self.strike().await?;
        Ok(replaced)
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.strike().await?;
        self.store.delete(keys).await
    }
}

impl Locks for Faulty {
    async fn claim(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.strike().await?;
        let claimed = self.store.claim(key, token, ttl).await?;
        // The answer may say that a claim has failed although it has succeeded.
        Ok(claimed && !self.chance.lock().unwrap().random.random_bool(0.1))
    }

    async fn renew(&self, key: &Key, token: &Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.strike().await?;
        self.store.renew(key, token, ttl).await
    }

    async fn release(&self, key: &Key, token: &Bytes) -> Result<bool, StoreError> {
        self.strike().await?;
        self.store.release(key, token).await
    }
}

impl Feed for Faulty {
    fn follow(&self, _: &[Vec<u8>], _: Vec<Arc<dyn Listener>>) -> bool {
        false
    }
}

/// An origin whose answer depends only on the request. Its answers are of all kinds, cacheable and not.
async fn origin() -> Origin {
    Origin::new(|seen, _| {
        let (method, target) = seen.line.split_once(' ').unwrap();
        let target = target.split(' ').next().unwrap();
        let language = seen.header("accept-language").unwrap_or("none");
        let path = target.split('?').next().unwrap();
        let body = format!("{target} in {language}\n").repeat(20);
        let answer = match path {
            "/p/varies" => answer("200 OK", "Vary: Accept-Language\r\nX-A: 1\r\nX-A: 2\r\n", &body),
            "/p/private" => answer("200 OK", "Cache-Control: private\r\n", &body),
            "/p/cookie" => answer("200 OK", "Set-Cookie: a=b\r\n", &body),
            "/p/missing" => answer("404 Not Found", "", target),
            "/p/broken" => answer("503 Service Unavailable", "Retry-After: 5\r\n", target),
            "/p/short" => answer("200 OK", "Cache-Control: max-age=5\r\n", &target.repeat(9)),
            "/p/chunks" => {
                let chunk = format!("{:x}\r\n{target}\r\n", target.len());
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
                format!("{head}{chunk}{chunk}0\r\n\r\n").into_bytes()
            }
            _ => answer("200 Fine", &format!("X-Of: {target}\r\n"), &format!("{target}\n").repeat(20)),
        };
        let head_only = method == "HEAD";
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
        Script::Answer(if head_only { answer[..end].to_vec() } else { answer })
    })
    .await
}

fn request(random: &mut StdRng) -> String {
    const TARGETS: [&str; 13] = [
        "/p/one",
        "/p/two",
        "/p/one?q=1",
        "/p/one?q=2",
        "/p/varies",
        "/p/varies?q=1",
        "/p/private",
        "/p/cookie",
        "/p/missing",
        "/p/broken",
        "/p/short",
        "/p/chunks",
        "/other",
    ];
    let target = TARGETS[random.random_range(0..TARGETS.len())];
    let language = ["", "Accept-Language: de\r\n", "Accept-Language: fr\r\n"][random.random_range(0..3)];
    let method = if random.random_bool(0.1) { "HEAD" } else { "GET" };
    format!("{method} {target} HTTP/1.1\r\nHost: localhost:8000\r\n{language}\r\n")
}

/// The parts of an answer that the cache must not change.
fn given(reply: &Reply) -> (String, Vec<(String, String)>, &[u8], bool) {
    const CACHES: [&str; 9] = [
        "x-cache",
        "cache-status",
        "age",
        "expires",
        "cache-control",
        // A stored page has no Date and Server, as in Django, and has a length instead of chunks.
        "date",
        "server",
        "content-length",
        "transfer-encoding",
    ];
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in reply.without(&CACHES) {
        // Lines of one name are a list (RFC 9110 §5.3), which Django stores as one line.
        match headers.iter_mut().find(|(listed, _)| listed.eq_ignore_ascii_case(name)) {
            Some((_, list)) => *list = format!("{list}, {value}"),
            None => headers.push((name.to_lowercase(), value.to_owned())),
        }
    }
    (reply.line.clone(), headers, &reply.body, reply.whole)
}

async fn play_with_faults(seed: u64, keys: &'static str, rule: &'static str) {
    let origin = origin().await;
    let settings = format!("{keys}[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\n{rule}");
    let scene = Scene::with(origin.address, Faulty::new(seed), &settings).await;
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..30 {
        // Concurrent requests, some of them for the same page.
        let mut asked = JoinSet::new();
        for _ in 0..random.random_range(1..6) {
            let (request, proxy, origin) = (request(&mut random), scene.address, origin.address);
            asked.spawn(async move {
                let reply =
                    tokio::time::timeout(PATIENCE, exchange(proxy, request.as_bytes())).await.unwrap();
                let direct = exchange(origin, request.as_bytes()).await;
                assert_eq!(
                    given(&reply),
                    given(&direct),
                    "{request}{keys}{rule}seed {seed}: {}",
                    reply.cache()
                );
            });
        }
        asked.join_all().await;
    }
    scene.stop().await;
}

/// Each seed gives other faults. A failure names its seed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_get_the_answers_of_the_origin_whatever_the_store_does() {
    let cases = std::env::var("CACHEPAGE_CHAOS_CASES").map_or(20, |text| text.parse().unwrap());
    for seed in 0..cases {
        for rule in ["", "coalesce = \"fleet\"\n", "grace = 60\nstale_if_error = 60\nearly_refresh = 1.0\n"] {
            play_with_faults(seed, "", rule).await;
        }
        play_with_faults(seed, DJANGO, "").await;
    }
}
