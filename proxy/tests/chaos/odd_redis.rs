//! Redis answers, but not with what we want. Pages that are stored stay hits, and the log stays short.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use stack::Redis;
use tokio::task::{JoinHandle, block_in_place};

use crate::link::link_to;
use crate::load::{CLIENTS, Client, Habit, Load, PAGES};
use crate::origin::Origin;
use crate::program::Proxy;
use crate::{scenario_length, turn};

/// How much later than in calm the slowest hundredth may be answered. Shorter runs than this are too short for a figure.
const DELAY: Duration = Duration::from_millis(20);
const FIGURES: Duration = Duration::from_secs(10);

fn settings(origin: &Origin, store: &str) -> String {
    // In a short run beside other tests, a Redis that has to wait for a core is not a silent one.
    let deadline = if scenario_length() >= FIGURES { 50 } else { 1000 };
    format!(
        "max_entry = \"2MiB\"\ndeadlines.store = \"{deadline}ms\"\nlisten = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstore = \"{store}\"\n[[cache_page]]\npath = \"/*\"\ntimeout = 3600\n",
        origin.address
    )
}

/// What happens to Redis, under load.
#[derive(Clone, Copy)]
struct Trial {
    name: &'static str,
    strikes: fn(&Redis),
    /// Whether the proxy reaches Redis over a slow link.
    is_linked: bool,
    /// Of a number, the path of another page that is fetched now and then.
    other_page: fn(usize) -> String,
    /// Whether the log has to tell of it.
    is_told: bool,
}

impl Trial {
    fn new(name: &'static str, strikes: fn(&Redis)) -> Self {
        Self { name, strikes, is_linked: false, other_page: |_| "/p/poison".to_owned(), is_told: false }
    }
}

