//! Certificates that an authority issues: a directory of our own validates names by the proxy, and clients get what it signs.

mod directory;
mod fleet;
mod validation;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser as _;
use proxy::{Args, Config, MemoryStore, Renewals, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::admin::Running;
use crate::metrics::sample;
use crate::support::{Origin, RULES, Scene};
use crate::tunnel::{Authority, today};
use directory::{Directory, NOWHERE};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const GET: &[u8] = b"GET /p/ HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// The settings of a proxy with these names, and with a plain listener and one with TLS.
fn settings(directory: &Directory, storage: &str, names: &str, challenge: &str) -> String {
    format!(
        "{RULES}\n[[listen]]\naddress = \"127.0.0.1:0\"\ncertificates = \"acme\"\n\
         [acme]\ndirectory = \"https://{}/directory\"\nca_file = {:?}\n{storage}\ndomains = [{names}]\n\
         contact = [\"ops@example\"]\nchallenge = \"{challenge}\"\n",
        directory.address,
        directory.authority.ca()
    )
}

/// The setting of a folder.
fn folder(storage: &TempDir) -> String {
    format!("storage = {:?}", storage.path())
}

/// A proxy whose certificates are renewed when the test says so.
struct Site<S> {
    scene: Scene,
    renewals: Renewals<S>,
    origin: Origin,
    directory: Arc<Directory>,
    /// When it was started.
    began: SystemTime,
}

impl Site<MemoryStore> {
    /// With the names `a.example` and, if it is to lead nowhere, `b.example`.
    async fn start(directory: Arc<Directory>, storage: &TempDir, names: &str, challenge: &str) -> Self {
        Self::over(MemoryStore::new(8 << 20), directory, &folder(storage), names, challenge).await
    }

    /// One whose certificate has been issued.
    async fn issued(storage: &TempDir, challenge: &str) -> Self {
        let site = Self::start(Directory::start().await.into(), storage, "\"a.example\"", challenge).await;
        site.after(Duration::ZERO).await;
        site
    }
}

impl<S: Store> Site<S> {
    /// Over this store, with further lines of `[acme]`.
    async fn over(store: S, directory: Arc<Directory>, storage: &str, names: &str, challenge: &str) -> Self {
        let origin = Origin::pages("").await;
        let url = format!("http://{}", origin.address);
        let args = Args::try_parse_from(["proxy", "--listen", "127.0.0.1:0", "--origin", &url]).unwrap();
        let text = settings(&directory, storage, names, challenge);
        let config = Config::parse(&args, Some(("scene.toml", &text))).unwrap();
        let began = today();
        let renewals = Renewals::new(config.acme.clone().unwrap(), &store, began);
        renewals.take_stored(began).await;
        let scene = Scene::of(config, store).await;
        let host = ("a.example".to_owned(), (scene.others[0], scene.address));
        directory.state().hosts.extend([host]);
        Self { scene, renewals, origin, directory, began }
    }

    /// Has the proxy do what is due so long after the start.
    async fn after(&self, time: Duration) -> Duration {
        self.renewals.step(self.began + time).await
    }

    async fn connect(&self, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        self.directory.authority.connect("a.example", protocols, self.scene.others[0]).await
    }

    fn orders(&self) -> usize {
        self.directory.state().orders.len()
    }
}

fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn is_served(stream: &mut TlsStream<TcpStream>) -> bool {
    stream.write_all(GET).await.unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.is_ok() && &line == b"HTTP/1.1 200"
}

#[tokio::test]
async fn each_challenge_ends_with_a_certificate_that_clients_accept() {
    for challenge in ["tls-alpn-01", "http-01"] {
        let storage = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::start().await);
        let site = Site::start(directory, &storage, "\"a.example\"", challenge).await;
        assert!(site.connect(&[]).await.is_err(), "a certificate before it was issued");
        let pause = site.after(Duration::ZERO).await;
        assert_eq!(site.directory.state().orders[0].status, "valid");
        assert!(pause <= DAY, "{pause:?}");
        assert!(is_served(&mut site.connect(&["http/1.1"]).await.unwrap()).await, "{challenge}");
        assert!(site.connect(&["h2"]).await.is_ok());
        // The answer is taken back.
        let token = "/.well-known/acme-challenge/token-0";
        assert!(site.scene.get(token).await.text().starts_with("page "));
        assert!(site.connect(&["acme-tls/1"]).await.is_err());
    }
}

