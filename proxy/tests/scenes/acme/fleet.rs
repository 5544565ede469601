//! Proxies that share a store and a name: one orders, any of them answers the authority, and all show the certificate.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use proxy::RedisStore;
use stack::Redis;
use tempfile::NamedTempFile;

use super::directory::Directory;
use super::{DAY, Site, certificate, is_served};
use crate::support::redis_store;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A fleet that has no certificate yet.
struct Fleet {
    redis: Redis,
    directory: Arc<Directory>,
    secret: NamedTempFile,
    challenge: &'static str,
}

impl Fleet {
    async fn new(challenge: &'static str) -> Self {
        let (redis, directory) = (Redis::start().unwrap(), Directory::start().await.into());
        Self { redis, directory, secret: secret("0123456789abcdef"), challenge }
    }

    /// One more proxy, which the name leads to from now on.
    async fn join(&self) -> Site<RedisStore> {
        self.join_with(&self.secret).await
    }

    async fn join_with(&self, secret: &NamedTempFile) -> Site<RedisStore> {
        let (store, directory) = (redis_store(&self.redis.url()), self.directory.clone());
        let storage = format!("storage = \"store\"\nsecret_file = {:?}", secret.path());
        Site::over(store, directory, &storage, "\"a.example\"", self.challenge).await
    }

    fn orders(&self) -> usize {
        self.directory.state().orders.len()
    }

    fn asked(&self) -> usize {
        self.directory.state().asked
    }
}

/// A secret that is long enough.
fn secret(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.repeat(4).as_bytes()).unwrap();
    file
}

async fn shown(site: &Site<RedisStore>) -> Vec<u8> {
    let mut stream = site.connect(&["http/1.1"]).await.unwrap();
    assert!(is_served(&mut stream).await);
    certificate(&stream)
}

#[tokio::test]
async fn one_proxy_orders_another_answers_and_each_shows_the_certificate() {
    for challenge in ["tls-alpn-01", "http-01"] {
        let fleet = Fleet::new(challenge).await;
        let (ordering, asked) = (fleet.join().await, fleet.join().await);
        ordering.after(Duration::ZERO).await;
        assert_eq!(fleet.directory.state().orders[0].status, "valid", "{challenge}");
        asked.after(Duration::ZERO).await;
        assert_eq!((fleet.orders(), fleet.directory.state().accounts()), (1, 1));
        assert_eq!(shown(&ordering).await, shown(&asked).await);
        // The proof is taken back, and one who asks for another gets none.
        for site in [&ordering, &asked] {
            assert!(site.connect(&["acme-tls/1"]).await.is_err());
            for token in ["token-0", "token-1", "%00", ""] {
                let target = format!("/.well-known/acme-challenge/{token}");
                assert!(site.scene.get(&target).await.text().starts_with("page "), "{target}");
            }
        }
        // A proxy that joins asks nobody.
        let asked = fleet.asked();
        let joined = fleet.join().await;
        assert_eq!(shown(&joined).await, shown(&ordering).await);
        joined.after(Duration::ZERO).await;
        assert_eq!(fleet.asked(), asked);
    }
}

#[tokio::test]
async fn proxies_that_begin_at_once_order_one_certificate() {
    let fleet = Fleet::new("tls-alpn-01").await;
    let (one, other) = (fleet.join().await, fleet.join().await);
    let (first, second) = tokio::join!(one.after(Duration::ZERO), other.after(Duration::ZERO));
    // The other one looks again soon.
    let soon = first.min(second);
    assert!(soon <= Duration::from_secs(2), "{soon:?}");
    for site in [&one, &other] {
        site.after(soon).await;
    }
    assert_eq!((fleet.orders(), shown(&one).await), (1, shown(&other).await));
}

#[tokio::test]
async fn a_renewal_by_one_proxy_reaches_the_others() {
    let fleet = Fleet::new("tls-alpn-01").await;
    let (one, other) = (fleet.join().await, fleet.join().await);
    one.after(Duration::ZERO).await;
    other.after(Duration::ZERO).await;
    let old = shown(&one).await;
    one.after(61 * DAY).await;
    assert_eq!((fleet.orders(), shown(&other).await), (2, old));
    // It looks once a minute, whatever is due.
    let sleep = other.after(61 * DAY).await;
    assert_eq!((fleet.orders(), shown(&other).await), (2, shown(&one).await));
    assert_eq!(sleep, Duration::from_secs(60));
}

#[tokio::test]
async fn all_proxies_keep_to_the_pause_after_a_failure_and_so_does_a_restart() {
    let fleet = Fleet::new("http-01").await;
    let (one, other) = (fleet.join().await, fleet.join().await);
    fleet.directory.state().is_closed = true;
    one.after(Duration::ZERO).await;
    let asked = fleet.asked();
    assert!(asked > 0);
    fleet.directory.state().is_closed = false;
    other.after(Duration::ZERO).await;
    let restarted = fleet.join().await;
    for site in [&one, &other, &restarted] {
        site.after(2 * HOUR - Duration::from_secs(10)).await;
    }
    assert_eq!(fleet.asked(), asked);
    restarted.after(2 * HOUR + Duration::from_secs(10)).await;
    other.after(2 * HOUR + Duration::from_secs(10)).await;
    assert_eq!((fleet.orders(), shown(&restarted).await), (1, shown(&other).await));
}

#[tokio::test]
async fn what_the_store_has_lost_is_written_again() {
    let fleet = Fleet::new("tls-alpn-01").await;
    let one = fleet.join().await;
    one.after(Duration::ZERO).await;
    fleet.redis.cli(&["FLUSHALL"]).unwrap();
    one.after(Duration::from_secs(60)).await;
    let other = fleet.join().await;
    assert_eq!(shown(&other).await, shown(&one).await);
    // The account, too: the directory sees no other one.
    one.after(61 * DAY).await;
    assert_eq!((fleet.orders(), fleet.directory.state().accounts()), (2, 1));
}

#[tokio::test]
async fn the_store_holds_no_key_that_can_be_read_and_another_secret_replaces_nothing() {
    let fleet = Fleet::new("tls-alpn-01").await;
    let one = fleet.join().await;
    one.after(Duration::ZERO).await;
    let keys = fleet.redis.cli(&["KEYS", "*"]).unwrap();
    assert!(keys.lines().count() >= 2, "{keys}");
    for key in keys.lines() {
        assert!(key.starts_with(":1:views.decorators.cache.cache_page.acme/127.0.0.1_"), "{key}");
        let value = fleet.redis.cli(&["--no-raw", "GET", key]).unwrap();
        assert!(value.len() > 40, "{value}");
        assert!(
            !["PRIVATE", "CERTIFICATE", "example"].into_iter().any(|text| value.contains(text)),
            "{value}"
        );
    }
    let asked = fleet.asked();
    let stranger = fleet.join_with(&secret("fedcba9876543210")).await;
    stranger.after(Duration::ZERO).await;
    assert!(stranger.connect(&[]).await.is_err());
    assert_eq!(fleet.asked(), asked);
    let joined = fleet.join().await;
    assert_eq!(shown(&joined).await, shown(&one).await);
}

#[tokio::test]
async fn a_store_that_is_away_leaves_the_certificate_and_orders_nothing() {
    let mut fleet = Fleet::new("tls-alpn-01").await;
    let one = fleet.join().await;
    one.after(Duration::ZERO).await;
    let asked = fleet.asked();
    fleet.redis.stop();
    assert_eq!(one.after(61 * DAY).await, Duration::from_secs(60));
    assert_eq!(fleet.asked(), asked);
    shown(&one).await;
}
