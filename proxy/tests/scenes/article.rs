//! The article's cached view: the proxy in front of the real origin and a real database gives the answers of real
//! Django.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser as _;
use origin::{Args, Config, Database};
use server::Clients;
use stack::Postgres;
use tokio::net::TcpListener;

use crate::backend::Backend;
use crate::support::{Reply, Scene, Setup, redis_store};

scenes! {
    the_cached_view_answers_like_django_and_a_hit_needs_no_query
    a_hit_needs_no_connection_to_the_database
}

/// Headers that depend on the server, the connection or the time, and headers that only the proxy or the origin adds.
const NOT_COMPARED: [&str; 9] = [
    "server",
    "date",
    "connection",
    "transfer-encoding",
    "server-timing",
    "surrogate-key",
    "x-cache",
    "cache-status",
    "expires",
];

fn origins_tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../origin/tests")
}

/// The name of a database that no other test has.
fn database(on: Setup, purpose: &str) -> String {
    format!("{purpose}_{on:?}").to_lowercase()
}

/// Starts the article's stack on a new database with the rows of the recordings.
async fn article(on: Setup, redis: &Backend, database: &str) -> Scene {
    let postgres = Postgres::shared();
    let url = postgres.database(database).unwrap();
    for file in ["fixture/schema.sql", "fixture/fixture.sql"] {
        postgres.psql(&url, &std::fs::read_to_string(origins_tests().join(file)).unwrap()).unwrap();
    }
    postgres.log_statements(database).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let args = Args::try_parse_from(["origin", "--database-url", &url]).unwrap();
    let origin = origin::Origin::new(Database::new(&Config::parse(&args).unwrap()), address);
    tokio::spawn(server::serve(listener, Arc::new(origin), Clients::default(), std::future::pending()));
    let rules = "[[cache_page]]\npath = \"/api/properties/cached/\"\ntimeout = 60\n";
    Scene::with(address, redis_store(&redis.url()), &on.settings(rules)).await
}

fn read(name: &str, extension: &str) -> String {
    std::fs::read_to_string(origins_tests().join(format!("recorded/{name}.{extension}"))).unwrap()
}

/// The headers to compare, sorted, because the proxy adds its headers at another place than Django.
fn comparable(headers: &[(&str, &str)]) -> Vec<String> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{}: {value}", name.to_lowercase())).collect();
    lines.sort();
    lines
}

fn recorded(name: &str) -> (String, Vec<String>, String) {
    let text = read(name, "http");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.filter(|(name, _)| !NOT_COMPARED.contains(&name.to_lowercase().as_str()));
    let headers: Vec<_> = headers.collect();
    (line, comparable(&headers), body.to_owned())
}

async fn the_cached_view_answers_like_django_and_a_hit_needs_no_query(on: Setup) {
    let redis = Backend::start().unwrap();
    let database = database(on, "counted");
    let scene = article(on, &redis, &database).await;
    let mut before = 0;
    for (name, x_cache, queries) in [
        ("cached-page3-miss", "MISS", 17),
        ("cached-page3-hit", "HIT", 0),
        ("cached-head-hit", "HIT", 0),
        ("cached-page-abc-404", "BYPASS", 0),
        ("cached-options", "BYPASS", 0),
        ("cached-post", "BYPASS", 0),
    ] {
        let reply: Reply = scene.send(&read(name, "req")).await;
        let statements = Postgres::shared().statements(&database).len();
        assert_eq!((reply.header("x-cache"), statements - before), (x_cache, queries), "{name}");
        before = statements;
        let (line, headers, body) = recorded(name);
        assert_eq!((&reply.line, comparable(&reply.without(&NOT_COMPARED))), (&line, headers), "{name}");
        assert_eq!(reply.text(), body, "{name}");
        let expires = if ["MISS", "HIT"].contains(&x_cache) { " GMT" } else { "" };
        assert!(reply.header("expires").ends_with(expires), "{name}: {}", reply.header("expires"));
    }
}

async fn a_hit_needs_no_connection_to_the_database(on: Setup) {
    let redis = Backend::start().unwrap();
    let gone = database(on, "gone");
    let scene = article(on, &redis, &gone).await;
    assert_eq!(scene.get("/api/properties/cached/").await.header("x-cache"), "MISS");
    // The database is no longer reachable, but the page is stored.
    let refuse = format!("ALTER DATABASE {gone} ALLOW_CONNECTIONS false");
    let admin = Postgres::shared().database(&database(on, "admin")).unwrap();
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{gone}'");
    Postgres::shared().psql(&admin, &format!("{refuse}; {end}")).unwrap();
    assert_eq!(scene.get("/api/properties/cached/").await.header("x-cache"), "HIT");
}
