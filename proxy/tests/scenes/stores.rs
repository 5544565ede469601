//! How a proxy logs in to Redis: with the least rights that the documentation names, and through TLS with authorities and
//! certificates of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Parser as _;
use proxy::{Args, Config, RedisStore, Store as _, StoreUrl};
use stack::{Brand, Cluster, Redis, Watched, free_port};
use tokio::time::timeout;

use crate::program::command;
use crate::support::{Origin, PATIENCE, RULES, Scene, Setup};

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
    assert_eq!(store.refusals(&prefixes()).await, []);
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

/// What each right is needed for is asked of Redis; a right that is missing is told by its name, once.
#[tokio::test]
async fn each_right_that_is_taken_away_is_told_by_name() {
    let (redis, origin) = (Redis::start().unwrap(), Origin::pages("").await);
    let url = with_user(&redis.url());
    let purging = "[purge]\nallow = [\"127.0.0.1\"]\nreplicas = 1\n";
    let settings = Setup::Near.settings(&format!("{url}\n{RULES}coalesce = \"fleet\"\n{purging}"));
    for right in [
        "get",
        "mget",
        "setex",
        "set",
        "expire",
        "pexpire",
        "pttl",
        "del",
        "eval",
        "xadd",
        "xrange",
        "info",
        "wait",
        "client|tracking",
    ] {
        redis.cli(&documented_user()).unwrap();
        redis.cli(&["ACL", "SETUSER", "cachepage", &format!("-{right}")]).unwrap();
        let store = store(&url);
        let scene = Scene::with(origin.address, store.clone(), &settings).await;
        assert_eq!(scene.get("/p/").await.status(), 200, "{right}");
        let name = right.to_uppercase().replace('|', " ");
        let told = async {
            loop {
                let purged = scene.send("PURGE /p/ HTTP/1.1\r\nHost: localhost:8000\r\n\r\n").await;
                assert_eq!(purged.status(), 503, "there is no replica");
                let refused = store.refusals(&prefixes()).await;
                match refused.iter().filter(|refused| refused.command == name).count() {
                    0 => tokio::task::yield_now().await,
                    count => return count,
                }
            }
        };
        assert_eq!(timeout(PATIENCE, told).await.expect(&name), 1, "{name}");
    }
}

/// Without these there is no connection for pages, or none for changes; the log has the words of Redis.
#[test]
fn a_right_that_a_connection_needs_is_told_by_name() {
    let redis = Redis::start().unwrap();
    let cluster = Cluster::start(Brand::chosen(), 3, 0).unwrap();
    let alone = (redis.url(), std::slice::from_ref(&redis));
    for (right, (url, servers)) in
        [("select", alone.clone()), ("ping", alone), ("cluster|slots", (cluster.url(), &cluster.nodes[..]))]
    {
        for server in servers {
            server.cli(&documented_user()).unwrap();
            server.cli(&["ACL", "SETUSER", "cachepage", &format!("-{right}")]).unwrap();
        }
        let settings = tempfile::NamedTempFile::new().unwrap();
        let text = format!("{}\nlisten = \"127.0.0.1:0\"\nnear = \"1MiB\"\n{RULES}", with_user(&url));
        std::fs::write(settings.path(), text).unwrap();
        let told = log_says(&["--config", settings.path().to_str().unwrap()], &format!("'{right}' command"));
        assert!(told, "{right}");
    }
}

/// Runs the program until a line of its log has this text.
fn log_says(args: &[&str], text: &str) -> bool {
    let mut child = command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, log) = channel();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut lines = std::iter::from_fn(|| log.recv_timeout(PATIENCE).ok());
    let is_said = lines.any(|line| line.contains(text));
    child.kill().unwrap();
    child.wait().unwrap();
    is_said
}

fn prefixes() -> [Vec<u8>; 2] {
    [":1:", "{:1:"].map(|start| format!("{start}views.decorators.cache.").into_bytes())
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
    let [cluster_port, bus_port] = [free_port(), free_port()].map(|port| port.unwrap().to_string());
    let options = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-port", &cluster_port];
    // By default the bus takes a port that a connection may have.
    let options = [&options[..], &["--cluster-port", &bus_port]].concat();
    let own = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let node = Redis::start_as(Brand::Redis, &[&options[..], &own].concat()).unwrap();
    node.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    let is_up = async {
        while !node.cli(&["CLUSTER", "INFO"]).unwrap().contains("cluster_state:ok") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, is_up).await.expect("the cluster is complete");
    let cluster_url = format!("store = \"rediss-cluster://127.0.0.1:{cluster_port}\"\n[redis]\n");
    everything_works(&format!("{cluster_url}{trusted}{identity}")).await;
    // Without the certificate, or with the address in the place of the name, there is no connection.
    for less in [trusted.clone(), format!("ca_file = \"{ca}\"\n{identity}")] {
        let origin = Origin::pages("").await;
        let scene = Scene::with(origin.address, store(&format!("{url}{less}")), RULES).await;
        scene.get("/p/new").await;
        assert_eq!(scene.get("/p/new").await.text(), "page 2", "{less}");
    }
    assert_eq!(redis.cli(&["KEYS", "*/p/new*"]).unwrap(), "");
}