/// Fetches new pages all the time, so that there are writes to be refused, and now and then another page.
fn fetch_new_pages(proxy: &Proxy, other: fn(usize) -> String) -> JoinHandle<()> {
    let mut client = Client::new(proxy.address, Habit::KeepAlive);
    tokio::spawn(async move {
        for number in 0_usize.. {
            let path = if number % 10 == 0 { other(number) } else { format!("/p/new{number}") };
            client.fetch(&path).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

async fn stays_hits(Trial { name, strikes, is_linked, other_page, is_told }: Trial) {
    let _turn = turn().await;
    let redis = block_in_place(Redis::start).unwrap();
    let origin = Origin::start().await;
    let store = match is_linked {
        true => format!("redis://{}/1", link_to(redis.port()).await),
        false => redis.url(),
    };
    let proxy = block_in_place(|| Proxy::start(&settings(&origin, &store)));
    let mut client = Client::new(proxy.address, Habit::KeepAlive);
    for page in 0..PAGES {
        client.fetch(&format!("/p/{page}")).await.unwrap();
    }
    let news = fetch_new_pages(&proxy, other_page);
    let load = Load::start(&[proxy.address], CLIENTS, Habit::KeepAlive);
    load.hits(CLIENTS).await;
    let calm = Instant::now();
    tokio::time::sleep(scenario_length() / 3).await;
    let (struck, said) = (Instant::now(), proxy.log().lines().count());
    block_in_place(|| strikes(&redis));
    tokio::time::sleep(scenario_length() * 2 / 3).await;
    load.answers(CLIENTS).await;
    let end = Instant::now();
    let seen = load.stop().await;
    news.abort();

    let (before, during) = (seen.between(calm, struck), seen.between(struck, end));
    let lines = proxy.log().lines().count() - said;
    println!("{name}: {:?} failed, {lines} lines in the log", seen.failures());
    println!("  calm         {before}\n  in the fault {during}");
    assert!(seen.failures().is_empty() && seen.retried == 0, "{name}: {:?}", seen.failures());
    assert_eq!((before.hits, during.hits), (before.answers, during.answers), "{name}: {}", proxy.log());
    assert!(lines > 0 || !is_told, "{name}: it did not happen");
    assert!(lines as u64 <= 1 + (end - struck).as_secs(), "{name}: {}", proxy.log());
    if scenario_length() >= FIGURES {
        assert!(during.p99 <= before.p99 + DELAY, "{name}: {during}");
    }
}

fn cli(redis: &Redis, words: &[&str]) {
    redis.cli(words).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_keeps_its_hits() {
    let fill = |redis: &Redis| {
        cli(redis, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        cli(redis, &["CONFIG", "SET", "maxmemory", "100kb"]);
    };
    stays_hits(Trial::new("Redis at maxmemory, noeviction", fill)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_cannot_save_keeps_its_hits() {
    let fail_to_save = |redis: &Redis| {
        // A snapshot cannot be written over a folder.
        let folder = redis.cli(&["CONFIG", "GET", "dir"]).unwrap().lines().last().unwrap().to_owned();
        std::fs::create_dir_all(format!("{folder}/dump.rdb/x")).unwrap();
        cli(redis, &["CONFIG", "SET", "save", "3600 1"]);
        while redis.cli(&["SETEX", "x", "1", "x"]).is_ok_and(|reply| !reply.starts_with("MISCONF")) {
            let _ = redis.cli(&["BGSAVE"]);
        }
    };
    stays_hits(Trial::new("Redis cannot save (MISCONF)", fail_to_save)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_redis_keeps_its_hits() {
    // Nothing listens there, so Redis keeps what it has and refuses writes.
    let demote = |redis: &Redis| cli(redis, &["REPLICAOF", "127.0.0.1", "1"]);
    stays_hits(Trial::new("Redis read-only", demote)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_64_mb_costs_no_other_hit() {
    let poison = |redis: &Redis| {
        const KEY: &str =
            ":1:views.decorators.cache.cache_page.GET./p/poison.d41d8cd98f00b204e9800998ecf8427e";
        let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
        let length = 64 << 20;
        write!(stream, "SELECT 1\r\n*3\r\n$3\r\nSET\r\n${}\r\n{KEY}\r\n${length}\r\n", KEY.len()).unwrap();
        (0..64).for_each(|_| stream.write_all(&vec![b'x'; 1 << 20]).unwrap());
        stream.write_all(b"\r\n").unwrap();
        stream.read_exact(&mut [0; "+OK\r\n+OK\r\n".len()]).unwrap();
    };
    stays_hits(Trial::new("a value of 64 MB", poison)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_redis_closes_the_connection_for_costs_no_other_hit() {
    let limit = |redis: &Redis| cli(redis, &["CONFIG", "SET", "client-query-buffer-limit", "1mb"]);
    let trial = Trial::new("a page beyond the query buffer of Redis", limit);
    stays_hits(Trial { other_page: |number| format!("/size/1500000/{number}"), is_told: true, ..trial })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_100_mbit_keeps_its_hits() {
    stays_hits(Trial { is_linked: true, ..Trial::new("a link of 100 Mbit/s", |_| {}) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_redis_closes_while_idle_cost_no_hit() {
    let _turn = turn().await;
    let redis = block_in_place(Redis::start).unwrap();
    let origin = Origin::start().await;
    let proxy = block_in_place(|| Proxy::start(&settings(&origin, &redis.url())));
    let mut client = Client::new(proxy.address, Habit::KeepAlive);
    for page in 0..PAGES {
        client.fetch(&format!("/p/{page}")).await.unwrap();
    }
    block_in_place(|| cli(&redis, &["CONFIG", "SET", "timeout", "1"]));
    let began = Instant::now();
    while began.elapsed() < scenario_length() {
        let clients = || redis.cli(&["CLIENT", "LIST"]).unwrap().lines().count();
        // The one that asks is the last.
        while block_in_place(clients) > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let load = Load::start(&[proxy.address], CLIENTS, Habit::KeepAlive);
        load.answers(10 * CLIENTS).await;
        let all = load.stop().await.all();
        assert_eq!(all.hits, all.answers, "{}", proxy.log());
    }
    assert!(!proxy.log().contains("store down"), "{}", proxy.log());
}
