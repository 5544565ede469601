//! The front of a connection answers plain requests by itself, and hyper answers the rest. No client can tell which of
//! them has answered.

use std::time::Duration;

use proxy::MemoryStore;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, timeout};

use crate::backend::Backend;
use crate::grace;
use crate::support::{Client, Origin, PATIENCE, RULES, Reply, Scene, Script, Setup, answer, heard, page};

scenes! {
    an_answer_of_the_front_is_to_the_byte_that_of_hyper
    on_one_connection_front_and_hyper_answer_in_any_order
    after_a_post_the_same_connection_has_hits
    many_requests_in_one_write_are_answered_in_their_order
    a_connection_closes_after_hits_if_its_client_asks_for_that
    a_page_that_has_gone_is_a_miss_and_then_a_hit_again
    a_stale_page_is_refreshed_once_whichever_of_them_serves_it
    a_large_page_is_whole_for_a_client_that_reads_late
}

const GET: &str = "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
const HEAD: &str = "HEAD /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
const POST: &str = "POST /p/ HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 5\r\n\r\nGET /";
const LAST: &str = "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n";

/// The same request with an empty line before it. The front takes no such request, and hyper skips the line.
fn for_hyper(request: &str) -> String {
    format!("\r\n{request}")
}

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

/// All that a connection brings for this request and the last one after it, but for what a second more or less changes. Both
/// answers are hits, and near if the set-up has a near cache.
async fn bytes_of(on: Setup, scene: &Scene, request: &str) -> Vec<String> {
    let is_wanted = |status: &str| match on {
        Setup::Plain => status.contains("; hit"),
        Setup::Near => status.ends_with("; detail=near\r\n"),
    };
    let asked = async {
        loop {
            let mut client = scene.connect().await;
            client.write(request.as_bytes()).await;
            // From here on the request has been read, and the next one cannot be read together with it.
            client.peek().await;
            client.write(LAST.as_bytes()).await;
            let text = String::from_utf8(client.rest().await).unwrap();
            let lines: Vec<_> = text.split_inclusive("\r\n").map(lasting).collect();
            // A near cache that is not sure of its pages has the store asked.
            if lines.iter().filter(|line| line.starts_with("Cache-Status: ")).all(|line| is_wanted(line)) {
                return lines;
            }
        }
    };
    timeout(PATIENCE, asked).await.expect("hits in time")
}

/// A line, but for what a second more or less changes.
fn lasting(line: &str) -> String {
    let (name, value) = line.split_once(": ").unwrap_or((line, ""));
    match name {
        "Date" if httpdate::parse_http_date(value.trim_end()).is_ok() => "Date: now\r\n".to_owned(),
        "Age" | "Cache-Status" => line.replace(|character: char| character.is_ascii_digit(), ""),
        _ => line.to_owned(),
    }
}

/// The pages are in memory, which the front reads at once, and in Redis, which it waits for.
async fn an_answer_of_the_front_is_to_the_byte_that_of_hyper(on: Setup) {
    let (redis, origin) = (Backend::start().unwrap(), echo().await);
    for scene in [Scene::new(on, &origin).await, Scene::over(on, &redis.url(), &origin, RULES).await] {
        scene.send(GET).await;
        for request in [
            GET,
            HEAD,
            "GET /p/?a=b&c HTTP/1.1\r\nhost:localhost:8000\r\naccept-language:  de \r\nX:\ta b\t\r\n\r\n",
            "HEAD /p/%2e HTTP/1.1\r\nHost: LOCALHOST:8000\r\nConnection: Keep-Alive\r\nCookie: a=b\r\n\r\n",
        ] {
            scene.send(&request.replace("HEAD", "GET")).await;
            let front = bytes_of(on, &scene, request).await;
            assert_eq!(front, bytes_of(on, &scene, &for_hyper(request)).await, "{request}");
            assert_eq!(front[0], "HTTP/1.1 200 Fine\r\n");
            let end_of_head = front.iter().position(|line| line == "\r\n").unwrap();
            assert_eq!(front[end_of_head - 1], "Date: now\r\n");
            assert!(front.contains(&"X-Lower-Case: 2\r\n".to_owned()), "{front:?}");
        }
    }
}

