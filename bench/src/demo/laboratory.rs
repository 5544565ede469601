//! The programs that the demo runs, from PostgreSQL to the proxy.

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::database::Database;
use super::error::DemoError;
use super::pages::Pages;
use super::programs::Programs;
use super::server::Server;
use crate::args::DemoArgs;

/// The article's ports, which its commands name.
const PROXY_PORT: u16 = 8000;
const ORIGIN_PORT: u16 = 8001;

/// The page that the article caches, and for how long.
const CACHED: &str = "/api/properties/cached/=60";

/// All that runs. Dropped from top to bottom: who asks goes before whom it asks.
#[derive(Debug)]
pub(super) struct Laboratory {
    proxy: Server,
    origin: Server,
    pub(super) pages: Pages,
    pub(super) database: Database,
}

impl Laboratory {
    /// Builds, fills and starts everything, and says so step by step.
    pub(super) async fn set_up(args: &DemoArgs) -> Result<Self, DemoError> {
        let programs = Programs::build().await?;
        let database = Database::find(args.database_url.as_deref()).await?;
        let pages = Pages::find(args).await?;
        seed(&programs, &database, args.properties).await?;
        database.log_statements("all")?;
        let origin = Server::start("origin", ORIGIN_PORT, &programs, |origin| {
            origin.env("DATABASE_URL", database.url())
        })
        .await?;
        let proxy = Server::start("proxy", PROXY_PORT, &programs, |proxy| {
            let origin = format!("http://127.0.0.1:{}", origin.port);
            proxy.args(["--origin", &origin, "--cache", CACHED]).env("REDIS_URL", &pages.url())
        })
        .await?;
        Ok(Self { proxy, origin, pages, database })
    }

    /// The URL of a path at the proxy.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.proxy.port)
    }

    /// Fails if a program has died.
    pub(super) fn alive(&mut self) -> Result<(), DemoError> {
        let mut programs = vec![&mut self.proxy.program, &mut self.origin.program];
        programs.extend(self.pages.program());
        programs.extend(self.database.program());
        for program in programs {
            if let Some(status) = program.try_wait() {
                return Err(DemoError::died(program, status));
            }
        }
        Ok(())
    }

    /// Waits until a program dies, or until that cannot be known.
    pub(super) async fn death(&mut self) -> DemoError {
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

    /// What to try now.
    pub(super) fn invitation(&self) -> String {
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
            format!("  cargo run --release -p bench -- bombard {}", self.url("/api/properties/live/naive/")),
        ];
        lines.extend(self.pages.hint());
        lines.push(self.database.hint());
        lines.push(format!("Logs: {}, {}", self.proxy.log, self.origin.log));
        lines.join("\n")
    }
}

/// Fills the database. The seed speaks for itself; it ends with us.
async fn seed(programs: &Programs, database: &Database, properties: usize) -> Result<(), DemoError> {
    println!("Filling the database with {properties} properties.");
    let mut command = Command::new(programs.path("seed"));
    command.env("DATABASE_URL", database.url()).args(["--properties", &properties.to_string()]);
    let status = command.kill_on_drop(true).status().await?;
    if status.success() { Ok(()) } else { Err(DemoError::Seed(status)) }
}
