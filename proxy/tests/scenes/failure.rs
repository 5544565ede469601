//! Redis or the origin fails: every request gets an answer, and hits come back without help.

use std::time::Duration;

use proxy::{MemoryStore, RedisStore};
use stack::Redis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::support::{Origin, PATIENCE, RULES, Reply, Scene, Script, Setup, answer, heard, redis_store};

scenes! {
    a_redis_that_stops_is_a_miss_and_hits_come_back_after_its_restart
    a_value_of_another_type_is_a_miss_and_is_replaced
    an_invalid_value_is_a_miss_and_is_replaced
    writes_that_redis_refuses_leave_misses
    a_store_that_answers_garbage_is_a_miss
    an_origin_that_is_down_is_502_and_stored_pages_are_served
    malformed_answers_of_the_origin_are_502_or_corrected
}

const KEY: &str = ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e";

/// Sends requests until one is a hit.
async fn hits_come_back(scene: &Scene) -> Reply {
    let started = Instant::now();
    loop {
        let reply = scene.get("/p/").await;
        assert_eq!(reply.status(), 200);
        if reply.header("x-cache") == "HIT" {
            return reply;
        }
        assert!(started.elapsed() < PATIENCE, "no hit: {}", reply.cache());
    }
}

/// A proxy whose store has the default deadline of 50 ms. It has no near cache, from which hits would continue for half a
/// second after Redis hangs.
async fn impatient(redis: &Redis, origin: &Origin) -> Scene {
    let store = RedisStore::new(&redis.url(), Duration::from_millis(50), 1 << 20).unwrap();
    Scene::with(origin.address, store, &format!("deadlines.store = \"50ms\"\n{RULES}")).await
}

async fn a_redis_that_stops_is_a_miss_and_hits_come_back_after_its_restart(on: Setup) {
    let mut redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(on, &redis.url(), &origin, RULES).await;
    hits_come_back(&scene).await;
    redis.stop();
    heard(on).await;
    for _ in 0..3 {
        let reply = scene.get("/p/").await;
        assert_eq!(
            (reply.status(), reply.cache().as_str()),
            (200, "MISS fwd=miss; detail=store-unreachable")
        );
    }
    redis.restart().unwrap();
    hits_come_back(&scene).await;
}

#[tokio::test]
async fn a_hung_redis_delays_a_request_no_longer_than_the_deadline() {
    let redis = Redis::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = impatient(&redis, &origin).await;
    hits_come_back(&scene).await;
    signal(redis.pid(), "STOP");
    for _ in 0..5 {
        let started = Instant::now();
        let reply = scene.get("/p/").await;
        assert_eq!(
            (reply.status(), reply.cache().as_str()),
            (200, "MISS fwd=miss; detail=store-unreachable")
        );
        // Checkout and command together have 50 ms; the rest allows for a busy machine.
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    signal(redis.pid(), "CONT");
    hits_come_back(&scene).await;
}

fn signal(pid: u32, signal: &str) {
    assert!(
        std::process::Command::new("kill")
            .args([&format!("-{signal}"), &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

async fn a_value_of_another_type_is_a_miss_and_is_replaced(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(on, &redis.url(), &origin, RULES).await;
    for command in [&["LPUSH", KEY, "x"][..], &["HSET", KEY, "a", "b"], &["SADD", KEY, "x"]] {
        redis.cli(&["DEL", KEY]).unwrap();
        redis.cli(command).unwrap();
        heard(on).await;
        let reply = scene.get("/p/").await;
        assert_eq!((reply.status(), reply.cache().as_str()), (200, "MISS fwd=miss; stored"), "{command:?}");
        assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
    }
}

async fn an_invalid_value_is_a_miss_and_is_replaced(on: Setup) {
    let redis = Backend::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(on, &redis.url(), &origin, RULES).await;
    for garbage in ["", "garbage", "HTTP/1.1 200 OK", "cachepage/1 vary", "42"] {
        redis.cli(&["SET", KEY, garbage]).unwrap();
        heard(on).await;
        let reply = scene.get("/p/").await;
        assert_eq!((reply.status(), reply.cache().as_str()), (200, "MISS fwd=miss; stored"), "{garbage}");
        assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
    }
}

async fn writes_that_redis_refuses_leave_misses(on: Setup) {
    let redis = Redis::start().unwrap();
    let origin = Origin::pages("").await;
    let scene = Scene::over(on, &redis.url(), &origin, RULES).await;
    for (refuse, accept) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["REPLICAOF", "127.0.0.1", "1", ""], ["REPLICAOF", "NO", "ONE", ""]),
    ] {
        let command = |words: [&'static str; 4]| {
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            redis.cli(&words).unwrap()
        };
        redis.cli(&["DEL", KEY]).unwrap();
        command(refuse);
        heard(on).await;
        for _ in 0..2 {
            let reply = scene.get("/p/").await;
            assert_eq!((reply.status(), reply.header("x-cache")), (200, "MISS"), "{refuse:?}");
        }
        command(accept);
        hits_come_back(&scene).await;
    }
}

/// A server that is not Redis and gives the same answer to everything.
async fn a_store_that_answers_garbage_is_a_miss(on: Setup) {
    for garbage in [
        &b"-LOADING Redis is loading\r\n"[..],
        b"+OK\r\n",
        b"$-7\r\n",
        b"*3\r\n$1\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe",
        b"",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0)
                        && stream.write_all(garbage).await.is_ok()
                    {}
                });
            }
        });
        let origin = Origin::pages("").await;
        let store =
            RedisStore::new(&format!("redis://{address}/1"), Duration::from_millis(50), 1 << 20).unwrap();
        let scene = Scene::with(origin.address, store, &on.settings(RULES)).await;
        for number in 1..=3 {
            let reply = scene.get("/p/").await;
            let expected = (200, "MISS", format!("page {number}"));
            assert_eq!(
                (reply.status(), reply.header("x-cache"), reply.text().to_owned()),
                expected,
                "{}",
                garbage.escape_ascii()
            );
        }
    }
}