#[tokio::test]
async fn a_renewal_replaces_the_certificate_and_ends_no_connection() {
    let storage = tempfile::tempdir().unwrap();
    let site = Site::issued(&storage, "tls-alpn-01").await;
    let mut open = site.connect(&[]).await.unwrap();
    site.after(56 * DAY).await;
    assert_eq!(site.orders(), 1);
    site.after(60 * DAY + DAY / 2).await;
    assert_eq!(site.orders(), 2);
    let renewed = site.connect(&[]).await.unwrap();
    assert_ne!(certificate(&renewed), certificate(&open));
    assert!(is_served(&mut open).await);
}

#[tokio::test]
async fn a_directory_that_is_down_is_tried_again_after_pauses_that_grow() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let authority = Arc::new(Authority::new());
    let down = Directory::on(listener, authority.clone());
    down.stop().await;
    let storage = tempfile::tempdir().unwrap();
    let site = Site::start(down.into(), &storage, "\"a.example\"", "tls-alpn-01").await;
    assert_eq!(site.after(Duration::ZERO).await, Duration::from_secs(60));
    assert_eq!(site.after(Duration::from_secs(59)).await, Duration::from_secs(1));
    assert_eq!(site.after(Duration::from_secs(60)).await, Duration::from_secs(120));
    assert!(site.scene.get("/p/").await.text().starts_with("page "));
    let up = Directory::on(TcpListener::bind(address).await.unwrap(), authority);
    up.state().hosts = site.directory.state().hosts.clone();
    site.after(Duration::from_secs(180)).await;
    assert!(is_served(&mut site.connect(&[]).await.unwrap()).await);
}

#[tokio::test]
async fn an_order_that_is_refused_leaves_the_old_certificate_and_waits_as_long_as_asked() {
    let storage = tempfile::tempdir().unwrap();
    let site = Site::issued(&storage, "http-01").await;
    let old = certificate(&site.connect(&[]).await.unwrap());
    site.directory.state().is_closed = true;
    assert_eq!(site.after(61 * DAY).await, Duration::from_secs(60 * 60));
    let asked = site.directory.state().asked;
    site.after(61 * DAY + Duration::from_secs(7199)).await;
    assert_eq!(site.directory.state().asked, asked);
    assert_eq!(certificate(&site.connect(&[]).await.unwrap()), old);
    site.directory.state().is_closed = false;
    site.after(61 * DAY + Duration::from_secs(7200)).await;
    assert_ne!(certificate(&site.connect(&[]).await.unwrap()), old);
}

#[tokio::test]
async fn a_restart_takes_what_is_stored_and_asks_nobody() {
    let storage = tempfile::tempdir().unwrap();
    let site = Site::issued(&storage, "tls-alpn-01").await;
    let (before, directory) = (certificate(&site.connect(&[]).await.unwrap()), site.directory.clone());
    site.scene.stop().await;
    let asked = directory.state().asked;
    let again = Site::start(directory, &storage, "\"a.example\"", "tls-alpn-01").await;
    assert_eq!(certificate(&again.connect(&[]).await.unwrap()), before);
    again.after(Duration::ZERO).await;
    assert_eq!(again.directory.state().asked, asked);
    // The account is the same, and the directory would refuse another key.
    again.after(61 * DAY).await;
    assert_eq!(again.orders(), 2);
}

#[tokio::test]
async fn a_name_that_cannot_be_validated_holds_up_no_other() {
    let storage = tempfile::tempdir().unwrap();
    let directory = Arc::new(Directory::start().await);
    let site = Site::start(directory, &storage, &format!("{NOWHERE:?}, \"a.example\""), "tls-alpn-01").await;
    assert_eq!(site.after(Duration::ZERO).await, Duration::from_secs(60));
    let states: Vec<_> = site.directory.state().orders.iter().map(|order| order.status).collect();
    assert_eq!(states, ["invalid", "valid"]);
    assert!(is_served(&mut site.connect(&[]).await.unwrap()).await);
}

