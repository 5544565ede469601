//! Conditions and ranges: a client gets the part of a page that it asks for, whether the page is stored, stale, being
//! fetched or never stored.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::support::{Origin, Reply, Scene, Script, Setup, answer, page};

scenes! {
    each_state_of_a_page_answers_conditions_and_ranges_alike
    the_pieces_of_a_page_are_its_bytes
    a_miss_stores_the_whole_page_whatever_part_is_asked_for
    followers_get_the_parts_that_they_ask_for
}

const MODIFIED: &str = "Sun, 22 Nov 2026 20:09:06 GMT";
const BEFORE: &str = "Sun, 22 Nov 2026 20:09:05 GMT";
const TEXT: &str = "0123456789";

/// A part of the page, as a client sees it.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Whole,
    NotModified,
    Range(&'static str, &'static str),
    Unsatisfiable,
}

const ROWS: [(&str, Seen); 16] = [
    ("", Seen::Whole),
    ("If-None-Match: \"a\"\r\n", Seen::NotModified),
    ("If-None-Match: W/\"a\"\r\n", Seen::NotModified),
    ("If-None-Match: \"b\", \"a\"\r\n", Seen::NotModified),
    ("If-None-Match: *\r\n", Seen::NotModified),
    ("If-None-Match: \"b\"\r\n", Seen::Whole),
    ("If-Modified-Since: Sun, 22 Nov 2026 20:09:06 GMT\r\n", Seen::NotModified),
    ("If-Modified-Since: Sun, 22 Nov 2026 20:09:05 GMT\r\n", Seen::Whole),
    ("Range: bytes=0-3\r\n", Seen::Range("bytes 0-3/10", "0123")),
    ("Range: bytes=-2\r\n", Seen::Range("bytes 8-9/10", "89")),
    ("Range: bytes=8-99\r\n", Seen::Range("bytes 8-9/10", "89")),
    ("Range: bytes=1-2,4-5\r\n", Seen::Whole),
    ("Range: bytes=10-\r\n", Seen::Unsatisfiable),
    ("Range: bytes=2-2\r\nIf-Range: \"a\"\r\n", Seen::Range("bytes 2-2/10", "2")),
    ("Range: bytes=2-2\r\nIf-Range: \"b\"\r\n", Seen::Whole),
    ("Range: bytes=2-2\r\nIf-None-Match: \"a\"\r\n", Seen::NotModified),
];

fn validators(more: &str) -> String {
    format!("ETag: \"a\"\r\nLast-Modified: {MODIFIED}\r\nContent-Language: en\r\n{more}")
}

/// The page from an origin that says its length with its end.
fn chunked_page() -> Vec<u8> {
    let headers = validators("Transfer-Encoding: chunked");
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n").into_bytes()
}

fn check(reply: &Reply, seen: Seen, is_head: bool, context: &str) {
    let content = |name| reply.header(name);
    let (status, length, range, text) = match seen {
        Seen::Whole => (200, "10", "", TEXT),
        // HEAD has no ranges.
        Seen::Range(..) | Seen::Unsatisfiable if is_head => (200, "10", "", TEXT),
        Seen::NotModified => (304, "", "", ""),
        Seen::Range(range, text) => (206, "", range, text),
        Seen::Unsatisfiable => (416, "", "bytes */10", "416: the range begins behind the end of the page\n"),
    };
    assert_eq!(reply.status(), status, "{context}");
    if status == 206 {
        assert_eq!(content("content-length"), text.len().to_string(), "{context}");
    } else if !length.is_empty() && !content("transfer-encoding").eq("chunked") {
        assert_eq!(content("content-length"), length, "{context}");
    }
    assert_eq!(content("content-range"), range, "{context}");
    assert_eq!(reply.text(), if is_head { "" } else { text }, "{context}");
    let has_content = matches!(status, 200 | 206);
    assert_eq!(!content("content-language").is_empty(), has_content, "{context}");
    assert_eq!((content("etag"), content("last-modified")), ("\"a\"", MODIFIED), "{context}");
    assert!(!content("cache-status").is_empty() && !content("date").is_empty(), "{context}");
}

