//! How a proxy logs in to Redis: with the least rights that the documentation names, and through TLS with authorities and
//! certificates of its own.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use proxy::{Args, Config, RedisStore, Store as _, StoreUrl};
use stack::{Brand, Cluster, Redis, Watched, free_port};

use crate::support::{Origin, RULES, Scene, Setup};

/// The user of docs/redis.md, as `redis-cli` takes it.
fn documented_user() -> Vec<&'static str> {
    let docs = include_str!("../../../docs/redis.md");
    docs.lines().find(|line| line.starts_with("ACL SETUSER")).unwrap().split(' ').collect()
}

/// A store as these settings say it.
fn store(settings: &str) -> RedisStore {
    let config = Config::parse(&Args::parse_from(["proxy"]), Some(("stores.toml", settings))).unwrap();
    let StoreUrl::Redis(redis) = config.store else { panic!("no Redis: {settings}") };
    RedisStore::open(&redis, Duration::from_secs(2), 1 << 20).unwrap()
}

/// A page and a variant are stored, read and kept near, and nothing is refused.
async fn everything_works(settings: &str) {
    let (origin, store) = (Origin::pages("Vary: Accept\r\n").await, store(settings));
    let settings = Setup::Near.settings(&format!("{settings}\n{RULES}coalesce = \"fleet\"\n"));
    let scene = Scene::with(origin.address, store.clone(), &settings).await;
    let mut is_near = false;
    for _ in 0..2_000 {
        let reply = scene.get_with("/p/", "Accept: a/b\r\n").await;
        assert_eq!(reply.text(), "page 1");
        is_near = reply.header("cache-status").ends_with("detail=near");
        if is_near {
            break;
        }
    }
    assert!(is_near, "the page never is near");
    let prefixes = [":1:", "{:1:"].map(|start| format!("{start}views.decorators.cache.").into_bytes());
    assert_eq!(store.refusals(&prefixes).await, []);
}

fn with_user(url: &str) -> String {
    format!("store = \"{}\"", url.replace("://", "://cachepage:SECRET@"))
}

#[tokio::test]
async fn the_documented_rights_are_enough_for_one_redis() {
    let redis = Redis::start().unwrap();
    redis.cli(&documented_user()).unwrap();
    everything_works(&with_user(&redis.url())).await;
}

#[tokio::test]
async fn the_documented_rights_are_enough_for_a_master_with_sentinels() {
    let watched = Watched::start(Brand::chosen()).unwrap();
    for server in &watched.servers {
        server.cli(&documented_user()).unwrap();
    }
    everything_works(&with_user(&watched.url())).await;
}

#[tokio::test]
async fn the_documented_rights_are_enough_for_a_cluster() {
    let cluster = Cluster::start(Brand::chosen(), 3, 0).unwrap();
    for node in &cluster.nodes {
        node.cli(&documented_user()).unwrap();
    }
    everything_works(&with_user(&cluster.url())).await;
}

fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenes/tls").join(name).display().to_string()
}

#[tokio::test]
async fn a_private_authority_and_a_certificate_to_show_are_used() {
    let port = free_port().unwrap().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let options = ["--tls-port", &port, "--tls-ca-cert-file", &ca, "--tls-cert-file", &certificate];
    let redis = Redis::start_as(Brand::Redis, &[&options[..], &["--tls-key-file", &key]].concat()).unwrap();
    let url = format!("store = \"rediss://127.0.0.1:{port}/1\"\n[redis]\n");
    let trusted = format!("ca_file = \"{ca}\"\nserver_name = \"redis.example\"\n");
    let (shown, shown_key) = (file("client.pem"), file("client.key"));
    let identity = format!("client_certificate = \"{shown}\"\nclient_key = \"{shown_key}\"\n");
    everything_works(&format!("{url}{trusted}{identity}")).await;
    // Without the certificate, or with the address in the place of the name, there is no connection.
    for less in [trusted.clone(), format!("ca_file = \"{ca}\"\n{identity}")] {
        let origin = Origin::pages("").await;
        let scene = Scene::with(origin.address, store(&format!("{url}{less}")), RULES).await;
        scene.get("/p/new").await;
        assert_eq!(scene.get("/p/new").await.text(), "page 2", "{less}");
    }
    assert_eq!(redis.cli(&["KEYS", "*/p/new*"]).unwrap(), "");
}
