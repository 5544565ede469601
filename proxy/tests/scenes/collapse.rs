//! Many concurrent requests for one page cause one request to the origin.

use std::time::Duration;

use proxy::MemoryStore;
use stack::Redis;
use tokio::task::JoinSet;

use crate::backend::Backend;
use crate::support::{Client, Origin, PATIENCE, RULES, Reply, Scene, Script, Setup, page};

scenes! {
    a_thousand_concurrent_requests_cause_one_origin_request
    followers_get_the_page_when_the_leader_disconnects
    a_leader_that_does_not_read_delays_no_follower
    an_uncacheable_answer_releases_the_followers_and_later_requests_do_not_wait
    each_variant_causes_one_origin_request
    after_a_truncated_answer_one_follower_asks_again_for_all
    a_deleted_page_is_not_served_from_a_finished_flight
    requests_with_credentials_neither_lead_nor_follow
    without_a_store_concurrent_requests_still_cause_one_origin_request
    a_fleet_sends_one_origin_request
    a_fleet_sends_one_origin_request_for_each_variant
    an_uncacheable_answer_releases_the_fleet
    the_lease_of_a_dead_proxy_is_taken_over
    a_fleet_without_redis_sends_one_origin_request_per_proxy
    a_fleet_follows_the_changes_in_redis
}

const FLEET: &str = "[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\ncoalesce = \"fleet\"\n";

/// Three proxies on one Redis.
async fn fleet(on: Setup, redis: &Backend, origin: &Origin) -> [Scene; 3] {
    [
        Scene::over(on, &redis.url(), origin, FLEET).await,
        Scene::over(on, &redis.url(), origin, FLEET).await,
        Scene::over(on, &redis.url(), origin, FLEET).await,
    ]
}

/// Connects clients, and sends the request of each.
async fn clients(scene: &Scene, count: usize, headers: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = scene.connect().await;
        client.write(format!("GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n{headers}\r\n").as_bytes()).await;
        clients.push(client);
    }
    clients
}

async fn replies(clients: Vec<Client>) -> Vec<Reply> {
    let mut waiting = JoinSet::new();
    for mut client in clients {
        waiting.spawn(async move { client.reply(true).await });
    }
    waiting.join_all().await
}

fn assert_all(replies: &[Reply], status: u16, text: &str) {
    for reply in replies {
        assert_eq!((reply.status(), reply.whole, reply.text()), (status, true, text), "{}", reply.cache());
    }
}

async fn a_thousand_concurrent_requests_cause_one_origin_request(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let clients = clients(&scene, 1000, "").await;
    let answer = requests.recv().await.unwrap();
    answer.send(page("", "once")).await.unwrap();
    let replies = replies(clients).await;
    assert_all(&replies, 200, "once");
    assert_eq!(origin.count(), 1);
    let led = replies.iter().filter(|reply| reply.cache() == "MISS fwd=uri-miss; stored").count();
    let others = |reply: &&Reply| {
        ["MISS fwd=uri-miss; collapsed", "HIT hit; ttl=60"].contains(&reply.cache().as_str())
    };
    assert_eq!((led, replies.iter().filter(others).count()), (1, 999));
}

/// Input 30 of docs/hostile.md.
async fn followers_get_the_page_when_the_leader_disconnects(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let leader = clients(&scene, 1, "").await;
    let answer = requests.recv().await.unwrap();
    let others = clients(&scene, 20, "").await;
    drop(leader);
    answer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none".to_vec()).await.unwrap();
    answer.send(b"two".to_vec()).await.unwrap();
    assert_all(&replies(others).await, 200, "onetwo");
    assert_eq!((origin.count(), scene.get("/p/").await.header("x-cache")), (1, "HIT"));
}

async fn a_leader_that_does_not_read_delays_no_follower(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let _leader = clients(&scene, 1, "").await;
    let answer = requests.recv().await.unwrap();
    let others = clients(&scene, 5, "").await;
    // Larger than the buffers of a connection.
    let body = "x".repeat(1_000_000);
    answer.send(page("", &body)).await.unwrap();
    assert_all(&replies(others).await, 200, &body);
    assert_eq!(origin.count(), 1);
}

