//! Purges that are refused or bounded: those of peers that may not purge, and those that are malformed or too large.

use proxy::MemoryStore;

use crate::purge::{PURGE, is_hit, order, purging};
use crate::support::{Origin, RULES, Scene, Script, Setup, page};

#[tokio::test]
async fn only_those_who_may_purge_do_and_a_purge_never_goes_to_the_origin() {
    let origin = Origin::pages("").await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret\n").unwrap();
    let token = format!("[purge]\ntoken_file = {:?}\n", token.path());
    for (settings, lines, status) in [
        ("", "", 403),
        ("[purge]\nallow = [\"10.0.0.0/8\"]\n", "", 403),
        (PURGE, "", 200),
        // A proxy that is not trusted may have brought it from anywhere.
        (PURGE, "X-Forwarded-For: 127.0.0.1\r\n", 403),
        (&*token, "", 403),
        (&*token, "Authorization: Bearer wrong\r\n", 403),
        (&*token, "Authorization: bearer s3cret\r\n", 200),
    ] {
        let scene =
            Scene::with(origin.address, MemoryStore::new(1 << 20), &format!("{RULES}{settings}")).await;
        for method in ["PURGE", "PURGEKEYS", "BAN"] {
            let tags = "xkey: a\r\nX-Cache-Tags: (a)(,|$)\r\n";
            let request = format!("{method} /p/ HTTP/1.1\r\nHost: localhost:8000\r\n{tags}{lines}\r\n");
            assert_eq!(scene.send(&request).await.status(), status, "{settings} {lines} {method}");
        }
    }
    let trusted = format!("trusted_proxies = [\"127.0.0.1\"]\n{RULES}{PURGE}");
    let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &trusted).await;
    let forwarded = order(&scene, "PURGE /p/\nX-Forwarded-For: 203.0.113.9").await;
    assert_eq!(forwarded.status(), 403, "a trusted proxy names its client");
    // A method that a header names is not the method.
    scene.get("/p/").await;
    scene.get_with("/p/", "X-HTTP-Method-Override: PURGE\r\n").await;
    assert!(is_hit(&scene, "/p/").await);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_purge_that_cannot_be_read_is_refused() {
    let origin = Origin::pages("").await;
    let scene = purging(Setup::Plain, &origin, RULES).await;
    for (text, status) in [
        ("PURGEKEYS /", 400),
        ("PURGE /\nSurrogate-Key: ", 400),
        ("BAN /\nX-Url: /p/.*", 501),
        ("BAN /", 501),
        ("PURGE /\nHost: a b", 400),
    ] {
        assert_eq!(order(&scene, text).await.status(), status, "{text}");
    }
    // More than a client's head may have.
    let huge = format!("PURGE /\nxkey: {}", "t".repeat(1 << 20));
    let mut client = scene.connect().await;
    let request = huge.replace('\n', " HTTP/1.1\r\nHost: localhost:8000\r\n");
    client.try_write(format!("{request}\r\n\r\n").as_bytes()).await;
    assert!([400, 431].contains(&client.reply(true).await.status()));
    let many = vec!["t"; 1025].join(" ");
    assert_eq!(order(&scene, &format!("PURGE /\nxkey: {many}")).await.status(), 400);
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn too_many_tags_are_served_and_not_stored() {
    let tags = vec!["t"; 129].join(" ");
    let origin = Origin::new(move |_, _| Script::Answer(page(&format!("xkey: {tags}\r\n"), "page"))).await;
    for settings in [RULES.to_owned(), format!("{RULES}{PURGE}")] {
        let scene = Scene::with(origin.address, MemoryStore::new(1 << 20), &settings).await;
        for _ in 0..2 {
            assert_eq!(scene.get("/p/").await.cache(), "BYPASS fwd=bypass; detail=tags");
        }
    }
}
