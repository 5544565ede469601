//! `proxy init`: a first file of settings, for a Django project or for any origin.

mod draft;
mod pages;
mod project;
mod rules;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::args::{Args, Init};
use crate::config::Config;
use project::Project;

/// A file that is not written yet.
#[derive(Debug)]
pub struct Drafted {
    /// Its text.
    pub text: String,
    /// How many rules are active.
    pub rules: usize,
    /// How many rules stand in comments.
    pub in_comments: usize,
    /// Notes for the user, to read before the file is used.
    pub notes: Vec<String>,
    /// The facts that the command could not find out.
    pub unseen: Vec<String>,
}

impl Drafted {
    /// Asks the project, or without one the origin.
    pub async fn of(args: &Args, asked: &Init, config: &Config) -> Result<Self, String> {
        match &asked.django {
            Some(manage) => Ok(draft::draft(&Project::ask(manage, asked.python.as_deref())?, args)),
            None => pages::draft(config, args).await,
        }
    }

    /// Writes the file. Other users may not read it, since it may hold passwords. `-` is standard output.
    pub fn write(&self, path: &Path, replace: bool) -> Result<(), String> {
        if path == Path::new("-") {
            return io::stdout().write_all(self.text.as_bytes()).map_err(|error| error.to_string());
        }
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600).create(true).truncate(true).create_new(!replace);
        let written = options.open(path).and_then(|mut file| file.write_all(self.text.as_bytes()));
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{} is there: --replace writes it anew, --output names another", path.display())
            }
            _ => format!("{}: {error}", path.display()),
        })
    }
}

/// The listener and the origin, if flags give them.
fn addresses(args: &Args) -> String {
    let line = |name: &str, given: Option<&str>, default: &str, note: &str| {
        format!("{name:6} = {}   # {note}\n", toml_text(given.unwrap_or(default)))
    };
    line("listen", args.listen.as_deref(), "127.0.0.1:8000", "the address of the proxy")
        + &line("origin", args.origin.as_deref(), "http://127.0.0.1:8001", "the address of the site")
        + "# With nginx, Caddy or a load balancer before the proxy (docs/tls.md), their addresses and the host of the visitors:\n\
           # trusted_proxies = [\"127.0.0.1\"]\n# site = \"www.example.com\"\n"
}

/// A text in TOML, where a string may be written as in JSON.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
