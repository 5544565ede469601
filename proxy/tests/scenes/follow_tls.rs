//! Pages that follow a database over TLS: a real PostgreSQL that refuses connections without it.

use std::path::PathBuf;

use stack::Postgres;

use crate::follow::{Follower, tagged};
use crate::support::Origin;
use crate::tunnel::Authority;

/// The lines of the log of a proxy that hears a database, and of one that does not.
const HEARD: &str = " followed ";
const UNHEARD: &str = "the database is not followed: no connection";

/// A PostgreSQL with a certificate for `localhost`, and not for its address.
struct Database {
    postgres: Postgres,
    authority: Authority,
    /// The URL of a user with a password, whose host is the name in the certificate.
    url: String,
    origin: Origin,
}

impl Database {
    async fn start() -> Self {
        let (postgres, authority) = (Postgres::start().unwrap(), Authority::new());
        let url = postgres.database("shop").unwrap();
        postgres.psql(&url, "CREATE ROLE reader LOGIN PASSWORD 'secret'").unwrap();
        let pair = authority.issue(&["localhost"]);
        postgres.insist_on_tls(&pair.cert, &pair.key, "reader").unwrap();
        let url = url.replace("cachepage@127.0.0.1", "reader:secret@localhost");
        Self { postgres, authority, url, origin: tagged().await }
    }

    /// A proxy that connects with these options of the URL, and trusts the authorities of a file.
    fn follower(&self, options: &str, ca_file: Option<PathBuf>) -> Follower {
        let ca_file = ca_file.map(|file| format!("ca_file = {file:?}\n")).unwrap_or_default();
        Follower::start(self.origin.address, &format!("{}{options}", self.url), &ca_file)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_followed_over_tls() {
    let database = Database::start().await;
    let ca = database.authority.ca();
    for (options, ca_file) in [
        ("", None),
        ("?sslmode=require", None),
        // Checked at the password's exchange, too.
        ("?sslmode=require&channel_binding=require", Some(ca.clone())),
        ("?sslmode=verify-ca", Some(ca.clone())),
        ("?sslmode=verify-full", Some(ca.clone())),
        ("?sslmode=require&hostaddr=127.0.0.1", None),
    ] {
        let proxy = database.follower(options, ca_file);
        proxy.wait_for(HEARD);
        let page = proxy.stored("/a/").await;
        let connections = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                           WHERE application_name = 'cachepage'";
        let admin = database.url.replace("reader:secret", "cachepage");
        assert_eq!(database.postgres.psql(&admin, connections).unwrap(), "t", "{options}");
        database.postgres.psql(&admin, "NOTIFY cachepage, 'a'").unwrap();
        proxy.changed("/a/", &page).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_told_and_no_password_is_sent() {
    let database = Database::start().await;
    let (ca, others) = (database.authority.ca(), Authority::new());
    for (options, ca_file, why) in [
        ("?sslmode=disable", None, "no encryption"),
        ("?sslmode=verify-full", Some(others.ca()), "invalid peer certificate"),
        ("?sslmode=verify-ca", Some(others.ca()), "invalid peer certificate"),
        ("?sslmode=require", Some(others.ca()), "invalid peer certificate"),
    ] {
        let line = database.follower(options, ca_file).wait_for(UNHEARD);
        assert!(line.contains(why) && !line.contains("secret"), "{options}: {line}");
    }
    // The certificate is for another name, which only one mode checks.
    let by_address = |mode: &str| {
        let url = database.url.replace("localhost", "127.0.0.1");
        let ca_file = format!("ca_file = {ca:?}\n");
        Follower::start(database.origin.address, &format!("{url}?sslmode={mode}"), &ca_file)
    };
    by_address("verify-ca").wait_for(HEARD);
    let line = by_address("verify-full").wait_for(UNHEARD);
    assert!(line.contains("not valid for name"), "{line}");
    let plain = Postgres::shared().database("follow_plain").unwrap() + "?sslmode=require";
    let line = Follower::start(database.origin.address, &plain, "").wait_for(UNHEARD);
    assert!(line.contains("server does not support TLS"), "{line}");
}
