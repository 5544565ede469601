//! The settings. They are parsed once, and all faults are reported together.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bb8_postgres::tokio_postgres::Config as DatabaseConfig;
use clap::{Parser, Subcommand};

/// The property listings of the article, uncached, from PostgreSQL.
///
/// Serves /api/properties/live/naive/ (62 queries a page), /api/properties/live/optimized/ (2 queries),
/// /api/properties/cached/ (the naive list, for a cache to stand in front of) and /healthz.
#[derive(Debug, Parser)]
#[command(
    name = "origin",
    version,
    max_term_width = 100,
    after_help = "RUST_LOG sets what is logged; RUST_LOG=origin::sql=debug shows each query with its time.\n\n\
                  Example:\n  origin --database-url postgres://user:password@127.0.0.1:5432/housing_db"
)]
pub struct Args {
    /// A command to run instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address to listen on; port 0 takes a free one
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS:PORT",
        env = "ORIGIN_LISTEN",
        default_value = "127.0.0.1:8001",
        hide_env_values = true
    )]
    pub listen: String,

    /// Database of the listings; `seed` fills it
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DATABASE_URL",
        default_value = "postgres://user:password@127.0.0.1:5432/housing_db",
        hide_env_values = true
    )]
    pub database_url: String,

    /// Maximum number of connections to the database
    #[arg(
        long,
        global = true,
        value_name = "COUNT",
        env = "ORIGIN_POOL_SIZE",
        default_value = "10",
        hide_env_values = true
    )]
    pub pool_size: String,

    /// Seconds that a request waits for a connection before it is answered with 503
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        env = "ORIGIN_POOL_WAIT",
        default_value = "10",
        hide_env_values = true
    )]
    pub pool_wait: String,
}

/// The commands besides serving.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Ask the origin that runs here whether it answers, and exit with 0 or 1. The database is not asked
    Health,
}

/// The settings of an origin.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The database.
    pub database: DatabaseConfig,
    /// The maximum number of connections to it.
    pub pool_size: u32,
    /// How long a request waits for a connection.
    pub pool_wait: Duration,
}

/// All faults of the arguments.
#[derive(Debug, thiserror::Error)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Config {
    /// Parses the arguments.
    pub fn parse(args: &Args) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let listen = note(
            &mut faults,
            args.listen.parse().map_err(|_| {
                format!(
                    "--listen (ORIGIN_LISTEN): {:?} is not an address and port like 127.0.0.1:8001",
                    args.listen
                )
            }),
        );
        let database = note(&mut faults, database(&args.database_url));
        let pool_size = note(&mut faults, positive(&args.pool_size, "--pool-size (ORIGIN_POOL_SIZE)"));
        let pool_wait = note(&mut faults, positive(&args.pool_wait, "--pool-wait (ORIGIN_POOL_WAIT)"));
        match (listen, database, pool_size, pool_wait) {
            (Some(listen), Some(database), Some(pool_size), Some(seconds)) => {
                Ok(Self { listen, database, pool_size, pool_wait: Duration::from_secs(seconds.into()) })
            }
            _ => Err(Faults(faults)),
        }
    }
}

fn note<T>(faults: &mut Vec<String>, parsed: Result<T, String>) -> Option<T> {
    parsed.map_err(|fault| faults.push(fault)).ok()
}

/// The message does not repeat the URL, which may hold a password. The parser accepts a URL without a host, to which
/// no connection can be made.
fn database(url: &str) -> Result<DatabaseConfig, String> {
    let has_host =
        |config: &DatabaseConfig| !config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty();
    url.parse().ok().filter(has_host).ok_or_else(|| {
        "--database-url (DATABASE_URL): not a URL like postgres://user:password@127.0.0.1:5432/housing_db"
            .to_owned()
    })
}

fn positive(text: &str, name: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name}: {text:?} is not a number from 1 to {}", u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, Vec<String>> {
        let args = Args::try_parse_from(["origin"].iter().chain(args)).unwrap();
        Config::parse(&args).map_err(|faults| faults.0)
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = parse(&["--database-url", "postgres://u:p@h:1/d"]).unwrap();
        assert_eq!((config.listen.to_string().as_str(), config.pool_size), ("127.0.0.1:8001", 10));
    }

    #[test]
    fn all_faults_are_reported_at_once_without_the_password() {
        let faults = parse(&[
            "--listen",
            "x",
            "--database-url",
            "mysql://u:secret@h/d",
            "--pool-size",
            "0",
            "--pool-wait",
            "-",
        ]);
        let faults = faults.unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(!faults.concat().contains("secret"));
    }

    #[test]
    fn a_database_needs_a_host_and_numbers_have_bounds() {
        for (flag, value, good) in [
            ("--database-url", "postgres://u@h/d", true),
            ("--database-url", "host=h user=u", true),
            ("--database-url", "", false),
            ("--database-url", "postgres://", false),
            ("--database-url", "h/d", false),
            ("--pool-size", "1", true),
            ("--pool-size", "0", false),
            ("--pool-size", "4294967296", false),
            ("--pool-wait", "1.5", false),
        ] {
            assert_eq!(parse(&[flag, value]).is_ok(), good, "{flag} {value}");
        }
    }
}
