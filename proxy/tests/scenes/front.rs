//! Requests in words that are known are answered without hyper: nothing of that may be seen.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use stack::Redis;

use crate::support::{Client, Origin, RULES, Reply, Scene, Script, Setup, answer, heard, page};

scenes! {
    known_words_are_answered_as_others_are_to_the_byte
    on_one_connection_each_request_has_its_own_answer_whatever_came_before
    a_known_request_whose_page_has_gone_is_a_miss_and_then_a_hit_again
    a_large_page_is_whole_for_a_client_that_reads_late
}

const GET: &str = "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

/// An origin that says what it was asked.
async fn echo() -> Origin {
    Origin::new(|seen, _| {
        let (method, target) = seen.line.split_once(' ').unwrap();
        let language = seen.header("accept-language").unwrap_or("none");
        let body = format!("{method} {target} {language}");
        let headers = "X-Two: 1\r\nx-lower-case: 2\r\nX-Two: 3\r\nVary: Accept-Language\r\nETag: \"v\"\r\n";
        let answer = answer("200 Fine", headers, &body);
        let end = if method == "HEAD" { answer.len() - body.len() } else { answer.len() };
        Script::Answer(answer[..end].to_vec())
    })
    .await
}

/// Everything but what a second more or less changes.
fn lasting(reply: &Reply) -> (String, Vec<(String, String)>, Vec<u8>) {
    let headers = reply.headers.iter().map(|(name, value)| {
        let passing = ["Date", "Age", "Cache-Status"].contains(&name.as_str());
        let value = if passing { value.trim_end_matches(|c: char| c.is_ascii_digit()) } else { value };
        (name.clone(), value[..value.len().min(if passing { 20 } else { usize::MAX })].to_owned())
    });
    (reply.line.clone(), headers.collect(), reply.body.clone())
}

/// The head in two pieces, so that hyper reads it.
async fn ordinarily(client: &mut Client, request: &str) -> Reply {
    let (start, end) = request.as_bytes().split_at(10);
    client.write(start).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.write(end).await;
    client.reply(true).await
}

async fn known_words_are_answered_as_others_are_to_the_byte(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    for _ in 0..3 {
        scene.send(GET).await;
    }
    let mut client = scene.connect().await;
    client.write(GET.as_bytes()).await;
    let known = client.reply(true).await;
    let ordinary = ordinarily(&mut client, GET).await;
    assert!(known.cache().starts_with("HIT hit; ttl="), "{}", known.cache());
    assert_eq!(lasting(&known), lasting(&ordinary));
    let names: Vec<_> = known.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"X-Lower-Case") && names.last() == Some(&"Date"), "{names:?}");
    assert_eq!(origin.count(), 1);
}

/// What is asked on a connection, known or not, at once or in pieces, several at once or one after the other.
async fn on_one_connection_each_request_has_its_own_answer_whatever_came_before(on: Setup) {
    const REQUESTS: [&str; 9] = [
        GET,
        "GET /p/?a HTTP/1.1\r\nHost: localhost:8000\r\n\r\n",
        "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nAccept-Language: de\r\n\r\n",
        "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nConnection: keep-alive\r\n\r\n",
        "GET /other HTTP/1.1\r\nHost: localhost:8000\r\n\r\n",
        "HEAD /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n",
        "POST /p/ HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 5\r\n\r\nGET /",
        "GET /p/ HTTP/1.1\nHost: localhost:8000\n\n",
        "GET /p/none HTTP/1.1\r\nHost: a b\r\n\r\n",
    ];
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    let mut expected = Vec::new();
    for request in REQUESTS {
        scene.send(request).await;
        let reply = scene.send(request).await;
        expected.push((reply.line.clone(), reply.body.clone()));
    }
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..60 {
        let mut client = scene.connect().await;
        for _ in 0..12 {
            // Some at once; the last of the list ends its connection.
            let picks: Vec<_> = (0..random.random_range(1..4)).map(|_| random.random_range(0..8)).collect();
            let all: String = picks.iter().map(|&pick| REQUESTS[pick]).collect();
            let cut = random.random_range(0..all.len());
            if random.random_bool(0.3) {
                client.write(&all.as_bytes()[..cut]).await;
                tokio::task::yield_now().await;
                client.write(&all.as_bytes()[cut..]).await;
            } else {
                client.write(all.as_bytes()).await;
            }
            for pick in picks {
                let reply = client.reply(!REQUESTS[pick].starts_with("HEAD")).await;
                assert_eq!((reply.line, reply.body), expected[pick], "{}", REQUESTS[pick]);
            }
        }
        client.write(REQUESTS[8].as_bytes()).await;
        assert_eq!(client.reply(true).await.status(), 400);
    }
}

