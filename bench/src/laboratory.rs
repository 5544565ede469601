//! The laboratory: all servers from PostgreSQL to the proxy, and what PostgreSQL and Redis saw of the requests.
//!
//! `programs` builds origin, proxy and seed; `database` and `pages` find or start PostgreSQL and Redis; `server` starts
//! origin and proxy. Dropping the laboratory ends its programs in order.

mod database;
mod error;
mod pages;
mod programs;
mod redis_witness;
mod server;

use std::ffi::OsStr;

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::database::Database;
pub(crate) use self::error::LabError;
pub(crate) use self::pages::{Pages, StoreKind};
use self::programs::Programs;
pub(crate) use self::redis_witness::RedisWitness;
pub(crate) use self::server::Server;
use crate::load::{Target, TargetError};
use crate::site::CACHED;
use crate::tables::Indexes;

/// How to set up a laboratory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) properties: usize,
    pub(crate) indexes: Indexes,
    /// The ports of proxy and origin; a port that is busy or 0 is replaced by a free one.
    pub(crate) ports: (u16, u16),
    /// The port of the proxy's admin listener, likewise; `None` leaves it off.
    pub(crate) admin: Option<u16>,
    /// How many seconds the cached pages are kept; `None` means 60, as in the article.
    pub(crate) kept: Option<u32>,
    /// Whether the cached pages follow the database, if it is private.
    pub(crate) follows: bool,
    /// `None` means Redis if it is available, else memory.
    pub(crate) store: Option<StoreKind>,
    /// The user's own servers, instead of private ones.
    pub(crate) database_url: Option<String>,
    pub(crate) redis_url: Option<String>,
}

/// The running programs. Fields are dropped from top to bottom, so each client ends before its server.
#[derive(Debug)]
pub(crate) struct Laboratory {
    proxy: Server,
    /// The port of the proxy's admin listener, if there is one.
    admin: Option<u16>,
    /// Whether the cached pages follow the database.
    pub(crate) follows: bool,
    origin: Server,
    programs: Programs,
    pub(crate) pages: Pages,
    pub(crate) database: Database,
}

impl Laboratory {
    /// Builds, fills and starts everything, and prints each step.
    pub(crate) async fn set_up(setup: &Setup) -> Result<Self, LabError> {
        Self::start(Programs::build().await?, setup).await
    }

    /// Starts another laboratory, with the same programs and servers of its own.
    pub(crate) async fn another(&self, setup: &Setup) -> Result<Self, LabError> {
        Self::start(self.programs.clone(), setup).await
    }

    async fn start(programs: Programs, setup: &Setup) -> Result<Self, LabError> {
        let database = Database::find(setup.database_url.as_deref()).await?;
        let pages = Pages::find(setup).await?;
        println!("Filling the database with {} properties.", setup.properties);
        let follows = setup.follows && database.is_private();
        seed(&programs, &database, setup.properties, setup.indexes, follows).await?;
        database.log_statements("all")?;
        let origin = Server::start("origin", setup.ports.1, &programs.path("origin"), |origin, _| {
            Ok(origin.env("DATABASE_URL", database.url()))
        })
        .await?;
        let mut proxy =
            Server::start("proxy", setup.ports.0, &programs.path("proxy"), |mut proxy, folder| {
                let origin = format!("http://127.0.0.1:{}", origin.port);
                let rule = format!("{}={}", CACHED.path, setup.kept.unwrap_or(60));
                proxy = proxy.args(["--origin", &origin, "--cache", &rule]).env("REDIS_URL", &pages.url());
                if let Some(port) = setup.admin {
                    proxy = proxy.args(["--admin", &server::address(port)]);
                }
                if follows {
                    let file = folder.join("cachepage.toml");
                    std::fs::write(&file, format!("[[follow]]\ndatabase = \"{}\"\n", database.url()))?;
                    proxy = proxy.args([OsStr::new("--config"), file.as_os_str()]);
                }
                Ok(proxy)
            })
            .await?;
        if follows {
            // All pages are purged before.
            proxy.logged(" followed ").await?;
        }
        let admin = match setup.admin {
            Some(_) => Some(proxy.port_of("admin").await?),
            None => None,
        };
        Ok(Self { proxy, admin, follows, origin, programs, pages, database })
    }

    /// Fills the database again.
    pub(crate) async fn seed(&self, properties: usize, indexes: Indexes) -> Result<(), LabError> {
        seed(&self.programs, &self.database, properties, indexes, false).await
    }

    /// The URL of a path at the proxy.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.proxy.port)
    }

    /// A path at the proxy, as a target for requests.
    pub(crate) fn target(&self, path: &str) -> Result<Target, TargetError> {
        self.url(path).parse()
    }

    /// Fails if a program has died.
    pub(crate) fn alive(&mut self) -> Result<(), LabError> {
        let mut programs = vec![&mut self.proxy.program, &mut self.origin.program];
        programs.extend(self.pages.program());
        programs.extend(self.database.program());
        for program in programs {
            if let Some(status) = program.try_wait() {
                return Err(LabError::died(program, status));
            }
        }
        Ok(())
    }

    /// Waits until a program dies, or its state cannot be read.
    pub(crate) async fn death(&mut self) -> LabError {
        let mut children = match signal(SignalKind::child()) {
            Ok(children) => children,
            Err(error) => return error.into(),
        };
        loop {
            if let Err(death) = self.alive() {
                return death;
            }
            children.recv().await;
        }
    }

    /// The proxy's own page, if it has one.
    pub(crate) fn admin_page(&self) -> Option<String> {
        self.admin.map(|port| format!("http://localhost:{port}/"))
    }

    /// Commands that the user can try now.
    pub(crate) fn invitation(&self) -> String {
        let cached = self.url("/api/properties/cached/");
        let mut lines = vec![
            format!(
                "Serving until Ctrl-C: the proxy at {}, the origin at port {}.",
                self.url("/"),
                self.origin.port
            ),
            "Try:".to_owned(),
            format!("  curl -i {cached}"),
            format!("  curl -i {}", self.url("/api/properties/live/naive/")),
            format!("  curl -i {}", self.url("/api/properties/live/optimized/")),
            format!("  bench/bombardment_test.sh {cached}"),
            format!(
                "  cargo run --profile demo --bin bench -- bombard {}",
                self.url("/api/properties/live/naive/")
            ),
        ];
        lines.extend(self.admin_page().map(|page| format!("  {page} in a browser: the proxy's own page")));
        lines.extend(self.pages.hint());
        lines.push(self.database.hint());
        lines.push(format!("Logs: {}, {}", self.proxy.log, self.origin.log));
        lines.join("\n")
    }
}

/// Fills the database again. The seed prints its own messages, and ends with this process.
async fn seed(
    programs: &Programs,
    database: &Database,
    properties: usize,
    indexes: Indexes,
    follows: bool,
) -> Result<(), LabError> {
    let mut command = Command::new(programs.path("seed"));
    command.env("DATABASE_URL", database.url());
    command.args(["--properties", &properties.to_string(), "--indexes", indexes.name()]);
    command.args(follows.then_some("--follow"));
    let status = command.kill_on_drop(true).status().await?;
    if status.success() { Ok(()) } else { Err(LabError::Seed(status)) }
}
