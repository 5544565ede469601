//! Which pages are stored, and how many (inputs 26 to 28, 35 and 38 to 41 of docs/hostile.md).

use super::{is_well, with};
use crate::support::{Origin, RULES, Scene, Script, Setup, page};

scenes! {
    h26_an_unusable_vary_is_not_stored
    h38_h39_absurd_numbers_and_dates_do_not_matter
    h35_private_answers_in_any_case_are_not_stored
    h40_h41_absurd_ranges_and_conditions_get_the_whole_page
}

async fn h26_an_unusable_vary_is_not_stored(on: Setup) {
    let hundred = (0..100).map(|number| format!("X-{number}")).collect::<Vec<_>>().join(", ");
    for (vary, reason) in [
        (hundred.as_str(), "vary-names"),
        ("*", "vary-star"),
        ("Accept, *", "vary-star"),
        (",*", "vary-star"),
        (" , * , ", "vary-star"),
        ("Accept Language", "vary-names"),
        ("a(b", "vary-names"),
        ("\"Accept\"", "vary-names"),
    ] {
        let line = format!("Vary: {vary}\r\n");
        let origin = Origin::new(move |_, _| Script::Answer(page(&line, "x"))).await;
        let scene = Scene::new(on, &origin).await;
        for _ in 0..2 {
            assert_eq!(
                scene.get("/p/").await.cache(),
                format!("BYPASS fwd=bypass; detail={reason}"),
                "{vary}"
            );
        }
        assert_eq!(origin.count(), 2);
    }
}

#[tokio::test]
async fn h27_the_variants_of_a_page_are_limited() {
    let origin = Origin::new(|seen, _| {
        Script::Answer(page("Vary: Accept-Language\r\n", seen.header("accept-language").unwrap()))
    })
    .await;
    let scene = with(&origin, "limits.variants = 20\n").await;
    let ask = |number: usize| format!("Accept-Language: x-{number}\r\n");
    for number in 0..100 {
        let reply = scene.get_with("/p/", &ask(number)).await;
        assert_eq!(reply.text(), format!("x-{number}"));
        let cache = if number < 20 { "; stored" } else { "fwd=bypass; detail=variants" };
        assert!(reply.cache().ends_with(cache), "{number}: {}", reply.cache());
    }
    for number in 0..20 {
        assert_eq!(scene.get_with("/p/", &ask(number)).await.cache(), "HIT hit; ttl=60");
    }
    assert_eq!(origin.count(), 100);
    assert!(
        scene.get_with("/p/other", &ask(0)).await.cache().ends_with("; stored"),
        "another page has its own limit"
    );
}

/// Each query is a page, and the store evicts the oldest.
#[tokio::test]
async fn h28_random_queries_do_not_exceed_the_limit_of_the_store() {
    let origin = Origin::new(|_, _| Script::Answer(page("", &"x".repeat(10_000)))).await;
    let store = proxy::MemoryStore::new(1 << 20);
    let scene = Scene::with(origin.address, store, crate::support::RULES).await;
    let mut client = scene.connect().await;
    for number in 0..500 {
        client.write(format!("GET /p/?{number} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").as_bytes()).await;
        assert_eq!(client.reply(true).await.status(), 200);
    }
    let before = origin.count();
    let mut hits = 0;
    for number in 0..500 {
        client.write(format!("GET /p/?{number} HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").as_bytes()).await;
        hits += usize::from(client.reply(true).await.header("x-cache") == "HIT");
    }
    assert_eq!((before, origin.count()), (500, 1000 - hits));
    // 1 MiB has room for about a hundred of the pages.
    assert!(hits < 150, "{hits}");
    is_well(&scene).await;
}

