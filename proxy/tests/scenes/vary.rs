//! Pages that vary on request headers: each client gets its own variant and never another one.

use proxy::{Key, MemoryStore, Values as _, Write};

use crate::support::{Origin, RULES, Scene, Script, Setup, page};

scenes! {
    each_variant_has_its_own_page
    values_that_concatenate_alike_are_different_variants
    the_vary_of_the_last_fill_counts
    a_header_that_connection_names_selects_no_variant
}

const BASE: &str = ":1:views.decorators.cache.cache_page.GET./p/.d41d8cd98f00b204e9800998ecf8427e";

/// An origin that varies on `X-A` and `X-B`.
async fn varying() -> Origin {
    Origin::pages("Vary: X-A, X-B\r\n").await
}

async fn each_variant_has_its_own_page(on: Setup) {
    let origin = varying().await;
    let scene = Scene::new(on, &origin).await;
    for (headers, cache, text) in [
        ("X-A: 1\r\n", "MISS fwd=uri-miss; stored", "page 1"),
        ("X-A: 1\r\n", "HIT hit; ttl=60", "page 1"),
        ("X-A: 2\r\n", "MISS fwd=vary-miss; stored", "page 2"),
        ("X-A: 2\r\nX-C: other\r\n", "HIT hit; ttl=60", "page 2"),
        ("X-A: 1\r\n", "HIT hit; ttl=60", "page 1"),
    ] {
        let reply = scene.get_with("/p/", headers).await;
        assert_eq!((reply.cache().as_str(), reply.text()), (cache, text), "{headers}");
    }
}

/// Django joins the values without a separator and serves the wrong page (`vary-concatenation-collision` in
/// `semantics.json`).
async fn values_that_concatenate_alike_are_different_variants(on: Setup) {
    let origin = varying().await;
    let scene = Scene::new(on, &origin).await;
    for (number, headers) in [
        "X-A: 1\r\nX-B: 23\r\n",
        "X-A: 12\r\nX-B: 3\r\n",
        "X-A: 123\r\n",
        "X-A: 123\r\nX-B:\r\n",
        "X-B: 123\r\n",
        "",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(
            scene.get_with("/p/", headers).await.text(),
            format!("page {}", number + 1),
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn deleting_the_base_key_drops_every_variant() {
    let origin = varying().await;
    let store = MemoryStore::new(1 << 20);
    let scene = Scene::with(origin.address, store.clone(), RULES).await;
    scene.get_with("/p/", "X-A: 1\r\n").await;
    scene.get_with("/p/", "X-A: 2\r\n").await;
    let gone = vec![Write::Set(Key::new(BASE), "gone".into())];
    store.put(gone, std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(scene.get_with("/p/", "X-A: 1\r\n").await.text(), "page 3");
    assert_eq!(scene.get_with("/p/", "X-A: 2\r\n").await.text(), "page 4");
    assert_eq!(scene.get_with("/p/", "X-A: 1\r\n").await.text(), "page 3");
}

#[tokio::test]
async fn proxies_on_one_store_share_the_variants() {
    let origin = varying().await;
    let store = MemoryStore::new(1 << 20);
    let one = Scene::with(origin.address, store.clone(), RULES).await;
    let other = Scene::with(origin.address, store, RULES).await;
    one.get_with("/p/", "X-A: 1\r\n").await;
    assert_eq!(other.get_with("/p/", "X-A: 1\r\n").await.cache(), "HIT hit; ttl=60");
    other.get_with("/p/", "X-A: 2\r\n").await;
    assert_eq!(one.get_with("/p/", "X-A: 2\r\n").await.cache(), "HIT hit; ttl=60");
}

async fn the_vary_of_the_last_fill_counts(on: Setup) {
    let origin = Origin::new(|_, number| {
        let vary = ["Vary: X-A\r\n", "Vary: X-B\r\n", ""][(number - 1).min(2)];
        Script::Answer(page(vary, &format!("page {number}")))
    })
    .await;
    let scene = Scene::new(on, &origin).await;
    for (headers, text) in [
        ("X-A: 1\r\n", "page 1"),
        ("X-A: 1\r\nX-B: 1\r\n", "page 1"),
        ("X-A: 2\r\n", "page 2"),
        ("X-A: 1\r\n", "page 2"),
        ("X-B: 1\r\n", "page 3"),
        ("X-B: 2\r\n", "page 3"),
    ] {
        assert_eq!(scene.get_with("/p/", headers).await.text(), text, "{headers:?}");
    }
}

/// Input 25 of docs/hostile.md: a header that the proxy removes before the origin sees it must not select a variant.
async fn a_header_that_connection_names_selects_no_variant(on: Setup) {
    let origin =
        Origin::new(|seen, _| Script::Answer(page("Vary: X-A\r\n", seen.header("x-a").unwrap_or("none"))))
            .await;
    let scene = Scene::new(on, &origin).await;
    assert_eq!(scene.get_with("/p/", "X-A: fr\r\nConnection: X-A\r\n").await.text(), "none");
    assert_eq!(scene.get_with("/p/", "X-A: fr\r\n").await.text(), "fr");
    assert_eq!(scene.get("/p/").await.text(), "none");
}
