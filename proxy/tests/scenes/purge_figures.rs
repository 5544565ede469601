//! How long a purge of many pages takes, and how much memory many purges take.
//!
//! In CI the numbers are small, and only what happens is checked. `CACHEPAGE_TEST_PURGE_PAGES=100000` makes it a long run,
//! which prints the figures and compares them with what is promised; `CACHEPAGE_TEST_PROGRAM` names a release build.

use std::time::Duration;

use stack::Redis;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::admin::{Running, TOKEN};
use crate::support::{Client, Origin, PATIENCE};

const PROXIES: usize = 3;

/// Connections that share the work.
const CLIENTS: usize = 24;

/// The promises: the median of the acknowledgements on an idle machine, when all proxies follow it, and the memory that
/// 100,000 purges take in Redis and in a proxy.
const ACKNOWLEDGED: Duration = Duration::from_millis(5);
const KNOWN: Duration = Duration::from_millis(50);
const MEMORY: usize = 10 << 20;

/// The number of pages, or of purges, of a long run.
fn wanted() -> Option<usize> {
    std::env::var("CACHEPAGE_TEST_PURGE_PAGES").ok().map(|wanted| wanted.parse().unwrap())
}

/// Three programs over one Redis.
struct Fleet {
    redis: Redis,
    proxies: Vec<Running>,
    _origin: Origin,
}

impl Fleet {
    /// The origin gives each page the same tag.
    async fn start() -> Self {
        let redis = Redis::start().unwrap();
        let origin = Origin::pages("Surrogate-Key: all-pages\r\n").await;
        let settings = format!(
            "origin = \"http://{}\"\nstore = \"{}\"\nnear = \"64MiB\"\n[[cache_page]]\n\
             path = \"/p/*\"\ntimeout = 600\n[purge]\nallow = [\"127.0.0.1\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             token_file = \"TOKEN\"\n[deadlines]\nstore = \"2s\"\n",
            origin.address,
            redis.url(),
        );
        let proxies = (0..PROXIES).map(|_| Running::of(&settings)).collect();
        Self { redis, proxies, _origin: origin }
    }

    /// Sends requests of these numbers, shared among connections to all proxies, and expects a 200 for each.
    async fn send(&self, count: usize, request: impl Fn(usize) -> String + Copy + Send + 'static) {
        let mut clients = JoinSet::new();
        for first in 0..CLIENTS {
            let address = self.proxies[first % PROXIES].proxy;
            clients.spawn(async move {
                let mut client = Client::connect(address).await;
                for number in (first..count).step_by(CLIENTS) {
                    client.write(request(number).as_bytes()).await;
                    assert_eq!(client.reply(true).await.status(), 200);
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    }

    /// Waits until the page of each proxy is a hit there.
    async fn keep_a_page_each(&self) {
        for (number, proxy) in self.proxies.iter().enumerate() {
            let hit =
                async { while proxy.get(&format!("/p/{number}"), "").await.header("x-cache") != "HIT" {} };
            timeout(PATIENCE, hit).await.expect("the page is kept");
        }
    }

    /// Purges the tag of all pages by one proxy. Returns the time until that is acknowledged, and from then on the time until
    /// each proxy asks the origin for its page.
    async fn purge(&self, by: usize) -> (Duration, Duration) {
        let mut client = Client::connect(self.proxies[by].proxy).await;
        let mut readers = Vec::new();
        for proxy in &self.proxies {
            readers.push(Client::connect(proxy.proxy).await);
        }
        let asked = Instant::now();
        client.write(PURGE_ALL).await;
        assert_eq!(client.reply(true).await.status(), 200);
        let acknowledged = Instant::now();
        for (number, reader) in readers.iter_mut().enumerate() {
            let request = get(number);
            let known = async {
                loop {
                    reader.write(request.as_bytes()).await;
                    if reader.reply(true).await.header("x-cache") != "HIT" {
                        return;
                    }
                }
            };
            timeout(PATIENCE, known).await.expect("the purge is known to each proxy");
        }
        (acknowledged - asked, acknowledged.elapsed())
    }

    /// The memory of Redis, and of each proxy, in bytes.
    async fn memory(&self) -> Vec<usize> {
        let said = self.redis.cli(&["INFO", "memory"]).unwrap();
        let mut memory = vec![figure(&said, "used_memory:")];
        for proxy in &self.proxies {
            let metrics = proxy.ask("GET", "/metrics", TOKEN).await;
            memory.push(figure(metrics.text(), "process_resident_memory_bytes "));
        }
        memory
    }
}

const PURGE_ALL: &[u8] = b"PURGE / HTTP/1.1\r\nHost: localhost\r\nSurrogate-Key: all-pages\r\n\r\n";

fn get(number: usize) -> String {
    format!("GET /p/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn purge_one(number: usize) -> String {
    format!("PURGE / HTTP/1.1\r\nHost: localhost\r\nSurrogate-Key: shop.product:{number}\r\n\r\n")
}

/// The number behind a name at the beginning of a line.
fn figure(text: &str, name: &str) -> usize {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_many_pages_is_known_to_each_proxy_soon_after_it_is_acknowledged() {
    let fleet = Fleet::start().await;
    fleet.send(wanted().unwrap_or(300), get).await;
    let mut figures = Vec::new();
    for round in 0..21 {
        fleet.keep_a_page_each().await;
        figures.push(fleet.purge(round % PROXIES).await);
    }
    let first = figures[0];
    figures.sort_unstable();
    let (median, slowest) =
        (figures[figures.len() / 2].0, figures.iter().map(|figure| figure.1).max().unwrap());
    println!(
        "all pages: {first:?}; 21 purges: acknowledged {median:?} (median), known {slowest:?} (slowest)"
    );
    if wanted().is_some() {
        assert!(median <= ACKNOWLEDGED && first.0 <= KNOWN && slowest <= KNOWN, "{figures:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_purges_take_little_memory() {
    let fleet = Fleet::start().await;
    // What a proxy takes for its first requests is not for purges.
    fleet.send(CLIENTS * 10, purge_one).await;
    let before = fleet.memory().await;
    fleet.send(wanted().unwrap_or(1_000), purge_one).await;
    fleet.keep_a_page_each().await;
    let more: Vec<_> =
        fleet.memory().await.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect();
    println!("bytes more in Redis and in each proxy: {more:?}");
    assert!(more.iter().all(|more| *more <= MEMORY), "{more:?}");
}
