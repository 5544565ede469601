//! Redis fails in different ways under load, and no request fails.

use std::time::Instant;

use stack::Redis;
use tokio::task::block_in_place;

use crate::load::{CLIENTS, Habit, Load};
use crate::origin::Origin;
use crate::program::{Proxy, signal};
use crate::{scenario_length, turn};

/// A fault of Redis: how it starts and how it ends.
struct Fault {
    name: &'static str,
    strikes: fn(&mut Redis),
    passes: fn(&mut Redis),
    /// Whether pages can be read during the fault.
    reads: bool,
}

/// Pages expire after a second, so there are reads and writes that can fail all the time.
fn settings(origin: &Origin, redis: &Redis) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstore = \"{}\"\n[[cache_page]]\npath = \"/p/*\"\ntimeout = 1\n",
        origin.address,
        redis.url()
    )
}

fn cli(redis: &Redis, words: &[&str]) {
    redis.cli(words).unwrap();
}

async fn under_load(fault: Fault) {
    let _turn = turn().await;
    let mut redis = block_in_place(Redis::start).unwrap();
    let origin = Origin::start().await;
    let quarter = scenario_length() / 4;

    let direct = Load::start(&[origin.address], CLIENTS, Habit::KeepAlive);
    tokio::time::sleep(quarter).await;
    let direct = direct.stop().await;

    let proxy = block_in_place(|| Proxy::start(&settings(&origin, &redis)));
    let load = Load::start(&[proxy.address], CLIENTS, Habit::KeepAlive);
    load.hits(CLIENTS).await;
    let calm = Instant::now();
    tokio::time::sleep(quarter).await;
    let struck = Instant::now();
    block_in_place(|| (fault.strikes)(&mut redis));
    tokio::time::sleep(quarter * 2).await;
    load.answers(CLIENTS).await;
    let passed = Instant::now();
    block_in_place(|| (fault.passes)(&mut redis));
    load.hits(CLIENTS).await;
    let back = passed.elapsed();
    tokio::time::sleep(quarter).await;
    load.hits(CLIENTS).await;
    let end = Instant::now();
    let seen = load.stop().await;

    let (failed, name) = (seen.failures(), fault.name);
    let in_fault = seen.between(struck, passed);
    println!("{name}: {failed:?} failed, {} hits again {} ms after", CLIENTS, back.as_millis());
    println!("  origin alone {}", direct.all());
    println!("  calm         {}", seen.between(calm, struck));
    println!("  in the fault {in_fault}");
    println!("  after        {}", seen.between(passed, end));
    assert!(failed.is_empty() && direct.failures().is_empty(), "{name}: {failed:?}");
    assert_eq!(seen.retried, 0, "{name}: a fault of Redis must not close a client's connection");
    assert!(in_fault.answers >= CLIENTS, "{name}: {in_fault}");
    assert!(fault.reads || in_fault.hits < in_fault.answers / 2, "{name}: the fault had no effect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_fails_no_request() {
    under_load(Fault {
        name: "Redis killed (-9)",
        strikes: |redis| signal(redis.pid(), "KILL"),
        passes: |redis| redis.restart().unwrap(),
        reads: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_fails_no_request() {
    under_load(Fault {
        name: "Redis stopped (SIGSTOP)",
        strikes: |redis| signal(redis.pid(), "STOP"),
        passes: |redis| signal(redis.pid(), "CONT"),
        reads: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_restarts_empty_fails_no_request() {
    under_load(Fault {
        name: "Redis restarted empty",
        strikes: |redis| redis.restart().unwrap(),
        passes: |_| {},
        reads: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_fails_no_request() {
    under_load(Fault {
        name: "Redis filled to maxmemory",
        strikes: |redis| {
            cli(redis, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
            // Redis already uses more than this, so it accepts no more writes.
            cli(redis, &["CONFIG", "SET", "maxmemory", "100kb"]);
        },
        passes: |redis| cli(redis, &["CONFIG", "SET", "maxmemory", "0"]),
        reads: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_redis_fails_no_request() {
    under_load(Fault {
        name: "Redis read-only (REPLICAOF)",
        // Nothing listens there, so Redis waits for its master and refuses writes meanwhile.
        strikes: |redis| cli(redis, &["REPLICAOF", "127.0.0.1", "1"]),
        passes: |redis| cli(redis, &["REPLICAOF", "NO", "ONE"]),
        reads: true,
    })
    .await;
}
