//! What a hit may cost in allocations: a count, which is the same on any machine, however noisy. Who makes a hit dearer
//! sees it here, and raises the figure with a reason; who makes it cheaper lowers it.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use clap::Parser as _;
use proxy::{AccessLog, Args, Config, InForce, MemoryStore, Proxy, RedisStore, Site, Store};
use stack::Redis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

const REQUEST: &[u8] = b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

/// A page of 9 KB, as Django makes them.
const BODY: usize = 14_000;

/// Allocations, and the bytes in them.
#[derive(Debug)]
struct Cost {
    allocations: u64,
    bytes: u64,
}

/// Counted together.
const HITS: u64 = 20;

/// Of so many counts the least is taken: a timer, or a near cache that asks for once, is in some of them.
const COUNTS: usize = 20;

/// A proxy and one client on one thread, whose allocations are counted.
struct Stand {
    runtime: Runtime,
    client: TcpStream,
    answer: Vec<u8>,
}

impl Stand {
    fn new<S: Store>(settings: &str, store: S) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let origin = origin().await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let args = Args::try_parse_from(["proxy", "--origin", &origin, "--cache", "/p/"]).unwrap();
            let config = Config::parse(&args, Some(("budget.toml", settings))).unwrap();
            let log =
                config.access_log.as_ref().map(|log| Arc::new(AccessLog::open(log, Arc::default()).unwrap()));
            let proxy = Proxy::new(&config, Site::localhost(8000), store).with_access_log(log);
            let proxy = Arc::new(InForce::new(proxy));
            tokio::spawn(server::serve(listener, proxy, config.clients, std::future::pending()));
            TcpStream::connect(address).await.unwrap()
        });
        Self { runtime, client, answer: vec![0; 2 * BODY] }
    }

    /// One request, and the head of its answer.
    async fn ask(client: &mut TcpStream, answer: &mut [u8]) -> usize {
        client.write_all(REQUEST).await.unwrap();
        let mut read = 0;
        loop {
            read += client.read(&mut answer[read..]).await.unwrap();
            if let Some(head) = answer[..read].windows(4).position(|part| part == b"\r\n\r\n")
                && read >= head + 4 + BODY
            {
                return head;
            }
        }
    }

    /// Asks until the answer says this.
    fn warm(&mut self, expected: &str) {
        let Self { runtime, client, answer } = self;
        runtime.block_on(async {
            for _ in 0..10_000 {
                let head = Self::ask(client, answer).await;
                if String::from_utf8_lossy(&answer[..head]).contains(expected) {
                    return;
                }
            }
            panic!("no answer says {expected}");
        });
    }

    /// The cost of a hit.
    fn cost(mut self, expected: &str) -> Cost {
        self.warm(expected);
        let Self { runtime, client, answer } = &mut self;
        let mut hits = || {
            for _ in 0..HITS {
                runtime.block_on(Self::ask(client, answer));
            }
        };
        let costs: Vec<_> = (0..COUNTS).map(|_| measure(&mut hits)).collect();
        let least =
            |figure: fn(&AllocationInfo) -> u64| costs.iter().map(figure).min().unwrap().div_ceil(HITS);
        Cost { allocations: least(|cost| cost.count_total), bytes: least(|cost| cost.bytes_total) }
    }
}

/// One that answers each connection once, which is all that is asked of it.
async fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nAllow: GET, HEAD, OPTIONS\r\nX-Frame-Options: DENY\r\n\
                 Content-Length: {BODY}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(&[head.as_bytes(), &[b'x'; BODY]].concat()).await;
        }
    });
    format!("http://{address}")
}

/// A count may be less than its budget by no more than this, or the budget is out of date.
const SLACK: u64 = 3;

/// `bytes` is the budget of bytes. A large future costs more than its memory, since it is moved several times.
fn keeps(what: &str, cost: &Cost, budget: u64, bytes: u64) {
    let count = cost.allocations;
    assert!(count <= budget, "{what}: {count} allocations, the budget is {budget}");
    assert!(count + SLACK >= budget, "{what}: {count} allocations only: lower its budget of {budget}");
    assert!(cost.bytes <= bytes, "{what}: {} bytes, the budget is {bytes}", cost.bytes);
}

#[test]
fn a_hit_keeps_its_budget() {
    let redis = Redis::start().unwrap();
    // Far above what a busy test machine needs.
    let store = || RedisStore::new(&redis.url(), Duration::from_secs(10), 1 << 20).unwrap();
    let memory = Stand::new("", MemoryStore::new(64 << 20)).cost("X-Cache: HIT");
    let far = Stand::new("", store()).cost("X-Cache: HIT");
    let near = Stand::new("near = \"64MiB\"", store()).cost("detail=near");
    let log = tempfile::NamedTempFile::new().unwrap();
    let log = format!("near = \"64MiB\"\n[log]\nformat = \"json\"\naccess = {:?}\n", log.path());
    let logged = Stand::new(&log, store()).cost("detail=near");
    keeps("a hit from memory", &memory, 2, 600);
    // Half of these bytes are the future of the lookup. The page itself is read into memory that is used again.
    keeps("a hit from Redis", &far, 7, 7_000);
    keeps("a near hit", &near, 1, 500);
    keeps("a near hit with an access log", &logged, 3, 800);
}
