//! The origin is killed under load: a page past its time is served where the rule says so, and 502 at once where not.

use std::time::Instant;

use stack::Redis;
use tokio::task::block_in_place;

use crate::load::{CLIENTS, Client, Habit, Load, PAGES};
use crate::origin::Origin;
use crate::program::Proxy;
use crate::{scenario_length, turn};

/// The store must not fail as well: on a busy machine 50 ms are soon over, and a page that cannot be read stands in for
/// nothing.
const PATIENT: &str = "[deadlines]\nstore = \"5s\"\n";

/// Pages end after a second, so that all are past their time soon after the origin is gone.
async fn killed(stale_if_error: u32) {
    let _turn = turn().await;
    let redis = block_in_place(Redis::start).unwrap();
    let mut origin = Origin::start().await;
    let settings = format!(
        "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstore = \"{}\"\n{PATIENT}[[cache_page]]\npath = \"/p/*\"\ntimeout = 1\nstale_if_error = {stale_if_error}\n",
        origin.address,
        redis.url()
    );
    let proxy = block_in_place(|| Proxy::start(&settings));
    let quarter = scenario_length() / 4;
    let load = Load::start(&[proxy.address], CLIENTS, Habit::KeepAlive);
    // Each page is in the store when its client has the last of it.
    let mut reader = Client::new(proxy.address, Habit::KeepAlive);
    for page in 0..PAGES {
        assert_eq!(reader.fetch(&format!("/p/{page}")).await.unwrap().status, 200);
    }
    let calm = Instant::now();
    tokio::time::sleep(quarter).await;
    let struck = Instant::now();
    origin.kill().await;
    tokio::time::sleep(quarter * 2).await;
    load.answers(CLIENTS).await;
    let passed = Instant::now();
    let origin = Origin::at(origin.address).await;
    while origin.count() == 0 {
        load.answers(1).await;
    }
    load.hits(CLIENTS).await;
    let end = Instant::now();
    let seen = load.stop().await;

    let failed = seen.failures();
    println!("origin killed, stale_if_error = {stale_if_error}: {failed:?} failed");
    println!("  calm         {}", seen.between(calm, struck));
    println!("  in the fault {}", seen.between(struck, passed));
    println!("  after        {}", seen.between(passed, end));
    assert_eq!(seen.retried, 0);
    match stale_if_error {
        // And nothing else: no broken transfer, no other status.
        0 => assert_eq!(failed.keys().collect::<Vec<_>>(), [&"status 502"]),
        _ => assert!(failed.is_empty(), "{failed:?}\n{}", proxy.log()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_past_their_time_stand_in_for_an_origin_that_is_killed() {
    killed(300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_stale_if_error_an_origin_that_is_killed_is_502() {
    killed(0).await;
}