#[tokio::test]
async fn a_stranger_gets_no_proof_and_its_token_goes_to_the_origin() {
    let storage = tempfile::tempdir().unwrap();
    let site = Site::issued(&storage, "http-01").await;
    for protocols in [&["acme-tls/1"][..], &["acme-tls/1", "http/1.1"], &["http/1.1", "acme-tls/1"]] {
        assert!(site.connect(protocols).await.is_err(), "{protocols:?}");
    }
    for target in
        ["/.well-known/acme-challenge/x", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/%00"]
    {
        assert!(site.scene.get(target).await.text().starts_with("page "), "{target}");
    }
    assert_eq!(site.origin.count(), 3);
}

#[tokio::test]
async fn files_and_issued_certificates_stand_beside_each_other() {
    let storage = tempfile::tempdir().unwrap();
    let directory = Arc::new(Directory::start().await);
    let pair = directory.authority.issue(&["b.example"]);
    let text = settings(&directory, &folder(&storage), "\"a.example\"", "tls-alpn-01");
    let files = format!("[\"acme\", {{ cert = {:?}, key = {:?} }}]", pair.cert, pair.key);
    let text = text.replace("certificates = \"acme\"", &format!("certificates = {files}"));
    let args = Args::try_parse_from(["proxy", "--listen", "127.0.0.1:0"]).unwrap();
    let config = Config::parse(&args, Some(("scene.toml", &text))).unwrap();
    let store = MemoryStore::new(1 << 20);
    let renewals = Renewals::new(config.acme.clone().unwrap(), &store, today());
    let scene = Scene::of(config, store).await;
    directory.state().hosts.insert("a.example".to_owned(), (scene.others[0], scene.address));
    renewals.step(today()).await;
    for (name, is_served) in [("a.example", true), ("b.example", true), ("c.example", false)] {
        let connected = directory.authority.connect(name, &[], scene.others[0]).await;
        assert_eq!(connected.is_ok(), is_served, "{name}");
    }
}

#[tokio::test]
async fn the_program_orders_by_itself_and_tells_operators() {
    let storage = tempfile::tempdir().unwrap();
    let directory = Directory::start().await;
    directory.state().is_closed = true;
    let origin = Origin::pages("").await;
    let text = format!(
        "store = \"memory\"\norigin = \"http://{}\"\n{}[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"TOKEN\"\n",
        origin.address,
        settings(&directory, &folder(&storage), "\"a.example\"", "tls-alpn-01")
    );
    let running = Running::of(&text);
    let state = |status: &Value| status["acme"][0].clone();
    let mut status = state(&running.status().await);
    while status["last_error"].is_null() {
        tokio::task::yield_now().await;
        status = state(&running.status().await);
    }
    assert_eq!((&status["name"], &status["expires"]), (&"a.example".into(), &Value::Null));
    assert!(status["last_error"].as_str().unwrap().contains("too many orders"), "{status}");
    // A restart keeps to the pause; another way of validation is tried at once.
    drop(running);
    directory.state().is_closed = false;
    let asked = directory.state().asked;
    let running = Running::of(&text);
    while state(&running.status().await)["last_error"].is_null() {
        tokio::task::yield_now().await;
    }
    assert_eq!(directory.state().asked, asked);
    drop(running);
    let running = Running::of(&text.replace("tls-alpn-01", "http-01"));
    let hosts = [("a.example".to_owned(), (running.tls.unwrap(), running.proxy))];
    directory.state().hosts.extend(hosts);
    while state(&running.status().await)["expires"].is_null() {
        tokio::task::yield_now().await;
    }
    let expiry = sample(
        &running.metrics().await,
        "cachepage_certificate_expiry_timestamp_seconds{name=\"a.example\"}",
    );
    assert!(expiry > 1.79e9, "{expiry}");
    let connected = directory.authority.connect("a.example", &[], running.tls.unwrap()).await;
    assert!(is_served(&mut connected.unwrap()).await);
}
