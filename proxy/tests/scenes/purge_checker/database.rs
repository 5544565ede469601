//! The versions of pages in a PostgreSQL, and how it tells of their changes.

use std::time::Duration;

use bb8_postgres::tokio_postgres::{Client, NoTls, connect};
use rand::RngExt as _;
use stack::Postgres;

use super::PAGES;
use super::floors::Named;

/// A trigger notifies as the transaction says.
const TABLE: &str = "
    CREATE TABLE page (number int PRIMARY KEY, version bigint NOT NULL, told text NOT NULL);
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('cachepage', NEW.told); RETURN NULL; END $$;
    CREATE TRIGGER tell AFTER UPDATE ON page FOR EACH ROW EXECUTE FUNCTION tell();";

/// Ends this many connections of proxies.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM
    (SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'cachepage' ORDER BY random() LIMIT $1) AS chosen";

pub(super) struct Database {
    url: String,
    reads: Client,
    /// By page.
    writes: Vec<Client>,
}

impl Database {
    /// A database of this name, in which each page has version 0.
    pub(super) async fn new(name: &str) -> Self {
        let url = Postgres::shared().database(name).unwrap();
        let (reads, mut writes) = (client(&url).await, Vec::new());
        reads.batch_execute(TABLE).await.unwrap();
        for number in 0..PAGES {
            reads.batch_execute(&format!("INSERT INTO page VALUES ({number}, 0, '')")).await.unwrap();
            writes.push(client(&url).await);
        }
        Self { url, reads, writes }
    }

    /// The setting of proxies that follow it. Without their connections, they serve a page for so long.
    pub(super) fn settings(&self, on_loss: Duration) -> String {
        format!("[[follow]]\ndatabase = \"{}\"\non_loss = \"{}ms\"\n", self.url, on_loss.as_millis())
    }

    pub(super) async fn version(&self, number: usize) -> u64 {
        let number = i32::try_from(number).unwrap();
        let row = self.reads.query_one("SELECT version FROM page WHERE number = $1", &[&number]).await;
        row.unwrap().get::<_, i64>(0).try_into().unwrap()
    }

    /// Commits a new version of a page, and notifies with this payload.
    pub(super) async fn commit(&self, number: usize, version: u64, payload: &str) {
        let pause = if rand::rng().random_ratio(1, 4) { "SELECT pg_sleep(0.02);" } else { "" };
        let update =
            format!("UPDATE page SET version = {version}, told = '{payload}' WHERE number = {number};");
        self.writes[number].batch_execute(&format!("BEGIN; {update} {pause} COMMIT")).await.unwrap();
    }

    /// Cuts connections of proxies, so many at most.
    pub(super) async fn cut(&self, count: i64) {
        self.reads.execute(CUT, &[&count]).await.unwrap();
    }
}

async fn client(url: &str) -> Client {
    let (client, connection) = connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A payload that names a page in any way, with one more tag, and what it names.
pub(super) fn payload(number: usize, tag: &str) -> (String, Named) {
    let page = format!("http://localhost:8000/p/{number}");
    let json = |names: &str| format!("{{\"tags\":[\"{tag}\"],{names}}}");
    match rand::rng().random_range(0..20) {
        // It cannot be read, so it may mean any page.
        0 => ("{".to_owned(), Named::All),
        1..4 => (json(&format!("\"prefixes\":[\"{page}\"]")), Named::Both(number)),
        4..7 => (json(&format!("\"urls\":[\"{page}\"]")), Named::Both(number)),
        7..10 => (json(&format!("\"urls\":[\"{page}?x\"]")), Named::Query(number)),
        10..13 => (format!("{{\"tags\":[\"{tag}\",\"page-{number}\"],\"soft\":true}}"), Named::Both(number)),
        _ => (format!("{tag} page-{number}"), Named::Both(number)),
    }
}