/// What is asked on a connection comes at once or in pieces, and several requests come together or one after the other.
async fn on_one_connection_front_and_hyper_answer_in_any_order(on: Setup) {
    const REQUESTS: [&str; 9] = [
        GET,
        "GET /p/?a HTTP/1.1\r\nHost: localhost:8000\r\n\r\n",
        "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nAccept-Language: de\r\n\r\n",
        "GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nConnection: keep-alive\r\n\r\n",
        "GET /other HTTP/1.1\r\nHost: localhost:8000\r\n\r\n",
        HEAD,
        POST,
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
            // The last of the list ends its connection.
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

/// Sends a request that is answered with a hit.
async fn hit(client: &mut Client, request: &str) -> Reply {
    client.write(request.as_bytes()).await;
    let reply = client.reply(!request.trim_start().starts_with("HEAD")).await;
    assert_eq!((reply.status(), reply.header("x-cache")), (200, "HIT"), "{request}");
    reply
}

async fn after_a_post_the_same_connection_has_hits(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    scene.send(GET).await;
    let mut client = scene.connect().await;
    for round in 1..=10 {
        client.write(POST.as_bytes()).await;
        let reply = client.reply(true).await;
        assert_eq!((reply.text(), reply.header("x-cache")), ("POST /p/ HTTP/1.1 none", "BYPASS"));
        for request in [GET, HEAD, GET] {
            let text = if request == HEAD { "" } else { "GET /p/ HTTP/1.1 none" };
            assert_eq!(hit(&mut client, request).await.text(), text);
        }
        assert_eq!(origin.count(), 1 + round);
    }
}

/// Of bytes that are more than one request the front takes none. hyper answers them all, and what comes alone after them is
/// the front's again.
async fn many_requests_in_one_write_are_answered_in_their_order(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    let ask = |number| format!("GET /p/?{number} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n");
    let mut client = scene.connect().await;
    for x_cache in ["MISS", "HIT"] {
        let all: String = (0..300).map(ask).collect();
        client.write(all.as_bytes()).await;
        for number in 0..300 {
            let reply = client.reply(true).await;
            let text = format!("GET /p/?{number} HTTP/1.1 none");
            assert_eq!((reply.text(), reply.header("x-cache")), (text.as_str(), x_cache));
        }
        assert_eq!(hit(&mut client, &ask(7)).await.text(), "GET /p/?7 HTTP/1.1 none");
    }
    assert_eq!(origin.count(), 300);
}

async fn a_connection_closes_after_hits_if_its_client_asks_for_that(on: Setup) {
    let origin = echo().await;
    let scene = Scene::new(on, &origin).await;
    scene.send(GET).await;
    let close = |method: &str| LAST.replace("GET", method);
    for (last, text) in [(close("GET"), "GET /p/ HTTP/1.1 none"), (close("HEAD"), "")] {
        let mut client = scene.connect().await;
        for request in [GET, HEAD, GET] {
            assert_eq!(hit(&mut client, request).await.header("connection"), "");
        }
        let reply = hit(&mut client, &last).await;
        assert_eq!((reply.text(), reply.header("connection")), (text, "close"));
        assert_eq!(client.rest().await, b"");
    }
    assert_eq!(origin.count(), 1);
}

async fn a_page_that_has_gone_is_a_miss_and_then_a_hit_again(on: Setup) {
    let (redis, origin) = (Backend::start().unwrap(), Origin::pages("").await);
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

/// The request that refreshes a page is made of the first one that found it stale, and is the same for front and hyper.
async fn a_stale_page_is_refreshed_once_whichever_of_them_serves_it(on: Setup) {
    let head = "HEAD /p/ HTTP/1.1\r\nHost: localhost:8000\r\nX-Two: 1\r\nCookie: a=b\r\nTE: trailers\r\nx-two: 2\r\n\
                If-None-Match: \"v\"\r\nForwarded: for=6.6.6.6\r\nKeep-Alive: timeout=5\r\n\r\n";
    let mut seen = Vec::new();
    for first in [head.to_owned(), for_hyper(head)] {
        let (redis, (origin, mut requests)) = (Backend::start().unwrap(), Origin::piecewise().await);
        redis.cli(&["SETEX", grace::KEY, "600", &grace::old(5, "")]).unwrap();
        let scene = Scene::over(on, &redis.url(), &origin, &grace::rule("grace = 30")).await;
        let mut client = scene.connect().await;
        for request in [&first, GET, HEAD, &for_hyper(GET), GET, GET] {
            let reply = hit(&mut client, request).await;
            assert!(reply.cache().ends_with("; detail=grace"), "{}", reply.cache());
        }
        requests.recv().await.unwrap().send(page("", "new")).await.unwrap();
        grace::until(&scene, "new").await;
        assert_eq!((hit(&mut client, GET).await.text(), origin.count()), ("new", 1));
        let refreshing = origin.seen().remove(0);
        seen.push((refreshing.line, refreshing.headers));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, "GET /p/ HTTP/1.1");
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

/// What a trusted peer says of its client selects a page of its own. What another peer says selects none.
#[tokio::test]
async fn front_and_hyper_tell_a_trusted_peer_apart() {
    let forwarded = GET.replace("\r\n\r\n", "\r\nX-Forwarded-Host: example.com\r\n\r\n");
    for (trusted, pages) in [("trusted_proxies = [\"127.0.0.1\"]\n", 2), ("", 1)] {
        let origin = echo().await;
        let settings = format!("{trusted}{RULES}");
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
        for request in [GET, &forwarded] {
            scene.send(request).await;
        }
        let mut client = scene.connect().await;
        for request in [GET, &forwarded, &for_hyper(GET), &for_hyper(&forwarded)] {
            hit(&mut client, request).await;
        }
        assert_eq!(origin.count(), pages, "{trusted}");
    }
}

#[tokio::test]
async fn a_connection_goes_on_after_a_lull_and_ends_after_its_idle_time() {
    let origin = echo().await;
    let settings = format!("deadlines.client_idle = \"2s\"\n{RULES}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
    let mut client = scene.connect().await;
    for request in [GET.replace("/p/", "/other"), GET.to_owned(), GET.to_owned()] {
        client.write(request.as_bytes()).await;
        assert_eq!(client.reply(true).await.status(), 200);
        // Longer than hyper keeps a connection on which nothing is asked.
        tokio::time::sleep(Duration::from_millis(1_300)).await;
    }
    let started = Instant::now();
    assert!(client.is_closed().await);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
