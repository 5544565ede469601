//! The database of the listings, in a private PostgreSQL or the user's.

use std::path::Path;
use std::time::{Duration, Instant};

use stack::{Postgres, Program, StackError};
use tokio::task::spawn_blocking;

use super::error::LabError;

/// The name of the database in the private server.
const NAME: &str = "housing";

/// The database of the listings.
#[derive(Debug)]
pub(crate) struct Database {
    url: String,
    /// The server, if it is private.
    server: Option<Postgres>,
}

impl Database {
    pub(crate) async fn find(given: Option<&str>) -> Result<Self, LabError> {
        if let Some(url) = given {
            println!("Using the PostgreSQL of DATABASE_URL.");
            return Ok(Self { url: url.to_owned(), server: None });
        }
        println!("Starting a private PostgreSQL.");
        // This runs on another thread, so that a signal can stop the demo meanwhile.
        Ok(spawn_blocking(Self::start).await??)
    }

    fn start() -> Result<Self, StackError> {
        let server = Postgres::start()?;
        Ok(Self { url: server.database(NAME)?, server: Some(server) })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_private(&self) -> bool {
        self.server.is_some()
    }

    pub(crate) fn program(&mut self) -> Option<&mut Program> {
        self.server.as_mut().map(Postgres::program)
    }

    /// How to reach the database. The user's URL is not shown, since it may hold a password.
    pub(crate) fn hint(&self) -> String {
        let url = if self.server.is_some() { &self.url } else { "\"$DATABASE_URL\"" };
        format!("  psql {url} -f bench/explain.sql")
    }

    /// The log of a private server.
    pub(crate) fn log(&self) -> Option<&Path> {
        self.server.as_ref().map(Postgres::log)
    }

    /// Makes a private server log `all` statements from now on, or `none`: under load, the log would fill the disk.
    pub(crate) fn log_statements(&self, wanted: &str) -> Result<(), StackError> {
        self.server.as_ref().map_or(Ok(()), |server| log_statements(server, &self.url, wanted))
    }

    /// Runs SQL on a private server and returns the output.
    pub(crate) fn psql(&self, sql: &str) -> Result<String, LabError> {
        let server = self.server.as_ref().ok_or(LabError::Foreign("PostgreSQL"))?;
        Ok(server.psql(&self.url, sql)?)
    }

    /// The server's version: `17.5`.
    pub(crate) fn version(&self) -> Result<String, LabError> {
        let version = self.psql("SHOW server_version")?;
        Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// The number of statements that a private server has logged, without the empty ones of a pool that tests its
    /// connections.
    pub(crate) fn statements(&self) -> Option<usize> {
        let statements = self.server.as_ref()?.statements(NAME);
        Some(statements.iter().filter(|sql| !sql.trim().is_empty()).count())
    }
}

/// Changes the setting of the whole server, so that open connections follow it, too.
fn log_statements(server: &Postgres, url: &str, wanted: &str) -> Result<(), StackError> {
    const DEADLINE: Duration = Duration::from_secs(5);
    server.psql(url, &format!("ALTER SYSTEM SET log_statement = '{wanted}';\nSELECT pg_reload_conf()"))?;
    let started = Instant::now();
    // The server reads the setting a moment later. New connections show when it has.
    while server.psql(url, "SHOW log_statement")? != wanted {
        if started.elapsed() > DEADLINE {
            let output = format!("log_statement is still not {wanted}");
            return Err(StackError::Command { command: "pg_reload_conf".to_owned(), output });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_while_they_are_logged() {
        let database = Database::start().unwrap();
        let server = database.server.as_ref().unwrap();
        database.log_statements("all").unwrap();
        let before = database.statements().unwrap();
        server.psql(database.url(), "SELECT 'one';\nSELECT 'two'").unwrap();
        assert_eq!(database.statements().unwrap() - before, 2);
        database.log_statements("none").unwrap();
        let before = database.statements().unwrap();
        server.psql(database.url(), "SELECT 'unseen'").unwrap();
        assert_eq!(database.statements().unwrap(), before);
    }
}
