//! Finds programs, and installs missing ones where that is allowed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::StackError;

/// A server with its client programs, and how to get them.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    /// The programs that are needed, all in one folder.
    pub(super) programs: &'static [&'static str],
    /// Folders to search after PATH. `*` stands for a version; the newest version comes first.
    pub(super) folders: &'static [&'static str],
    /// The name of the package in Debian and Ubuntu.
    pub(super) debian: &'static str,
    /// The command that a user can type to install it.
    pub(super) command: &'static str,
}

pub(super) const POSTGRES: Package = Package {
    name: "PostgreSQL",
    programs: &["postgres", "initdb", "psql"],
    folders: &[
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/usr/local/pgsql/bin",
        "/opt/homebrew/opt/postgresql*/bin",
        "/usr/local/opt/postgresql*/bin",
    ],
    debian: "postgresql",
    command: if cfg!(target_os = "macos") {
        "brew install postgresql@17"
    } else {
        "sudo apt-get install postgresql"
    },
};

pub(super) const REDIS: Package = Package {
    name: "Redis",
    programs: &["redis-server", "redis-cli"],
    folders: &["/usr/local/bin", "/opt/homebrew/opt/redis/bin", "/usr/local/opt/redis/bin"],
    debian: "redis-server",
    command: if cfg!(target_os = "macos") {
        "brew install redis"
    } else {
        "sudo apt-get install redis-server"
    },
};

/// Debian 12 has no package of Valkey. The folder of its programs may be in PATH.
pub(super) const VALKEY: Package = Package {
    name: "Valkey",
    programs: &["valkey-server", "valkey-cli"],
    folders: &["/usr/local/bin", "/opt/homebrew/opt/valkey/bin", "/usr/local/opt/valkey/bin"],
    debian: "valkey-server",
    command: if cfg!(target_os = "macos") {
        "brew install valkey"
    } else {
        "sudo apt-get install valkey-server valkey-tools"
    },
};

impl Package {
    /// The folder of its programs. If they are missing and installing is allowed, installs them.
    pub(super) fn folder(&self) -> Result<PathBuf, StackError> {
        if let Some(folder) = self.find() {
            return Ok(folder);
        }
        self.install().map_err(|why| StackError::Missing { what: self.name, why, command: self.command })?;
        let why = || format!("{} is not there after the installation", self.programs.join(", "));
        self.find().ok_or_else(|| StackError::Missing { what: self.name, why: why(), command: self.command })
    }

    pub(super) fn find(&self) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let usual = self.folders.iter().flat_map(|pattern| expand(pattern));
        env::split_paths(&path)
            .chain(usual)
            .find(|folder| self.programs.iter().all(|program| folder.join(program).is_file()))
    }

    fn install(&self) -> Result<(), String> {
        if !Path::new("/usr/bin/apt-get").exists() {
            return Err("it can be installed automatically only on Debian and Ubuntu".to_owned());
        }
        if !is_root() && env::var_os("CI").is_none() {
            return Err("it can be installed automatically only by root (or in CI)".to_owned());
        }
        say(&format!("{} is missing: installing it with apt-get", self.name));
        apt_get(&["update", "-qq"])?;
        apt_get(&["install", "-y", "-qq", "--no-install-recommends", self.debian])
    }
}

fn apt_get(args: &[&str]) -> Result<(), String> {
    let mut command = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
    if !is_root() {
        command.args(["-n", "apt-get"]);
    }
    // apt-get waits for the lock, since another run may be installing at this moment.
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
    let output = command.output().map_err(|error| format!("apt-get cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("apt-get {} failed: {}", args.join(" "), text.trim().lines().last().unwrap_or_default()))
}

/// Prints progress on standard error, since an installation takes a while.
#[allow(clippy::print_stderr, reason = "progress for a person")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// The folders that match a pattern with one `*`, the highest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let names = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort_by_key(|name| std::cmp::Reverse(version(name)));
    names.into_iter().map(|name| PathBuf::from(format!("{parent}/{name}{after}"))).collect()
}

fn version(name: &str) -> u32 {
    name.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// A user to run a program as.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// The user for PostgreSQL, which refuses to run as root; `None` if this process is not root.
    pub(super) fn for_postgres() -> Option<Self> {
        let users = fs::read_to_string("/etc/passwd").ok().filter(|_| is_root())?;
        ["postgres", "nobody"].iter().find_map(|name| Self::named(name, &users))
    }

    fn named(name: &str, users: &str) -> Option<Self> {
        let fields: Vec<_> =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line[0] == name)?;
        Some(Self { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
