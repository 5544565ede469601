//! Inputs that have broken caching proxies. `docs/hostile.md` lists them by number and names the test of each.

mod clients;
mod framing;
mod origins;
mod pages;
mod targets;

use std::time::Duration;

use proxy::MemoryStore;

use crate::support::{Client, Origin, RULES, Reply, Scene, Script, Setup, page};

/// A proxy with these settings in front of this origin.
async fn with(origin: &Origin, settings: &str) -> Scene {
    Scene::with(origin.address, MemoryStore::new(8 << 20), &format!("{settings}\n{RULES}")).await
}

/// Checks that a new client is served, whatever the last one did.
async fn is_well(scene: &Scene) {
    let reply = scene.get("/p/well").await;
    assert_eq!((reply.status(), reply.whole), (200, true), "{}", reply.line);
}

/// Sends these bytes, reads one answer, and checks that the connection is closed after it.
async fn last_words(scene: &Scene, bytes: &[u8]) -> Reply {
    let mut client = scene.connect().await;
    client.try_write(bytes).await;
    let reply = client.reply(true).await;
    assert!(client.is_closed().await, "{}", bytes.escape_ascii());
    reply
}

/// Checks that each request gets this status, that its connection is closed, that it does not reach the origin, and
/// that other clients are served.
async fn all_refused(on: Setup, status: u16, requests: &[&[u8]]) {
    let origin = Origin::pages("").await;
    let scene = Scene::new(on, &origin).await;
    is_well(&scene).await;
    for request in requests {
        assert_eq!(last_words(&scene, request).await.status(), status, "{}", request.escape_ascii());
        is_well(&scene).await;
    }
    assert_eq!(origin.count(), 1);
}

/// An origin that answers with the request line, headers and body that it received.
async fn echo() -> Origin {
    Origin::new(|seen, _| {
        let lines: Vec<_> = seen.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let body = String::from_utf8_lossy(&seen.body);
        Script::Answer(page("", &format!("{}\n{}\n{body}", seen.line, lines.join("\n"))))
    })
    .await
}

/// Much longer than any step here takes, and much shorter than a test's patience.
const SOON: Duration = Duration::from_secs(5);

/// Reads a connection until it is closed.
async fn everything(client: &mut Client) -> String {
    String::from_utf8_lossy(&client.rest().await).into_owned()
}
