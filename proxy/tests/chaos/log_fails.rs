//! The access log cannot be written: no request notices.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::load::{CLIENTS, Habit, Load};
use crate::origin::Origin;
use crate::program::Proxy;
use crate::{scenario_length, turn};

/// Runs a load over a proxy with this log, and prints its figures. In the middle, `fail` makes the log fail.
async fn load(origin: &Origin, what: &str, log: &Path, fail: impl FnOnce()) -> Proxy {
    let settings = format!(
        "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstore = \"memory\"\n[[cache_page]]\npath = \"/p/*\"\n[log]\naccess = {log:?}\n\
         format = \"json\"\n",
        origin.address
    );
    let proxy = block_in_place(|| Proxy::start(&settings));
    let load = Load::start(&[proxy.address], CLIENTS, Habit::KeepAlive);
    load.hits(10 * CLIENTS).await;
    let begun = Instant::now();
    sleep(scenario_length() / 8).await;
    fail();
    load.hits(10 * CLIENTS).await;
    sleep(scenario_length() / 8).await;
    let seen = load.stop().await;
    println!("access log, {what:22} {}", seen.between(begun, Instant::now()));
    assert!(seen.failures().is_empty(), "{what}: {:?}", seen.failures());
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_fails_no_request() {
    let _turn = turn().await;
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let [calm, fifo, deleted] = ["calm", "fifo", "deleted"].map(|name| folder.path().join(name));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    load(&origin, "calm", &calm, || ()).await;
    let full = load(&origin, "full disk", Path::new("/dev/full"), || ()).await;
    block_in_place(|| full.says("access log lines dropped"));
    let unread = load(&origin, "a FIFO nobody reads", &fifo, || ()).await;
    block_in_place(|| unread.says("access log lines dropped"));
    let remove = || std::fs::remove_file(&deleted).unwrap();
    let proxy = load(&origin, "a deleted file", &deleted, remove).await;
    assert!(!proxy.log().contains("access log lines dropped"), "its lines go into the file without a name");
}