async fn a_known_request_whose_page_has_gone_is_a_miss_and_then_a_hit_again(on: Setup) {
    let (redis, origin) = (Redis::start().unwrap(), Origin::pages("").await);
    let scene = Scene::over(on, &redis.url(), &origin, RULES).await;
    let mut client = scene.connect().await;
    for round in 1..4 {
        for cache in ["MISS fwd=uri-miss; stored", "HIT hit; ttl=", "HIT hit; ttl=", "HIT hit; ttl="] {
            client.write(GET.as_bytes()).await;
            let reply = client.reply(true).await;
            assert!(reply.cache().starts_with(cache), "{}, not {cache}", reply.cache());
            assert_eq!(reply.text(), format!("page {round}"));
        }
        redis.cli(&["FLUSHALL"]).unwrap();
        heard(on).await;
    }
}

/// The peer is trusted, and what it says of others may differ although its words do not: it is not for the memory.
#[tokio::test]
async fn a_trusted_peer_and_others_are_told_apart() {
    let origin = echo().await;
    let settings = format!("trusted_proxies = [\"127.0.0.1\"]\n{}", RULES);
    let scene = Scene::with(origin.address, proxy::MemoryStore::new(1 << 20), &settings).await;
    let forwarded = GET.replace("\r\n\r\n", "\r\nX-Forwarded-Host: example.com\r\n\r\n");
    for request in [GET, &forwarded, GET, &forwarded] {
        scene.send(request).await;
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_connection_goes_on_after_a_lull_and_ends_after_its_idle_time() {
    let origin = echo().await;
    let settings = format!("deadlines.client_idle = \"2s\"\n{}", RULES);
    let scene = Scene::with(origin.address, proxy::MemoryStore::new(1 << 20), &settings).await;
    let mut client = scene.connect().await;
    for request in [GET.replace("/p/", "/other"), GET.to_owned(), GET.to_owned()] {
        client.write(request.as_bytes()).await;
        assert_eq!(client.reply(true).await.status(), 200);
        // Longer than hyper stays.
        tokio::time::sleep(Duration::from_millis(1_300)).await;
    }
    let started = tokio::time::Instant::now();
    assert!(client.is_closed().await);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// A page larger than what the kernel takes at once, for a client that reads late.
async fn a_large_page_is_whole_for_a_client_that_reads_late(on: Setup) {
    let body = "0123456789abcdef".repeat(60_000);
    let whole = page("", &body);
    let origin = Origin::new(move |_, _| Script::Answer(whole.clone())).await;
    let scene = Scene::new(on, &origin).await;
    scene.send(GET).await;
    scene.send(GET).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = scene.connect().await;
        for _ in 0..8 {
            client.write(GET.as_bytes()).await;
            tokio::task::yield_now().await;
        }
        clients.push(client);
    }
    for client in &mut clients {
        for _ in 0..8 {
            let reply = client.reply(true).await;
            assert!(reply.whole && reply.body == body.as_bytes());
        }
    }
    assert_eq!(origin.count(), 1);
}
