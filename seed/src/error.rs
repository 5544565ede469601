//! Errors of the database. Each message names the database and says how to solve the problem.

use std::error::Error as _;
use std::fmt;
use std::io;

use bb8_postgres::tokio_postgres::config::Host;
use bb8_postgres::tokio_postgres::error::{DbError, SqlState};
use bb8_postgres::tokio_postgres::{self, Config};

/// The database in the form that messages show, without the password.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    host: String,
    port: u16,
    database: String,
    user: String,
}

/// Why a load failed.
#[derive(Debug)]
pub enum Error {
    /// The connection could not be made.
    Connect {
        /// The database.
        target: Target,
        /// The error of the client.
        source: tokio_postgres::Error,
    },
    /// An existing table differs from the wanted one.
    Shape {
        /// The database.
        target: Target,
        /// All differences.
        differences: Vec<String>,
    },
    /// A statement failed, or the connection was lost.
    Database {
        /// The database.
        target: Target,
        /// The step that failed.
        doing: &'static str,
        /// The error of the client.
        source: tokio_postgres::Error,
    },
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Database { source, .. } => Some(source),
            Self::Shape { .. } => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { target, source } => {
                write!(
                    f,
                    "cannot connect to {target}: {}\n{}",
                    cause(source),
                    connection_advice(target, source)
                )
            }
            Self::Shape { target, differences } => {
                write!(
                    f,
                    "{target} has different tables with these names: {}\nuse another database, or drop them",
                    differences.join("; ")
                )
            }
            Self::Database { target, doing, source } => {
                write!(f, "{doing} failed at {target}: {}\n{}", cause(source), advice(target, source))
            }
        }
    }
}

impl Target {
    /// Describes the first host of the settings. Without a user name, user and database are those of the system's user.
    pub fn of(config: &Config) -> Self {
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        };
        let user = config.get_user().unwrap_or("(you)").to_owned();
        Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            database: config.get_dbname().unwrap_or(&user).to_owned(),
            user,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL on {} port {}, database {}", self.host, self.port, self.database)
    }
}

fn connection_advice(target: &Target, error: &tokio_postgres::Error) -> String {
    let Target { host, port, database, user } = target;
    match error.code() {
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
            format!("create it with: createdb -h {host} -p {port} -U {user} {database}")
        }
        Some(_) => format!("check user ({user}) and password in --database-url (DATABASE_URL)"),
        None if is_io(error) => format!("is it running there? check with: pg_isready -h {host} -p {port}"),
        None => "check --database-url (DATABASE_URL)".to_owned(),
    }
}

fn advice(target: &Target, error: &tokio_postgres::Error) -> String {
    match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => format!(
            "{} must own the tables, or be allowed to create tables in the schema; connect as their owner, or: \
             ALTER DATABASE {} OWNER TO {}",
            target.user, target.database, target.user
        ),
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
            "another session uses the tables; end its transaction and try again".to_owned()
        }
        Some(_) => "fix that and try again".to_owned(),
        None => "try again when PostgreSQL is back".to_owned(),
    }
}

/// PostgreSQL's message, or the innermost error of the client.
fn cause(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let more = [said.detail(), said.hint()].into_iter().flatten().map(|text| format!(" ({text})"));
        return DbError::message(said).to_owned() + &more.collect::<String>();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<io::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_never_shows_the_password() {
        for (url, target) in [
            ("postgres://u:secret@h:5433/d", "PostgreSQL on h port 5433, database d"),
            ("postgres://u:secret@h", "PostgreSQL on h port 5432, database u"),
            ("postgres://u:secret@/d?host=/run/pg", "PostgreSQL on /run/pg port 5432, database d"),
        ] {
            assert_eq!(Target::of(&url.parse().unwrap()).to_string(), target);
        }
    }
}
