//! The origin on PostgreSQL: it gives the recorded answers of the real application, with Django's queries.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod recorded;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser as _;
use origin::{Args, Config, Database, Origin};
use server::Clients;
use stack::Postgres;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A folder below `tests/`.
fn tests_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Makes a database with the rows of the recordings, and returns its URL.
fn fixture(name: &str) -> String {
    let postgres = Postgres::shared();
    let url = postgres.database(name).unwrap();
    for file in ["schema.sql", "fixture.sql"] {
        let sql = std::fs::read_to_string(tests_folder("fixture").join(file)).unwrap();
        postgres.psql(&url, &sql).unwrap();
    }
    url
}

/// Starts an origin on a free port, until the test ends.
async fn start(database_url: &str, settings: &[&str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let given = ["origin", "--database-url", database_url];
    let args = given.iter().chain(settings);
    let config = Config::parse(&Args::try_parse_from(args).unwrap()).unwrap();
    let origin = Arc::new(Origin::new(Database::new(&config), address));
    tokio::spawn(server::serve(listener, origin, Clients::default(), std::future::pending()));
    address
}

/// Sends a request that closes its connection, and returns the whole answer.
async fn send(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n");
    String::from_utf8(send(address, request.as_bytes()).await).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn postgresql_sees_djangos_queries() {
    let url = fixture("queries");
    let postgres = Postgres::shared();
    postgres.log_statements("queries").unwrap();
    let address = start(&url, &[]).await;
    let mut seen = 0;
    for (target, queries) in [
        ("/api/properties/live/naive/", 62),
        ("/api/properties/cached/", 62),
        ("/api/properties/live/naive/?page=3", 17),
        ("/api/properties/live/naive/?page=999999", 1),
        ("/api/properties/live/naive/?page=abc", 0),
        ("/api/properties/live/naive/?page=0", 0),
        ("/api/properties/live/optimized/", 2),
        ("/api/properties/live/optimized/?page=last", 2),
        ("/api/properties/live/optimized/?format=xml", 0),
        ("/api/properties/live/naive", 0),
        ("/api/properties/live/nope/", 0),
        ("/healthz", 0),
    ] {
        let answer = get(address, target).await;
        let statements = postgres.statements("queries");
        assert_eq!(statements.len() - seen, queries, "{target}: {:#?}", &statements[seen..]);
        seen = statements.len();
        let noun = if queries == 1 { "query" } else { "queries" };
        assert!(answer.contains(&format!(";desc=\"{queries} {noun}\"\r\n")), "{answer}");
    }
    let statements = postgres.statements("queries");
    assert_eq!(statements[0], r#"SELECT COUNT(*) AS "__count" FROM "housing_property""#);
    let tables: Vec<_> = statements[2..5].iter().map(|sql| sql.split('"').nth(1).unwrap()).collect();
    assert_eq!(tables, ["housing_location", "housing_agent", "housing_office"]);
}

#[tokio::test]
async fn an_empty_list_is_a_page_and_costs_one_query() {
    let url = fixture("empty");
    Postgres::shared().psql(&url, "TRUNCATE housing_property CASCADE").unwrap();
    Postgres::shared().log_statements("empty").unwrap();
    let address = start(&url, &[]).await;
    let answer = get(address, "/api/properties/live/naive/").await;
    assert!(answer.ends_with("{\"count\":0,\"next\":null,\"previous\":null,\"results\":[]}"), "{answer}");
    assert_eq!(Postgres::shared().statements("empty").len(), 1);
    assert_eq!(status(&get(address, "/api/properties/live/naive/?page=2").await), 404);
}

#[tokio::test]
async fn a_request_without_a_connection_in_time_is_503() {
    let url = fixture("crowded");
    let address = start(&url, &["--pool-size", "1", "--pool-wait", "1"]).await;
    // A transaction locks the table, so the only connection waits for it.
    let (locked, release) = hold_table(&url).await;
    locked.await.unwrap();
    let mut one = tokio::spawn(get(address, "/api/properties/live/naive/"));
    let mut other = tokio::spawn(get(address, "/api/properties/live/naive/"));
    // The first request takes the connection and waits for the table; the other gives up.
    let (refused, waiting) = tokio::select! {
        refused = &mut one => (refused.unwrap(), other),
        refused = &mut other => (refused.unwrap(), one),
    };
    assert_eq!(status(&refused), 503);
    assert!(
        refused.contains("\r\nRetry-After: 1\r\n") && refused.ends_with("no connection to the database\n"),
        "{refused}"
    );
    assert_eq!(status(&get(address, "/healthz").await), 200);
    release.send(()).unwrap();
    assert_eq!(status(&waiting.await.unwrap()), 200);
    assert_eq!(status(&get(address, "/api/properties/live/naive/").await), 200);
}

/// Locks the table of properties. The receiver tells when it is locked, the sender unlocks it.
async fn hold_table(url: &str) -> (tokio::sync::oneshot::Receiver<()>, tokio::sync::oneshot::Sender<()>) {
    let (client, connection) =
        bb8_postgres::tokio_postgres::connect(url, bb8_postgres::tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        client.batch_execute("BEGIN; LOCK TABLE housing_property IN ACCESS EXCLUSIVE MODE").await.unwrap();
        locked.send(()).unwrap();
        let _ = released.await;
        client.batch_execute("COMMIT").await.unwrap();
    });
    (is_locked, release)
}

#[tokio::test]
async fn connections_that_the_server_closed_are_replaced() {
    let url = fixture("restarted");
    let address = start(&url, &["--pool-size", "2"]).await;
    assert_eq!(status(&get(address, "/api/properties/live/naive/").await), 200);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'restarted' AND pid <> pg_backend_pid()";
    assert_eq!(Postgres::shared().psql(&url, end).unwrap(), "t");
    // The origin may not know yet that its connection is closed.
    let gone =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'restarted' AND application_name = 'origin'";
    while Postgres::shared().psql(&url, gone).unwrap() != "0" {}
    let answers = [
        get(address, "/api/properties/live/naive/").await,
        get(address, "/api/properties/live/naive/").await,
    ];
    assert!(answers.iter().any(|answer| status(answer) == 200), "{answers:?}");
    assert!(answers.iter().all(|answer| [200, 503].contains(&status(answer))), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_the_origin_and_not_its_database() {
    let address = start("postgres://u:secret@127.0.0.1:1/d", &[]).await.to_string();
    let health = |address: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_origin"));
        command.arg("health").env("ORIGIN_LISTEN", address).output().unwrap()
    };
    let healthy = health(&address);
    let said = String::from_utf8(healthy.stdout).unwrap();
    assert_eq!((healthy.status.code(), said.trim()), (Some(0), &*format!("origin on {address} is healthy")));
    let away = health("127.0.0.1:1");
    assert_eq!(away.status.code(), Some(1), "{away:?}");
}

#[tokio::test]
async fn a_database_that_is_down_is_503_and_one_that_is_not_seeded_is_500() {
    let nobody = start("postgres://u:secret@127.0.0.1:1/d", &["--pool-wait", "1"]).await;
    let answer = get(nobody, "/api/properties/live/naive/").await;
    assert_eq!(status(&answer), 503);
    assert!(!answer.contains("secret"));
    let bare = Postgres::shared().database("bare").unwrap();
    let answer = get(start(&bare, &[]).await, "/api/properties/live/naive/").await;
    assert_eq!(status(&answer), 500);
    assert!(answer.ends_with("the database does not hold the listings\n"), "{answer}");
}

#[tokio::test]
async fn a_listing_names_the_tables_that_it_shows() {
    let address = start(&fixture("tags"), &[]).await;
    let tags = "Surrogate-Key: housing.property housing.agent housing.office housing.location\r\n";
    for path in ["live/naive/", "live/optimized/", "cached/", "cached/?page=2"] {
        assert!(get(address, &format!("/api/properties/{path}")).await.contains(tags), "{path}");
    }
    assert!(!get(address, "/api/properties/cached/?page=99").await.contains("Surrogate-Key"));
}
