//! The database: a bounded pool of connections, and the only way to run queries.

use std::time::{Duration, Instant};

use bb8::{ErrorSink, Pool, PooledConnection, RunError};
use bb8_postgres::PostgresConnectionManager;
use bb8_postgres::tokio_postgres::{self, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tracing::{debug, warn};

use crate::config::Config;
use crate::error::Error;

type Manager = PostgresConnectionManager<NoTls>;

/// A pool of connections. It connects at the first request, so a database that is down causes 503s and nothing else.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool<Manager>,
}

impl Database {
    /// Makes the pool without connecting.
    pub fn new(config: &Config) -> Self {
        let mut database = config.database.clone();
        // Django sets its time zone by a query on each connection. Here it is an option of the connection.
        let before = database.get_options().unwrap_or_default();
        let options = format!("{before} -c TimeZone=UTC -c DateStyle=ISO");
        database.application_name("origin").options(options.trim_start());
        let pool = Pool::builder()
            .max_size(config.pool_size)
            .connection_timeout(config.pool_wait)
            // bb8's test would cost one more round trip a request; `connect` checks that a connection is open.
            .test_on_check_out(false)
            .error_sink(Box::new(Log))
            .build_unchecked(Manager::new(database, NoTls));
        Self { pool }
    }

    /// A session for one request. It takes a connection at its first query.
    pub(crate) fn session(&self) -> Session<'_> {
        Session { pool: &self.pool, connection: None, queries: 0, spent: Duration::ZERO }
    }
}

/// Logs why a connection failed: the pool retries, and the waiting request only learns that none came in time.
#[derive(Debug)]
struct Log;

impl ErrorSink<tokio_postgres::Error> for Log {
    fn sink(&self, error: tokio_postgres::Error) {
        warn!(error = Error::NoConnection(error.into()).chain(), "cannot connect");
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<tokio_postgres::Error>> {
        Box::new(Self)
    }
}

/// Runs the queries of one request on one connection, one after the other, and counts, times and logs them.
pub(crate) struct Session<'a> {
    pool: &'a Pool<Manager>,
    connection: Option<PooledConnection<'a, Manager>>,
    queries: usize,
    spent: Duration,
}

impl Session<'_> {
    /// Runs one query. Its values are part of its text and the answer is text, as with Django's psycopg, so that the
    /// server sees this one statement and nothing else.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<SimpleQueryRow>, Error> {
        if self.connection.is_none() {
            self.connection = Some(connect(self.pool).await?);
        }
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let started = Instant::now();
        let messages = connection.simple_query(sql).await;
        let spent = started.elapsed();
        self.queries += 1;
        self.spent += spent;
        debug!(target: "origin::sql", ms = spent.as_secs_f64() * 1000.0, "{sql}");
        Ok(messages?.into_iter().filter_map(row).collect())
    }

    /// The value of `Server-Timing` for the queries so far.
    pub(crate) fn timing(&self) -> String {
        let noun = if self.queries == 1 { "query" } else { "queries" };
        format!("db;dur={:.1};desc=\"{} {noun}\"", self.spent.as_secs_f64() * 1000.0, self.queries)
    }
}

fn row(message: SimpleQueryMessage) -> Option<SimpleQueryRow> {
    match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }
}

/// Takes an open connection. A connection that was closed while idle goes back to the pool, which replaces it.
async fn connect(pool: &Pool<Manager>) -> Result<PooledConnection<'_, Manager>, Error> {
    loop {
        let connection = pool.get().await.map_err(|error| match error {
            RunError::User(error) => Error::NoConnection(error.into()),
            RunError::TimedOut => Error::NoConnection("none in time".into()),
        })?;
        if !connection.is_closed() {
            return Ok(connection);
        }
    }
}