async fn an_origin_that_is_down_is_502_and_stored_pages_are_served(on: Setup) {
    let origin = Origin::pages("").await;
    let address = origin.address;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/").await;
    origin.stop().await;
    assert_eq!(scene.get("/p/").await.header("x-cache"), "HIT");
    // The old proxy still has an open connection to the origin; a new proxy cannot make one.
    let scene = Scene::with(address, MemoryStore::new(1 << 20), RULES).await;
    for target in ["/p/other", "/pass"] {
        let reply = scene.get(target).await;
        assert_eq!((reply.status(), reply.text()), (502, "502: cannot connect to the origin\n"));
        assert_eq!(reply.cache(), "BYPASS fwd=bypass; detail=origin-connect");
    }
    let _back = Origin::on(TcpListener::bind(address).await.unwrap(), |_, _| {
        Script::Answer(answer("200 OK", "", "back"))
    });
    assert_eq!(scene.get("/pass").await.text(), "back");
}

#[tokio::test]
async fn a_silent_origin_is_504_at_the_deadline() {
    let origin = Origin::new(|_, _| Script::Silent).await;
    let settings = format!("deadlines.origin_head = \"100ms\"\n{RULES}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    for target in ["/p/", "/pass"] {
        let reply = scene.get(target).await;
        assert_eq!((reply.status(), reply.text()), (504, "504: the origin did not answer within 0.1 s\n"));
    }
}

/// Inputs 33 and 34 of docs/hostile.md: an answer that is not HTTP is a 502; contradictory framing is corrected.
async fn malformed_answers_of_the_origin_are_502_or_corrected(on: Setup) {
    for (said, status) in [
        (&b"garbage\r\n\r\n"[..], 502),
        (b"HTTP/1.1 99999 Odd\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nBad\0: x\r\n\r\n", 502),
        (b"HTTP/1.1 200 O", 502),
        (b"", 502),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            200,
        ),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\nx", 204),
    ] {
        let origin = Origin::new(|_, _| Script::Close(said.to_vec())).await;
        let scene = Scene::new(on, &origin).await;
        let reply = scene.get("/p/").await;
        assert_eq!(reply.status(), status, "{}", said.escape_ascii());
        if status == 200 {
            assert_eq!((reply.whole, reply.text()), (true, "x"));
        }
    }
}

#[tokio::test]
async fn a_connection_with_a_slow_head_is_closed() {
    let origin = Origin::pages("").await;
    let settings = format!("deadlines.client_head = \"100ms\"\n{RULES}");
    let scene = Scene::with(origin.address, redis_store("redis://127.0.0.1:1/1"), &settings).await;
    let mut client = scene.connect().await;
    client.write(b"GET /p/ HTTP/1.1\r\nHo").await;
    assert!(client.is_closed().await);
    assert_eq!(origin.count(), 0);
}