/// As in Django, none of these keeps a page from being stored, and no number overflows.
async fn h38_h39_absurd_numbers_and_dates_do_not_matter(on: Setup) {
    for line in [
        "Age: 99999999999999999999",
        "Age: -1",
        "Age: 1, 2",
        "Age: 1.5",
        "Age: x",
        "Expires: 0",
        "Expires: -1",
        "Expires: Thu, 99 Foo 9999 99:99:99 GMT",
        "Expires: Fri, 31 Dec 9999 23:59:59 GMT",
        "Expires: Thu, 01 Jan 1970 00:00:00 GMT",
        "Date: Fri, 31 Dec 9999 23:59:59 GMT",
        "Date: yesterday",
        "Last-Modified: tomorrow",
        "Cache-Control: max-age=99999999999",
        "Cache-Control: max-age=99999999999999999999999999",
        "Cache-Control: max-age=-99999999999999999999999999",
        "Cache-Control: max-age=\"5\"",
        "Cache-Control: max-age",
        "Cache-Control: max-age=",
        "Cache-Control: max-age=5, max-age=6",
        "Cache-Control: s-maxage=99999999999999999999",
        "Cache-Control: =,;\"",
    ] {
        let origin = Origin::new(move |_, _| Script::Answer(page(&format!("{line}\r\n"), "x"))).await;
        let scene = Scene::new(on, &origin).await;
        assert_eq!(scene.get("/p/").await.cache(), "MISS fwd=uri-miss; stored", "{line}");
        let hit = scene.get("/p/").await;
        assert_eq!(hit.cache(), "HIT hit; ttl=60", "{line}");
        assert!(hit.header("age").bytes().all(|byte| byte.is_ascii_digit()), "{line}: {}", hit.header("age"));
    }
}

async fn h35_private_answers_in_any_case_are_not_stored(on: Setup) {
    for (line, reason) in [
        ("Set-Cookie: a=b", "set-cookie"),
        ("sEt-cOOkie: a=b", "set-cookie"),
        ("Cache-Control: PriVate", "private"),
        ("Cache-Control: public, private=\"set-cookie\"", "private"),
        ("Cache-Control: No-Cache=\"x\"", "no-cache"),
        ("Cache-Control: no-STORE", "no-store"),
    ] {
        let origin = Origin::new(move |_, _| Script::Answer(page(&format!("{line}\r\n"), "x"))).await;
        let scene = Scene::new(on, &origin).await;
        for _ in 0..2 {
            assert_eq!(
                scene.get("/p/").await.cache(),
                format!("BYPASS fwd=bypass; detail={reason}"),
                "{line}"
            );
        }
    }
}

async fn h40_h41_absurd_ranges_and_conditions_get_the_whole_page(on: Setup) {
    for policy in ["django", "http"] {
        absurd_ranges_and_conditions_get_the_whole_page(on, policy).await;
    }
}

async fn absurd_ranges_and_conditions_get_the_whole_page(on: Setup, policy: &str) {
    let origin = Origin::pages("ETag: \"v\"\r\nCache-Control: max-age=99999999\r\n").await;
    let scene = Scene::own(on, &origin, &format!("{RULES}policy = \"{policy}\"\n")).await;
    scene.get("/p/").await;
    let ranges = (0..1_000).map(|number| format!("{number}-{number}")).collect::<Vec<_>>().join(",");
    let tags = (0..1_000).map(|number| format!("\"{number}\"")).collect::<Vec<_>>().join(",");
    for line in [
        &format!("Range: bytes={ranges}"),
        "Range: bytes=0-0,0-0,0-0",
        &format!("Range: bytes={}0-", "0-,".repeat(1_000)),
        "Range: bytes=",
        "Range: bytes=-99999999999999999999",
        "Range: bytes=5-1",
        "Range: x=1-2",
        &format!("If-None-Match: {tags}"),
        "If-None-Match: v",
        "If-None-Match: \"v",
        "If-Modified-Since: never",
        "If-Range: x",
        &format!("Range: bytes=0-0\r\nIf-Range: {}", "\"v\",".repeat(1_000)),
        &format!("Cache-Control: {}", "max-stale=1,".repeat(1_000)),
    ] {
        let reply = scene.get_with("/p/", &format!("{line}\r\n")).await;
        assert_eq!((reply.status(), reply.text()), (200, "page 1"), "{line}");
    }
    let tags = "\"x\",".repeat(10_000);
    assert_eq!(scene.get_with("/p/", &format!("If-None-Match: {tags}\r\n")).await.status(), 431);
    is_well(&scene).await;
}
