//! The database: a finite pool, and the one way for queries.

use std::time::{Duration, Instant};

use bb8::{ErrorSink, Pool, PooledConnection, RunError};
use bb8_postgres::PostgresConnectionManager;
use bb8_postgres::tokio_postgres::{self, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tracing::{debug, warn};

use crate::config::Config;
use crate::error::Error;

type Manager = PostgresConnectionManager<NoTls>;

/// A pool of connections. Connects when the first is needed: a database that is down makes 503s, and no more.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool<Manager>,
}

impl Database {
    /// A pool for these settings.
    pub fn new(config: &Config) -> Self {
        let mut database = config.database.clone();
        // Django sets its time zone by a query on each connection; here it comes with the connection.
        let before = database.get_options().unwrap_or_default();
        let options = format!("{before} -c TimeZone=UTC -c DateStyle=ISO");
        database.application_name("origin").options(options.trim_start());
        let pool = Pool::builder()
            .max_size(config.pool_size)
            .connection_timeout(config.pool_wait)
            // The test would be one more round trip a request; `Session` looks whether a connection is closed.
            .test_on_check_out(false)
            .error_sink(Box::new(Log))
            .build_unchecked(Manager::new(database, NoTls));
        Self { pool }
    }

    /// The queries of one request. Takes a connection with the first of them.
    pub(crate) fn session(&self) -> Session<'_> {
        Session { pool: &self.pool, connection: None, queries: 0, spent: Duration::ZERO }
    }
}

/// Logs why a connection failed: the pool tries again, and who waits for it hears only that there was none in time.
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

/// The queries of one request, all on one connection, one after the other. Counts, times and logs them.
pub(crate) struct Session<'a> {
    pool: &'a Pool<Manager>,
    connection: Option<PooledConnection<'a, Manager>>,
    queries: usize,
    spent: Duration,
}

impl Session<'_> {
    /// Runs one query. Its values stand in its text and its answer is text, as with Django's psycopg, so that the
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

    /// `Server-Timing` for what has been asked so far.
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

/// A living connection: what was closed while it lay in the pool goes back to be replaced.
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
