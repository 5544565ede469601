//! The command line.

use std::collections::BTreeSet;

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Django's cache_page as a reverse caching proxy.
///
/// The proxy stores the pages that match a rule and passes every other request to the origin. The headers X-Cache and
/// Cache-Status of each answer say what it did.
#[derive(Debug, Default, Parser)]
#[command(
    name = "proxy",
    version = env!("CACHEPAGE_VERSION"),
    max_term_width = 100,
    after_help = "Flags win over the environment, the environment over the file, the file over the defaults.\n\
                  PROXY_CACHE holds any number of rules, with blanks or commas between them.\n\
                  The file has further settings: deadlines, limits, the near cache, more for each rule, and the Django\n\
                  that shares the cache. docs/settings.md lists them all.\n\
                  RUST_LOG sets what is logged; RUST_LOG=debug logs a line for each request.\n\n\
                  Example:\n  \
                  proxy --origin http://127.0.0.1:8001 --cache /api/properties/cached/=60 --cache '/blog/*=300'\n  \
                  PROXY_CACHE='/blog/drafts/*=off,/blog/*=300' proxy"
)]
pub struct Args {
    /// A command to run instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Settings in TOML; docs/settings.md lists them all
    #[arg(long, global = true, value_name = "FILE", env = "PROXY_CONFIG", hide_env_values = true)]
    pub config: Option<String>,

    /// Address or unix:FILE to listen on; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS:PORT|unix:FILE",
        env = "PROXY_LISTEN",
        hide_env_values = true
    )]
    pub listen: Option<String>,

    /// Socket file through which the next proxy takes over the port; no connection is lost
    #[arg(long, global = true, value_name = "FILE", env = "PROXY_TAKEOVER", hide_env_values = true)]
    pub takeover: Option<String>,

    /// Service whose pages are cached: http://, https:// or unix:/FILE [default: http://127.0.0.1:8001]
    #[arg(long, global = true, value_name = "URL", env = "PROXY_ORIGIN", hide_env_values = true)]
    pub origin: Option<String>,

    /// Where pages are kept: memory, or redis://, rediss:// (with TLS), unix://, redis-sentinel:// or redis-cluster:// [default: redis://127.0.0.1:6379/1]
    #[arg(long, global = true, value_name = "URL|memory", env = "REDIS_URL", hide_env_values = true)]
    pub store: Option<String>,

    /// How keys are made: readable, or those of a Django that shares the cache (the file has a section for it) [default: path]
    #[arg(long, global = true, value_name = "path|django", env = "PROXY_KEYS", hide_env_values = true)]
    pub keys: Option<String>,

    /// Host whose pages have the plain keys, without the Host in them [default: localhost and the listening port]
    #[arg(long, global = true, value_name = "HOST[:PORT]", env = "PROXY_SITE", hide_env_values = true)]
    pub site: Option<String>,

    /// Addresses or networks of proxies in front, such as nginx; their X-Forwarded headers are believed. Commas separate them
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS|NETWORK,...",
        env = "PROXY_TRUSTED_PROXIES",
        hide_env_values = true
    )]
    pub trusted_proxies: Option<String>,

    /// Address or unix:FILE of the listener for operators: health, metrics, status [default: off]
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS:PORT|unix:FILE",
        env = "PROXY_ADMIN",
        hide_env_values = true
    )]
    pub admin: Option<String>,

    /// Where a line is written for each request; the file sets its format [default: off]
    #[arg(
        long,
        global = true,
        value_name = "off|stdout|stderr|FILE",
        env = "PROXY_ACCESS_LOG",
        hide_env_values = true
    )]
    pub access_log: Option<String>,

    /// A path to cache, and for how long (60 seconds by default) or off; a trailing * makes it a prefix. Repeatable, the
    /// first match counts; these rules come before those of the file
    #[arg(
        long,
        global = true,
        value_name = "PATH[=SECONDS|=off]",
        env = "PROXY_CACHE",
        hide_env_values = true
    )]
    pub cache: Vec<String>,

    /// The names of those that come from the environment
    #[arg(skip)]
    pub from_environment: BTreeSet<String>,
}

impl Args {
    /// Reads the command line and the environment. Ends the program if they cannot be read, or ask for help.
    pub fn read() -> Self {
        let matches = Self::command().get_matches();
        let is_variable = |name: &&str| matches.value_source(name) == Some(ValueSource::EnvVariable);
        let from_environment =
            matches.ids().map(clap::Id::as_str).filter(is_variable).map(str::to_owned).collect();
        let args = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        Self { from_environment, ..args }
    }

    /// Where an argument that is given comes from.
    pub(crate) fn source(&self, name: &str) -> &'static str {
        if self.from_environment.contains(name) { "environment" } else { "flag" }
    }
}