async fn an_uncacheable_answer_releases_the_followers_and_later_requests_do_not_wait(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let first = clients(&scene, 10, "").await;
    requests.recv().await.unwrap().send(page("Cache-Control: private\r\n", "mine")).await.unwrap();
    // Each of the nine followers asks the origin itself, all before the first is answered.
    let mut answers = Vec::new();
    for _ in 0..9 {
        answers.push(requests.recv().await.unwrap());
    }
    for answer in answers.drain(..) {
        answer.send(page("Cache-Control: private\r\n", "mine")).await.unwrap();
    }
    assert_all(&replies(first).await, 200, "mine");
    let next = clients(&scene, 10, "").await;
    for _ in 0..10 {
        answers.push(requests.recv().await.unwrap());
    }
    for answer in answers {
        answer.send(page("", "mine")).await.unwrap();
    }
    assert_all(&replies(next).await, 200, "mine");
}

async fn each_variant_causes_one_origin_request(on: Setup) {
    let origin = Origin::new(|seen, _| {
        Script::Answer(page("Vary: Accept\r\n", seen.header("accept").unwrap_or("none")))
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    let mut all = Vec::new();
    for variant in ["a/a", "b/b", "c/c"] {
        all.push((variant, clients(&scene, 30, &format!("Accept: {variant}\r\n")).await));
    }
    for (variant, clients) in all {
        assert_all(&replies(clients).await, 200, variant);
    }
    assert_eq!(origin.count(), 3);
}

async fn after_a_truncated_answer_one_follower_asks_again_for_all(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut leader = clients(&scene, 1, "").await;
    let broken = requests.recv().await.unwrap();
    let others = clients(&scene, 20, "").await;
    broken.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()).await.unwrap();
    leader[0].until("half").await;
    drop(broken);
    requests.recv().await.unwrap().send(page("", "whole")).await.unwrap();
    assert_all(&replies(others).await, 200, "whole");
    assert!(!leader.remove(0).reply(true).await.whole);
    assert_eq!(origin.count(), 2);
}

/// Input 31 of docs/hostile.md.
#[tokio::test]
async fn a_silent_origin_is_504_for_the_leader_and_all_followers() {
    let (origin, mut requests) = Origin::piecewise().await;
    let settings = format!("deadlines.origin_head = \"200ms\"\n{RULES}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    let clients = clients(&scene, 50, "").await;
    let _silent = requests.recv().await.unwrap();
    for reply in replies(clients).await {
        assert_eq!(
            (reply.status(), reply.header("cache-status")),
            (504, "cachepage; fwd=bypass; detail=origin-silent")
        );
    }
}

/// Input 47 of docs/hostile.md: a page that is deleted during its fetch may go to requests of that time, but not to
/// later ones.
async fn a_deleted_page_is_not_served_from_a_finished_flight(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(on, &redis.url(), &origin, RULES).await;
    let key = ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e";
    for number in 1..=5 {
        assert_eq!(scene.get("/p/").await.text(), format!("page {number}"));
        assert_eq!(redis.cli(&["DEL", key]).unwrap(), "1");
    }
}

async fn requests_with_credentials_neither_lead_nor_follow(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let own = clients(&scene, 2, "Authorization: Basic eA==\r\n").await;
    let mut answers = [requests.recv().await.unwrap(), requests.recv().await.unwrap()].to_vec();
    let all = clients(&scene, 5, "").await;
    answers.push(requests.recv().await.unwrap());
    for answer in answers {
        answer.send(page("", "page")).await.unwrap();
    }
    assert_all(&replies(own).await, 200, "page");
    assert_all(&replies(all).await, 200, "page");
    assert_eq!(origin.count(), 3);
}

async fn without_a_store_concurrent_requests_still_cause_one_origin_request(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    // Nothing listens there.
    let scene = Scene::over(on, "redis://127.0.0.1:1/1", &origin, RULES).await;
    let clients = clients(&scene, 50, "").await;
    let answer = requests.recv().await.unwrap();
    // Meanwhile all requests find the store unreachable, which is quick, and become followers.
    tokio::time::timeout(PATIENCE, async {
        while tokio::time::timeout(Duration::from_millis(300), requests.recv()).await.is_ok() {}
    })
    .await
    .unwrap();
    answer.send(page("", "once")).await.unwrap();
    assert_all(&replies(clients).await, 200, "once");
    assert_eq!(origin.count(), 1);
}

async fn a_fleet_sends_one_origin_request(on: Setup) {
    let (redis, (origin, mut requests)) = (Backend::start().unwrap(), Origin::piecewise().await);
    let fleet = fleet(on, &redis, &origin).await;
    let mut all = Vec::new();
    for scene in &fleet {
        all.extend(clients(scene, 334, "").await);
    }
    requests.recv().await.unwrap().send(page("", "once")).await.unwrap();
    assert_all(&replies(all).await, 200, "once");
    assert_eq!(origin.count(), 1);
}

async fn a_fleet_sends_one_origin_request_for_each_variant(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = Origin::new(|seen, _| {
        Script::Answer(page("Vary: Accept\r\n", seen.header("accept").unwrap_or("none")))
    })
    .await;
    let fleet = fleet(on, &redis, &origin).await;
    let mut all = Vec::new();
    for scene in &fleet {
        for variant in ["a/a", "b/b"] {
            all.push((variant, clients(scene, 20, &format!("Accept: {variant}\r\n")).await));
        }
    }
    for (variant, clients) in all {
        assert_all(&replies(clients).await, 200, variant);
    }
    assert_eq!(origin.count(), 2);
}

async fn an_uncacheable_answer_releases_the_fleet(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("Cache-Control: private\r\n").await;
    let fleet = fleet(on, &redis, &origin).await;
    let mut all = Vec::new();
    for scene in &fleet {
        all.extend(clients(scene, 10, "").await);
    }
    for reply in replies(all).await {
        assert_eq!((reply.status(), reply.cache().as_str()), (200, "BYPASS fwd=bypass; detail=private"));
    }
    assert_eq!(origin.count(), 30);
}

/// The lease of a proxy that has died expires after a few seconds.
async fn the_lease_of_a_dead_proxy_is_taken_over(on: Setup) {
    let (redis, origin) = (Backend::start().unwrap(), Origin::pages("").await);
    let lease = ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e.lease";
    redis.cli(&["SET", lease, "of a dead proxy", "PX", "300"]).unwrap();
    let fleet = fleet(on, &redis, &origin).await;
    let mut all = Vec::new();
    for scene in &fleet {
        all.extend(clients(scene, 10, "").await);
    }
    assert_all(&replies(all).await, 200, "page 1");
    assert_eq!(origin.count(), 1);
}

async fn a_fleet_without_redis_sends_one_origin_request_per_proxy(on: Setup) {
    let (mut redis, (origin, mut requests)) = (Backend::start().unwrap(), Origin::piecewise().await);
    let fleet = fleet(on, &redis, &origin).await;
    redis.stop();
    let mut all = Vec::new();
    for scene in &fleet {
        all.extend(clients(scene, 10, "").await);
    }
    for _ in &fleet {
        requests.recv().await.unwrap().send(page("", "once")).await.unwrap();
    }
    assert_all(&replies(all).await, 200, "once");
    assert_eq!(origin.count(), 3);
}

/// A waiting proxy hears of the fill, with and without a near cache, and does not only look by itself.
async fn a_fleet_follows_the_changes_in_redis(on: Setup) {
    let (redis, origin) = (Backend::Alone(Redis::start().unwrap()), Origin::pages("").await);
    let _scenes = fleet(on, &redis, &origin).await;
    let followed = async {
        loop {
            // `B`: the client tracks all keys with its prefix.
            let clients = redis.cli(&["CLIENT", "LIST"]).unwrap();
            let flags = clients.lines().filter_map(|line| line.split(" flags=").nth(1)?.split(' ').next());
            if flags.filter(|flags| flags.contains('B')).count() == 3 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("each proxy follows Redis");
}
