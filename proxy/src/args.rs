//! The command line.

use clap::Parser;

/// Django's cache_page as a reverse caching proxy.
///
/// Clients ask the proxy; pages that a rule names are kept in the store, and everything else passes through to the
/// origin. Each answer says what happened in X-Cache and Cache-Status.
#[derive(Debug, Default, Parser)]
#[command(
    name = "proxy",
    version,
    max_term_width = 100,
    after_help = "Flags win over the environment, the environment over the file, the file over the defaults.\n\
                  RUST_LOG sets what is logged, for example RUST_LOG=debug for a line each request.\n\n\
                  Example:\n  \
                  proxy --origin http://127.0.0.1:8001 --cache /api/properties/cached/=60 --cache '/blog/*=300'"
)]
pub struct Args {
    /// Settings in TOML; README.md lists them all
    #[arg(long, value_name = "FILE", env = "PROXY_CONFIG", hide_env_values = true)]
    pub config: Option<String>,

    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT", env = "PROXY_LISTEN", hide_env_values = true)]
    pub listen: Option<String>,

    /// Service whose pages are cached [default: http://127.0.0.1:8001]
    #[arg(long, value_name = "URL", env = "PROXY_ORIGIN", hide_env_values = true)]
    pub origin: Option<String>,

    /// Where pages are kept: redis://, rediss://, unix:// or memory [default: redis://127.0.0.1:6379/1]
    #[arg(long, value_name = "URL|memory", env = "REDIS_URL", hide_env_values = true)]
    pub store: Option<String>,

    /// How keys are made: readable ones, or those of a Django that shares the cache ([django] in the file) [default: path]
    #[arg(long, value_name = "path|django", env = "PROXY_KEYS", hide_env_values = true)]
    pub keys: Option<String>,

    /// Host whose pages have plain keys [default: localhost and the listening port]
    #[arg(long, value_name = "HOST[:PORT]", env = "PROXY_SITE", hide_env_values = true)]
    pub site: Option<String>,

    /// A path to cache, and for how long; a trailing * makes it a prefix, 60 seconds are the default. Repeatable;
    /// goes before the rules of the file
    #[arg(
        long,
        value_name = "PATH[=SECONDS]",
        env = "PROXY_CACHE",
        value_delimiter = ' ',
        hide_env_values = true
    )]
    pub cache: Vec<String>,
}
