//! A master that Sentinels replace: what is written goes to the new one, and no purge that was acknowledged is lost.

use std::time::Duration;

use stack::{Brand, Watched};
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout};

use crate::near::KEY;
use crate::support::{Origin, PATIENCE, RULES, Scene, Setup};

const LOG: &str = ":1:views.decorators.cache.cache_page.purges";

/// The old master takes writes for some seconds more, and forgets them when it becomes a replica.
const AT_MOST: Duration = Duration::from_millis(1500);

/// Fills new pages until one of them is in the new master `AT_MOST` after the Sentinels have named it. Returns when the
/// last page was filled that is not there, and the purges that were acknowledged.
async fn fill(scene: &Scene, watched: &Watched, old: usize) -> (Duration, Vec<String>) {
    let (mut named, mut pages, mut purges) = (None, Vec::new(), Vec::new());
    for number in 0.. {
        let began = Instant::now();
        if named.is_none() && block_in_place(|| watched.master()) != Some(old) {
            named = Some(began);
        }
        scene.get(&format!("/p/{number}")).await;
        pages.push((began, number));
        let purge = format!("PURGE /q/{number} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n");
        let reply = scene.send(&purge).await;
        if reply.status() == 200 {
            purges.push(reply.text().split('"').find(|word| word.contains('-')).unwrap().to_owned());
        }
        if named.is_some_and(|named| began > named + 2 * AT_MOST) {
            break;
        }
    }
    let (named, new) = (named.unwrap(), watched.master().unwrap());
    let is_lost = |number: usize| {
        let key = KEY.replace("/p/", &format!("/p/{number}"));
        block_in_place(|| watched.servers[new].cli(&["EXISTS", &key])).unwrap() == "0"
    };
    let lost =
        pages.iter().filter(|(began, number)| *began > named && is_lost(*number)).map(|(began, _)| *began);
    (lost.max().map_or(Duration::ZERO, |last| last - named), purges)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_writes_go_to_the_new_master_and_no_acknowledged_purge_is_lost() {
    let watched = block_in_place(|| Watched::start(Brand::chosen())).unwrap();
    let origin = Origin::pages("").await;
    let settings = format!("{RULES}[purge]\nallow = [\"127.0.0.1\"]\nreplicas = 1\n");
    let scene = Scene::over(Setup::Near, &watched.url(), &origin, &settings).await;
    let old = watched.master().unwrap();
    block_in_place(|| watched.fail_over()).unwrap();
    let filled = timeout(PATIENCE, fill(&scene, &watched, old)).await;
    let (last, purges) = filled.expect("the Sentinels name another master");
    println!("the last page that the new master lacks was filled {} ms after it was named", last.as_millis());
    println!("{} purges were acknowledged", purges.len());
    assert!(last < AT_MOST, "{last:?}");
    assert!(!purges.is_empty());
    let new = &watched.servers[watched.master().unwrap()];
    for id in purges {
        let found = block_in_place(|| new.cli(&["XRANGE", LOG, &id, &id])).unwrap();
        assert!(found.contains(&id), "the purge {id} is lost");
    }
}
