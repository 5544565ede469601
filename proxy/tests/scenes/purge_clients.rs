//! Purges as the clients of other caches send them.

use crate::purge::purging;
use crate::support::{Origin, Setup};

/// As Wagtail's HTTPBackend sends it, byte for byte.
#[tokio::test]
async fn the_purge_of_wagtail_is_done_even_if_nothing_was_there() {
    let origin = Origin::pages("").await;
    let scene = purging(Setup::Plain, &origin, "[[cache_page]]\npath = \"/*\"\n").await;
    let get = "GET /home/events/?a=b HTTP/1.1\r\nHost: www.wagtail.org\r\n\r\n";
    let wagtail = "PURGE /home/events/?a=b HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: www.wagtail.org\r\n\
                   User-Agent: Wagtail-frontendcache/7.2\r\nConnection: close\r\n\r\n";
    assert_eq!(scene.send(wagtail).await.status(), 200);
    assert_eq!(scene.send(get).await.text(), "page 1");
    assert_eq!(scene.send(get).await.text(), "page 1");
    assert_eq!(scene.send(wagtail).await.status(), 200);
    assert_eq!(scene.send(get).await.text(), "page 2");
}
