//! `[django] conditional_get`: pages that are stored get the ETag of Django's `ConditionalGetMiddleware`.

use crate::backend::Backend;
use crate::support::{Origin, RULES, Scene, Script, Setup, answer, page};
use proxy::MemoryStore;

scenes! {
    a_page_that_is_stored_has_djangos_tag_from_its_first_answer_on
    a_page_that_is_not_stored_has_no_tag_and_is_not_waited_for
}

/// `printf hi | md5sum`
const TAG: &str = "\"49f68a5c8493ec2c0bf489821c21fc3b\"";

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n";

/// The settings for each scheme of keys.
fn schemes() -> [String; 2] {
    let django =
        "keys = \"django\"\n[django]\nlanguage = \"en-us\"\ntime_zone = \"UTC\"\nconditional_get = true\n";
    [
        format!("max_entry = 1000\ndjango.conditional_get = true\n{RULES}"),
        format!("max_entry = 1000\n{django}{RULES}"),
    ]
}

async fn a_page_that_is_stored_has_djangos_tag_from_its_first_answer_on(on: Setup) {
    for settings in schemes() {
        let origin = Origin::new(|seen, _| match seen.line.contains("chunked") {
            true => Script::Answer(CHUNKED.to_vec()),
            false => Script::Answer(page("", "hi")),
        })
        .await;
        let redis = Backend::start().unwrap();
        let scene = Scene::over(on, &redis.url(), &origin, &settings).await;
        for target in ["/p/known", "/p/chunked"] {
            for cache in ["MISS", "HIT"] {
                let reply = scene.get(target).await;
                let found = (reply.header("x-cache"), reply.header("etag"), reply.text(), reply.whole);
                assert_eq!(found, (cache, TAG, "hi", true), "{target}");
            }
            // A miss and a hit with a condition.
            for cache in ["MISS", "HIT"] {
                let reply =
                    scene.get_with(&format!("{target}?if"), &format!("If-None-Match: {TAG}\r\n")).await;
                let found = (reply.header("x-cache"), reply.header("etag"), reply.status());
                assert_eq!(found, (cache, TAG, 304), "{target}");
            }
            assert_eq!(scene.get(&format!("{target}?if")).await.header("x-cache"), "HIT");
        }
        assert_eq!(origin.count(), 4);
    }
}

async fn a_page_that_is_not_stored_has_no_tag_and_is_not_waited_for(on: Setup) {
    for settings in schemes() {
        let (origin, mut requests) = Origin::piecewise().await;
        let redis = Backend::start().unwrap();
        let scene = Scene::over(on, &redis.url(), &origin, &settings).await;
        // A page of unknown length turns out to be too large: its head and first part come before its end.
        let mut client = scene.connect().await;
        client.write(b"GET /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
        let answer = requests.recv().await.unwrap();
        let piece = format!("7d0\r\n{}\r\n", "x".repeat(2000));
        answer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()).await.unwrap();
        answer.send(piece.into_bytes()).await.unwrap();
        client.head().await;
        answer.send(b"0\r\n\r\n".to_vec()).await.unwrap();
        drop(answer);
    }
}

/// The origin's own tag is kept, and then nothing is waited for.
#[tokio::test]
async fn a_tag_of_the_origin_is_kept() {
    let origin = Origin::new(|_, _| Script::Answer(answer("200 OK", "ETag: \"own\"\r\n", "hi"))).await;
    for settings in schemes() {
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
        for cache in ["MISS", "HIT"] {
            let reply = scene.get("/p/").await;
            assert_eq!((reply.header("x-cache"), reply.header("etag")), (cache, "\"own\""));
        }
    }
}
