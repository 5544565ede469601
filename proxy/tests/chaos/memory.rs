//! Limits are promises: what the program takes above itself idle, while pages are replaced under load, is at most 1.15
//! of the limit that was set for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, block_in_place};

use crate::backend::Backend;
use crate::load::{CLIENTS, Client, Habit};
use crate::origin::Origin;
use crate::program::Proxy;
use crate::{scenario_length, turn};

/// The most that the program may take above itself idle, as a multiple of the limit.
const PROMISED: f64 = 1.15;

/// A short run, beside other tests, sees large mistakes only.
const SHORT: f64 = 1.5;
const FIGURES: Duration = Duration::from_secs(10);

/// Pages of one kind.
#[derive(Clone, Copy)]
struct Pages {
    /// The first part of their paths, which says whether they vary.
    folder: &'static str,
    size: usize,
}

const SMALL: Pages = Pages { folder: "size", size: 500 };
const USUAL: Pages = Pages { folder: "size", size: 14_000 };
const LARGE: Pages = Pages { folder: "size", size: 900_000 };
const VARYING: Pages = Pages { folder: "vary", size: 500 };

impl Pages {
    fn path(self, number: usize) -> String {
        format!("/{}/{}/{number}", self.folder, self.size)
    }

    /// The number of pages that fill a cache of this limit.
    fn filling(self, limit: usize) -> usize {
        /// About what a page holds besides its body.
        const HEAD: usize = 4_000;
        limit / (self.size + HEAD)
    }
}

/// Ever new pages, until there were enough and time is up.
struct Walk {
    pages: Pages,
    next: AtomicUsize,
    hits: AtomicUsize,
    /// So many pages are replaced for certain.
    enough: usize,
    until: Instant,
    /// After so many pages the first one comes again.
    all: usize,
}

impl Walk {
    fn new(pages: Pages, limit: usize, all: Option<usize>, time: Duration) -> Arc<Self> {
        let until = Instant::now() + time;
        let enough = 2 * pages.filling(limit);
        Arc::new(Self {
            pages,
            next: AtomicUsize::new(0),
            hits: AtomicUsize::new(0),
            enough,
            until,
            all: all.unwrap_or(usize::MAX),
        })
    }

    fn next(&self) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let goes_on = number < self.enough || Instant::now() < self.until;
        goes_on.then(|| self.pages.path(number % self.all))
    }

    /// Asks for each page twice: the second answer is a hit if the first was stored.
    async fn walk(self: Arc<Self>, mut client: Client) {
        while let Some(path) = self.next() {
            for _ in 0..2 {
                let answer = client.fetch(&path).await.unwrap();
                assert_eq!((answer.status, answer.body.len()), (200, self.pages.size));
                self.hits.fetch_add(usize::from(answer.is_hit), Ordering::Relaxed);
            }
        }
    }

    /// Has clients walk, and returns the most memory that the program takes meanwhile.
    async fn run(self: &Arc<Self>, proxy: &Proxy, clients: usize) -> usize {
        let client = || Client::new(proxy.address, Habit::KeepAlive);
        let mut walks: JoinSet<_> = (0..clients).map(|_| self.clone().walk(client())).collect();
        let mut most = 0;
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        while !walks.is_empty() {
            tokio::select! {
                _ = pause.tick() => most = most.max(proxy.resident()),
                done = walks.join_next() => done.unwrap().unwrap(),
            }
        }
        most
    }
}

/// Starts a proxy that has answered a few requests.
async fn start(origin: &Origin, rest: &str) -> Proxy {
    let listen = "listen = \"127.0.0.1:0\"";
    let rule = "[[cache_page]]\npath = \"/*\"\ntimeout = 600\n";
    let settings = format!("{listen}\norigin = \"http://{}\"\n{rest}\n{rule}", origin.address);
    let proxy = block_in_place(|| Proxy::start(&settings));
    let mut client = Client::new(proxy.address, Habit::KeepAlive);
    for _ in 0..4 {
        client.fetch("/p/1").await.unwrap();
    }
    proxy
}

/// Checks what the program takes while clients walk.
async fn keeps_its_promise(proxy: &Proxy, (setting, limit): (&str, usize), walk: &Arc<Walk>) {
    let idle = proxy.resident();
    let most = walk.run(proxy, CLIENTS).await;
    let (count, Pages { folder, size, .. }) = (walk.next.load(Ordering::Relaxed), walk.pages);
    let multiple = (most - idle) as f64 / limit as f64;
    let promised = if scenario_length() >= FIGURES { PROMISED } else { SHORT };
    let (mib, hits) = (limit >> 20, walk.hits.load(Ordering::Relaxed));
    println!(
        "{setting} of {mib} MiB, {count} pages {folder}/{size}, {hits} hits: {multiple:.2} of it above idle"
    );
    assert!(hits > walk.pages.filling(limit) / 8, "{hits} hits: the cache was not filled");
    assert!(multiple <= promised, "{multiple:.2} of {setting}, {promised:.2} are promised");
}

async fn in_memory(limit: usize, pages: Pages) {
    let _turn = turn().await;
    let origin = Origin::start().await;
    let proxy = start(&origin, &format!("store = \"memory\"\nmemory_limit = {limit}")).await;
    let walk = Walk::new(pages, limit, None, scenario_length());
    keeps_its_promise(&proxy, ("memory_limit", limit), &walk).await;
}

/// Redis has all pages. The near cache keeps what is read from it.
async fn near_redis(limit: usize, pages: Pages) {
    let _turn = turn().await;
    let redis = block_in_place(Backend::start).unwrap();
    let origin = Origin::start().await;
    let store = format!("store = \"{}\"", redis.url());
    let fill = Walk::new(pages, limit, None, Duration::ZERO);
    fill.run(&start(&origin, &store).await, CLIENTS).await;
    let proxy = start(&origin, &format!("{store}\nnear = {limit}")).await;
    let walk = Walk::new(pages, limit, Some(fill.enough), scenario_length());
    keeps_its_promise(&proxy, ("near", limit), &walk).await;
}

macro_rules! cases {
    ($($name:ident: $place:ident($limit:expr, $pages:expr);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $place($limit << 20, $pages).await;
        }
    )*};
}

cases! {
    small_pages_in_memory: in_memory(32, SMALL);
    usual_pages_in_memory: in_memory(32, USUAL);
    large_pages_in_memory: in_memory(64, LARGE);
    varying_pages_in_memory: in_memory(32, VARYING);
    small_pages_near: near_redis(32, SMALL);
    usual_pages_near: near_redis(32, USUAL);
    large_pages_near: near_redis(64, LARGE);
    large_pages_that_are_kept_near: near_redis(128, LARGE);
    varying_pages_near: near_redis(32, VARYING);
}