async fn each_state_of_a_page_answers_conditions_and_ranges_alike(on: Setup) {
    let origin = Origin::new(|seen, _| {
        let cookie = if seen.line.contains("/p/declined") { "Set-Cookie: a=b\r\n" } else { "" };
        Script::Answer(match seen.line.contains("/p/chunked") {
            true => chunked_page(),
            false => page(&validators(cookie), TEXT),
        })
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    scene.get("/p/stored").await;
    // Kept by the near cache, if there is one.
    scene.get("/p/stored").await;
    for (number, (lines, seen)) in ROWS.into_iter().enumerate() {
        for method in ["GET", "HEAD"] {
            for target in
                ["/p/stored", &format!("/p/miss{number}"), "/p/declined", &format!("/p/chunked{number}")]
            {
                // A HEAD of what is not stored is the origin's to answer.
                if method == "HEAD" && target != "/p/stored" {
                    continue;
                }
                // With a connection that goes on to hyper, too.
                for more in ["", "Connection: close\r\n"] {
                    let asked =
                        format!("{method} {target} HTTP/1.1\r\nHost: localhost:8000\r\n{lines}{more}\r\n");
                    let mut client = scene.connect().await;
                    client.write(asked.as_bytes()).await;
                    let has_body = method == "GET" && !matches!(seen, Seen::NotModified);
                    check(&client.reply(has_body).await, seen, method == "HEAD", &asked);
                }
            }
        }
    }
    let asked = origin.seen();
    let conditions = ["if-none-match", "if-modified-since", "range", "if-range"];
    assert!(asked.iter().all(|seen| conditions.iter().all(|name| seen.header(name).is_none())));
}

async fn the_pieces_of_a_page_are_its_bytes(on: Setup) {
    let body: String = (0..5000).map(|number| char::from(b'a' + (number % 23) as u8)).collect();
    let whole = body.clone();
    let origin = Origin::new(move |_, _| Script::Answer(page("", &whole))).await;
    let scene = Scene::new(on, &origin).await;
    let mut runner = TestRunner::deterministic();
    let cuts = proptest::collection::btree_set(1_usize..5000, 0..8);
    for round in 0..40 {
        let mut ends: Vec<_> = cuts.new_tree(&mut runner).unwrap().current().into_iter().collect();
        ends.push(body.len());
        let (mut start, mut joined) = (0, String::new());
        for end in ends {
            // The first piece of each page is a miss.
            let range = format!("Range: bytes={start}-{}\r\n", end - 1);
            let reply = scene.get_with(&format!("/p/{round}"), &range).await;
            assert_eq!(
                (reply.status(), reply.header("content-range")),
                (206, &*format!("bytes {start}-{}/5000", end - 1))
            );
            joined += reply.text();
            start = end;
        }
        assert_eq!(joined, body);
    }
    assert_eq!(origin.count(), 40);
}

async fn a_miss_stores_the_whole_page_whatever_part_is_asked_for(on: Setup) {
    let origin = Origin::new(|_, _| Script::Answer(page(&validators(""), TEXT))).await;
    let scene = Scene::new(on, &origin).await;
    for (number, (lines, seen)) in ROWS.into_iter().enumerate() {
        let target = format!("/p/{number}");
        let has_body = !matches!(seen, Seen::NotModified);
        let mut client = scene.connect().await;
        client
            .write(format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n{lines}\r\n").as_bytes())
            .await;
        let miss = client.reply(has_body).await;
        assert_eq!(miss.cache(), "MISS fwd=uri-miss; stored", "{lines}");
        // The client that wanted no more than the head may be quicker than the store.
        while origin.count() == number + 1 {
            let hit = scene.get(&target).await;
            if hit.header("x-cache") == "HIT" {
                assert_eq!((hit.status(), hit.text()), (200, TEXT));
                break;
            }
        }
        assert_eq!(origin.count(), number + 1, "{lines}");
    }
}

async fn followers_get_the_parts_that_they_ask_for(on: Setup) {
    let (origin, mut requests) = Origin::piecewise().await;
    let scene = Scene::new(on, &origin).await;
    let mut clients = Vec::new();
    for (lines, seen) in ROWS {
        let mut client = scene.connect().await;
        client.write(format!("GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n{lines}\r\n").as_bytes()).await;
        clients.push((client, lines, seen));
    }
    let sender = requests.recv().await.unwrap();
    sender.send(answer("200 OK", &validators(""), TEXT)).await.unwrap();
    for (mut client, lines, seen) in clients {
        let reply = client.reply(!matches!(seen, Seen::NotModified)).await;
        check(&reply, seen, false, lines);
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_page_that_is_too_large_to_store_is_cut_as_it_streams() {
    let body = "x".repeat(100_000) + "y";
    let whole = body.clone();
    let origin = Origin::new(move |_, _| Script::Answer(page("ETag: \"a\"\r\n", &whole))).await;
    let settings = "max_entry = 1000\n[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\n";
    let scene = Scene::with(origin.address, proxy::MemoryStore::new(1 << 20), settings).await;
    for (lines, status, text) in [
        ("Range: bytes=99999-\r\n", 206, "xy"),
        ("Range: bytes=0-1\r\n", 206, "xx"),
        ("Range: bytes=100001-\r\n", 416, "416: the range begins behind the end of the page\n"),
        ("", 200, &body),
    ] {
        let reply = scene.get_with("/p/", lines).await;
        assert_eq!((reply.status(), reply.text()), (status, text), "{lines}");
        assert_eq!(reply.cache(), "BYPASS fwd=bypass; detail=too-large");
    }
}

#[tokio::test]
async fn a_stale_page_is_served_in_parts_too() {
    let origin = Origin::new(|_, number| match number {
        1 => Script::Answer(page(&validators(""), TEXT)),
        _ => Script::Answer(answer("503 Service Unavailable", "", "")),
    })
    .await;
    let settings = "[[cache_page]]\npath = \"/p/*\"\ntimeout = 1\nstale_if_error = 60\n";
    let scene = Scene::with(origin.address, proxy::MemoryStore::new(1 << 20), settings).await;
    scene.get("/p/").await;
    while !scene.get("/p/").await.header("cache-status").contains("stale-if-error") {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (lines, status, text) in
        [("Range: bytes=2-3\r\n", 206, "23"), ("If-Modified-Since: x\r\n", 200, TEXT)]
    {
        let reply = scene.get_with("/p/", lines).await;
        assert_eq!((reply.status(), reply.text()), (status, text), "{lines}");
    }
    let mut client = scene.connect().await;
    client.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\nIf-None-Match: \"a\"\r\n\r\n").await;
    assert_eq!(client.reply(false).await.status(), 304);
}

#[tokio::test]
async fn a_pass_leaves_conditions_and_ranges_to_the_origin() {
    let origin = Origin::new(|seen, _| {
        assert!(seen.header("range").is_some() && seen.header("if-none-match").is_some());
        Script::Answer(answer("206 Partial Content", "Content-Range: bytes 0-0/10\r\n", "0"))
    })
    .await;
    let scene = Scene::new(Setup::Plain, &origin).await;
    let reply = scene.get_with("/other", "Range: bytes=0-0\r\nIf-None-Match: \"b\"\r\n").await;
    assert_eq!((reply.status(), reply.text()), (206, "0"));
    assert!(BEFORE < MODIFIED);
}

#[tokio::test]
async fn a_range_waits_for_the_length_only_where_a_range_is_the_answer() {
    let (origin, mut requests) = Origin::piecewise().await;
    let settings = "max_entry = 1000\n[[cache_page]]\npath = \"/p/*\"\n";
    let scene = Scene::with(origin.address, proxy::MemoryStore::new(1 << 20), settings).await;
    let begun = |status: &str| {
        format!("HTTP/1.1 {status}\r\nETag: \"a\"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n")
            .into_bytes()
    };
    for (number, (lines, status)) in [
        ("Range: bytes=1-2\r\n", "404 Not Found"),
        ("Range: bytes=1-2\r\nIf-Range: \"b\"\r\n", "200 OK"),
        ("Range: bytes=0-\r\n", "200 OK"),
        ("Range: bytes=2-1\r\n", "200 OK"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = scene.connect().await;
        client.write(format!("GET /p/{number} HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes()).await;
        let sender = requests.recv().await.unwrap();
        sender.send(begun(status)).await.unwrap();
        client.until("0123").await;
        sender.send(b"0\r\n\r\n".to_vec()).await.unwrap();
    }
    // A page that is too large to be stored comes as it is, once that is known.
    let mut client = scene.connect().await;
    client.write(b"GET /p/large HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n\r\n").await;
    let sender = requests.recv().await.unwrap();
    sender.send(begun("200 OK")).await.unwrap();
    sender.send(format!("3e8\r\n{}\r\n", "x".repeat(1000)).into_bytes()).await.unwrap();
    client.until("0123").await;
}