/// The commands besides serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Say what the proxy would do with a request, and why: its rule, its keys, what is stored under them. Only reads
    Explain(Explain),
    /// Check the settings as the start does, and print what they mean. Exits with 2 if they have faults
    Check(Check),
    /// Drop pages from the cache of the whole fleet. Asks the admin listener of the proxy that runs here
    Purge(PurgePages),
    /// Have the proxy that runs here read its settings anew. If they have faults, nothing changes, and the exit status is 2
    Reload,
    /// Ask the proxy that runs here whether it answers, and exit with 0 or 1. Neither the origin nor the store is asked
    Health,
    /// Write a first file of settings, from a Django project (--django) or from some pages of the origin
    Init(Init),
    /// Have the proxy that runs here fetch pages before visitors ask for them
    Warm(Warm),
    /// Read access logs, and say what a cache would bring: hits, the origin's time, memory, for several timeouts
    Forecast(Forecast),
}

/// Logs to forecast from.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Reads combined lines (nginx, Apache, gunicorn, this proxy) and lines of JSON, also from gzip. The rules \
                  are those of the settings; without any, the forecast proposes some. The log is read as if no cache had \
                  been there. Memory is bounded, however long it is.\n\nExamples:\n  \
                  proxy forecast /var/log/nginx/access.log*\n  \
                  zcat access.log.*.gz | proxy forecast --cache '/blog/*=300' --timeout 60 --html forecast.html -"
)]
pub struct Forecast {
    /// Access logs, the oldest first; - is standard input
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<String>,

    /// A timeout to compare, in seconds; repeatable [default: 10, 60, 300, 3600, and those of the rules]
    #[arg(long = "timeout", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub timeouts: Vec<u64>,

    /// How many paths are listed
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub top: usize,

    /// Write the forecast as an HTML page, too
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The pages to purge.
#[derive(Clone, Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("pages").required(true).multiple(true),
    after_help = "A URL stands for all variants of its page and, without a query, for every query. Takes the same settings as the proxy \
                  itself.\n\nExample:\n  proxy --admin 127.0.0.1:8002 purge --tag product-42 https://www.example.com/blog/"
)]
pub struct PurgePages {
    /// URLs; a path alone means the site
    #[arg(value_name = "URL", group = "pages")]
    pub urls: Vec<String>,

    /// The beginning of URLs; repeatable
    #[arg(long = "prefix", value_name = "URL", group = "pages")]
    pub prefixes: Vec<String>,

    /// All pages of a host; repeatable
    #[arg(long = "host", value_name = "HOST", group = "pages")]
    pub hosts: Vec<String>,

    /// All pages with a tag; repeatable
    #[arg(long = "tag", value_name = "TAG", group = "pages")]
    pub tags: Vec<String>,

    /// Every page
    #[arg(long, group = "pages")]
    pub all: bool,

    /// The pages are only past their time: grace and stale_if_error may still serve them
    #[arg(long)]
    pub soft: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How the settings are printed.
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A request to explain.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Reads the store, never asks the origin. Takes the same settings as the proxy itself.\n\nExample:\n  \
                  proxy --config cachepage.toml explain -H 'Accept: text/html' http://localhost:8000/blog/?page=2"
)]
pub struct Explain {
    /// The URL of the request; its host is part of the key. A path alone means the site
    #[arg(value_name = "URL")]
    pub url: String,

    /// A header of the request; repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// The content of a QUERY; without it the request is a GET
    #[arg(long, value_name = "CONTENT")]
    pub query: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Pages to ask for.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 if every page came, 1 if one did not, 2 if an argument cannot be read.\n\n\
                  Example:\n  proxy warm https://www.example.com/sitemap.xml"
)]
pub struct Warm {
    /// Pages, sitemaps (URLs that end with .xml) and files that hold sitemaps
    #[arg(value_name = "URL|FILE", required = true)]
    pub urls: Vec<String>,

    /// Pages asked for at once
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
    pub at_once: u8,

    /// Pages asked for in a second, at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub per_second: u32,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A file of settings to write.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Without --django the pages of --origin are asked for.\n\nExample:\n  \
                        proxy init --django ~/shop/manage.py --python ~/shop/.venv/bin/python")]
pub struct Init {
    /// manage.py of a Django project
    #[arg(long, value_name = "MANAGE.PY")]
    pub django: Option<PathBuf>,

    /// Interpreter of the project [default: that of the active environment, or of .venv, venv or env beside manage.py]
    #[arg(long, value_name = "FILE", requires = "django")]
    pub python: Option<PathBuf>,

    /// File to write; - is standard output
    #[arg(long, value_name = "FILE", default_value = "cachepage.toml")]
    pub output: PathBuf,

    /// Write the file anew if it is there
    #[arg(long)]
    pub replace: bool,
}
