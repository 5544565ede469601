//! The command line, parsed once. All faults are reported together, each with its flag and variable.

use std::fmt;
use std::time::Duration;

use bb8_postgres::tokio_postgres;
use clap::Parser;

use crate::generate::MAX_PROPERTIES;
use crate::schema::Indexes;

/// How long to wait for a connection, unless the URL sets `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates and fills the tables of the listings in PostgreSQL.
///
/// The same seed gives the same rows on any machine. Existing rows are replaced in one transaction: if seed is
/// interrupted, the old rows stay. Tables that Django's migrate has created are used as they are.
#[derive(Debug, Default, Parser)]
#[command(
    name = "seed",
    version,
    max_term_width = 100,
    after_help = "Flags override the environment, which overrides the defaults.\n\n\
                  Example:\n  \
                  seed --database-url postgres://postgres@127.0.0.1:5432/housing --indexes optimized"
)]
pub struct Args {
    /// Database to fill, which must exist
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Number of properties [default: 5000]
    #[arg(long, value_name = "NUMBER", env = "SEED_PROPERTIES", hide_env_values = true)]
    pub properties: Option<String>,

    /// Seed of the random rows: another number gives other rows [default: 42]
    #[arg(long, value_name = "NUMBER", env = "SEED_SEED", hide_env_values = true)]
    pub seed: Option<String>,

    /// Indexes besides the primary keys: none, django (foreign keys) or optimized (also created_at) [default: none]
    #[arg(long, value_name = "none|django|optimized", env = "SEED_INDEXES", hide_env_values = true)]
    pub indexes: Option<String>,

    /// Leave the tables alone if one of them has rows
    #[arg(long, env = "SEED_IF_EMPTY", hide_env_values = true)]
    pub if_empty: bool,

    /// Notify the channel cachepage of each change from now on, for those that listen there. A later load keeps
    /// this
    #[arg(long, env = "SEED_FOLLOW", hide_env_values = true)]
    pub follow: bool,
}

/// The settings of a load.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database.
    pub database: tokio_postgres::Config,
    /// The number of properties.
    pub properties: u64,
    /// The seed of the random rows.
    pub seed: u64,
    /// The indexes besides the primary keys.
    pub indexes: Indexes,
    /// Whether existing rows stay.
    pub if_empty: bool,
    /// Whether changes are notified from now on.
    pub follow: bool,
}

/// All faults of the command line.
#[derive(Debug, PartialEq, thiserror::Error)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Config {
    /// Parses the arguments and fills in the defaults.
    pub fn parse(args: &Args) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut note = |place: &str, fault: String| faults.push(format!("{place}: {fault}"));
        let database = database(args.database_url.as_deref())
            .map_err(|fault| note("--database-url (DATABASE_URL)", fault));
        let properties = number(args.properties.as_deref(), 5_000, MAX_PROPERTIES)
            .map_err(|fault| note("--properties (SEED_PROPERTIES)", fault));
        let seed =
            number(args.seed.as_deref(), 42, u64::MAX).map_err(|fault| note("--seed (SEED_SEED)", fault));
        let indexes =
            indexes(args.indexes.as_deref()).map_err(|fault| note("--indexes (SEED_INDEXES)", fault));
        match (database, properties, seed, indexes) {
            (Ok(database), Ok(properties), Ok(seed), Ok(indexes)) => {
                let Args { if_empty, follow, .. } = *args;
                Ok(Self { database, properties, seed, indexes, if_empty, follow })
            }
            _ => Err(Faults(faults)),
        }
    }
}

/// The message repeats neither the URL nor the parser's error, because either may contain the password.
fn database(url: Option<&str>) -> Result<tokio_postgres::Config, String> {
    const LIKE: &str = "postgres://user:password@127.0.0.1:5432/housing";
    let url = url.ok_or(format!("missing; give a URL like {LIKE}"))?;
    let fault = || format!("not a URL like {LIKE} (in a password, write %2F for / and %40 for @)");
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(fault());
    }
    let mut config: tokio_postgres::Config = url.parse().map_err(|_| fault())?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".to_owned());
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("seed");
    }
    Ok(config)
}

fn number(text: Option<&str>, default: u64, most: u64) -> Result<u64, String> {
    let Some(text) = text else { return Ok(default) };
    match text.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(format!("{text:?} is not a whole number from 0 to {most}")),
    }
}

fn indexes(text: Option<&str>) -> Result<Indexes, String> {
    let text = text.unwrap_or("none");
    text.parse().map_err(|()| format!("{text:?} is not one of none, django and optimized"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "postgres://u:secret@localhost:5433/housing";

    fn parse(url: &str, properties: &str, seed: &str, indexes: &str) -> Result<Config, Vec<String>> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let args = Args {
            database_url: given(url),
            properties: given(properties),
            seed: given(seed),
            indexes: given(indexes),
            ..Args::default()
        };
        Config::parse(&args).map_err(|Faults(faults)| faults)
    }

    #[test]
    fn missing_arguments_have_defaults() {
        let config = parse(URL, "", "", "").unwrap();
        assert_eq!((config.properties, config.seed, config.indexes), (5_000, 42, Indexes::None));
        assert_eq!(config.database.get_dbname(), Some("housing"));
    }

    #[test]
    fn given_arguments_override_the_defaults() {
        let config = parse(URL, "0", "18446744073709551615", "optimized").unwrap();
        assert_eq!((config.properties, config.seed, config.indexes), (0, u64::MAX, Indexes::Optimized));
    }

    #[test]
    fn faults_are_reported_together() {
        let faults = parse("mysql://u:secret@h/d", "abc", "-1", "foo").unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
        assert_eq!(
            places,
            [
                "--database-url (DATABASE_URL)",
                "--properties (SEED_PROPERTIES)",
                "--seed (SEED_SEED)",
                "--indexes (SEED_INDEXES)",
            ]
        );
    }

    #[test]
    fn no_fault_repeats_the_password() {
        for url in [
            "mysql://u:secret@h/d",
            "postgres://u:secret@h:port/d",
            "postgres://u:x@h/d?secret=1",
            "postgres://u:secret@/d",
            "secret",
        ] {
            let faults = parse(url, "", "", "").unwrap_err();
            assert_eq!(faults.len(), 1);
            assert!(!faults[0].contains("secret"), "{faults:?}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert!(parse(URL, "100000000", "", "").is_ok());
        for properties in ["100000001", "-1", "1.5", " ", "1e3"] {
            assert!(parse(URL, properties, "", "").is_err(), "{properties}");
        }
    }
}
