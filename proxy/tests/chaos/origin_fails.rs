//! The origin is killed under load: with `stale_if_error` the proxy serves expired pages, without it answers 502 at
//! once.

use std::time::Instant;

use tokio::task::block_in_place;

use crate::backend::Backend;
use crate::load::{CLIENTS, Client, Habit, Load, PAGES};
use crate::origin::Origin;
use crate::program::Proxy;
use crate::{scenario_length, turn};

/// A long deadline, because the store must not fail too: on a busy machine a read can take more than the default 50 ms,
/// and a page that was not read cannot be served.
const PATIENT: &str = "[deadlines]\nstore = \"5s\"\n";

/// Pages expire after a second, so all pages are stale soon after the origin is killed.
async fn killed(stale_if_error: u32) {
    let _turn = turn().await;
    let redis = block_in_place(Backend::start).unwrap();
    let mut origin = Origin::start().await;
    let settings = format!(
        "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstore = \"{}\"\n{PATIENT}[[cache_page]]\npath = \"/p/*\"\ntimeout = 1\nstale_if_error = {stale_if_error}\n",
        origin.address,
        redis.url()
    );
    let proxy = block_in_place(|| Proxy::start(&settings));
    let quarter = scenario_length() / 4;
    let load = Load::start(&[proxy.address], CLIENTS, Habit::KeepAlive);
    // A page is in the store when its client has received all of it.
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
        // There are no other failures: no broken transfer and no other status.
        0 => assert_eq!(failed.keys().collect::<Vec<_>>(), [&"status 502"]),
        _ => assert!(failed.is_empty(), "{failed:?}\n{}", proxy.log()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_stale_if_error_stale_pages_are_served_when_the_origin_is_killed() {
    killed(300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_stale_if_error_a_killed_origin_is_502() {
    killed(0).await;
}
