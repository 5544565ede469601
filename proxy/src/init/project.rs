//! Asks a Django project about itself, by its own interpreter and its own settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// The script that asks the questions.
const SCRIPT: &str = include_str!("project.py");

/// The line with the answers begins with this: a project may print lines of its own.
const MARK: &str = "cachepage-project ";

/// The answers of a project about itself.
#[derive(Debug, Deserialize)]
pub(super) struct Project {
    /// The release of Django.
    pub(super) django: String,
    /// The module of its settings.
    pub(super) settings: String,
    pub(super) views: Vec<ProjectView>,
    pub(super) caches: BTreeMap<String, Cache>,
    /// The cache of the whole site, by middleware.
    pub(super) site_wide: Option<CachePage>,
    pub(super) language: Option<String>,
    pub(super) languages: Vec<String>,
    pub(super) language_cookie: String,
    pub(super) time_zone: Option<String>,
    pub(super) script_name: String,
    pub(super) use_x_forwarded_host: bool,
    pub(super) hit_headers: BTreeMap<String, String>,
    pub(super) hsts: bool,
    /// Middleware that is not Django's.
    pub(super) middleware: Vec<String>,
    /// Parts of the project that the script does not understand.
    pub(super) unseen: Vec<String>,
}

/// A view and its path.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ProjectView {
    /// The text that its path begins with.
    pub(super) path: String,
    /// Whether this text is the whole path.
    pub(super) exact: bool,
    /// Its name.
    pub(super) view: String,
    pub(super) cached: Option<CachePage>,
    /// Whether it could be under `cache_page`.
    pub(super) cacheable: bool,
}

/// The options of a `cache_page`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct CachePage {
    pub(super) timeout: f64,
    pub(super) key_prefix: String,
    pub(super) cache: String,
}

/// A member of CACHES.
#[derive(Debug, Deserialize)]
pub(super) struct Cache {
    pub(super) backend: String,
    pub(super) is_redis: bool,
    pub(super) location: String,
    pub(super) key_prefix: String,
    pub(super) version: u32,
    pub(super) compressor: String,
    pub(super) serializer: String,
    pub(super) key_function: String,
}

impl Project {
    /// Runs `manage.py`.
    pub(super) fn ask(manage: &Path, python: Option<&Path>) -> Result<Self, String> {
        let manage = manage.canonicalize().map_err(|error| format!("{}: {error}", manage.display()))?;
        let folder = manage.parent().unwrap_or(Path::new("/"));
        let python = python.map_or_else(|| interpreter(folder), Path::to_owned);
        let mut command = Command::new(&python);
        command.arg(&manage).args(["shell", "-v", "0", "-c", SCRIPT]).current_dir(folder);
        let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output();
        let output =
            output.map_err(|error| format!("{}: {error}; --python names another", python.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.lines().rev().find_map(|line| line.strip_prefix(MARK)) {
            Some(json) => {
                serde_json::from_str(json).map_err(|error| format!("{}: {error}", manage.display()))
            }
            None => Err(failure(&python, &manage, &String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// The interpreter of the environment that is active, or that lies beside the project.
fn interpreter(folder: &Path) -> PathBuf {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let beside = [".venv", "venv", "env", "../.venv", "../venv"].map(|name| folder.join(name));
    let all = active.into_iter().chain(beside).map(|environment| environment.join("bin/python"));
    all.into_iter().find(|python| python.exists()).unwrap_or_else(|| PathBuf::from("python3"))
}

fn failure(python: &Path, manage: &Path, said: &str) -> String {
    let last = said.trim().lines().last().unwrap_or("it says nothing");
    format!(
        "{} {} shell does not answer: {last}; --python names the interpreter of the project",
        python.display(),
        manage.display()
    )
}
