//! The laboratory: all servers from PostgreSQL to the proxy, and what PostgreSQL and Redis saw of the requests.
//!
//! `programs` builds origin, proxy and seed; `database` and `pages` find or start PostgreSQL and Redis; `server` starts
//! origin and proxy. Dropping the laboratory ends its programs in order.

mod balancer;
mod database;
mod error;
mod pages;
mod programs;
mod redis_witness;
mod server;

use std::ffi::OsStr;

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::balancer::Balancer;
pub(crate) use self::database::Database;
pub(crate) use self::error::LabError;
pub(crate) use self::pages::{Pages, StoreKind};
pub(crate) use self::programs::Programs;
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
    /// The balancer in front of the proxies, if there are several.
    balancer: Option<Balancer>,
    proxies: Vec<Server>,
    /// The port of the first proxy's admin listener, if there is one.
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
        // In a fleet the next request may come before the slowest proxy has heard of the purge.
        let follows = setup.follows && database.is_private() && pages.proxies() == 1;
        seed(&programs, &database, setup.properties, setup.indexes, follows).await?;
        database.log_statements("all")?;
        let origin = Server::start("origin", setup.ports.1, &programs.path("origin"), |origin, _| {
            Ok(origin.env("DATABASE_URL", database.url()))
        })
        .await?;
        let mut laboratory = Self {
            balancer: None,
            proxies: Vec::new(),
            admin: None,
            follows,
            origin,
            programs,
            pages,
            database,
        };
        laboratory.start_proxies(setup).await?;
        Ok(laboratory)
    }

    /// Starts the proxy, or a fleet of them behind one address.
    async fn start_proxies(&mut self, setup: &Setup) -> Result<(), LabError> {
        let count = self.pages.proxies();
        if count == 1 {
            return self.start_proxy(setup, setup.ports.0, None).await;
        }
        let port = server::free_or_another(setup.ports.0)?;
        for _ in 0..count {
            self.start_proxy(setup, 0, Some(port)).await?;
        }
        let ports = self.proxies.iter().map(|proxy| proxy.port).collect();
        self.balancer = Some(Balancer::start(port, ports).await?);
        println!("The address of all proxies is 127.0.0.1:{port}.");
        Ok(())
    }

    /// Starts one more proxy. In a fleet, the site of all proxies is `localhost` with the port `fleet`.
    async fn start_proxy(&mut self, setup: &Setup, port: u16, fleet: Option<u16>) -> Result<(), LabError> {
        // With an admin listener a proxy takes purges. If one proxy of a fleet does, all have to.
        let admin = setup.admin.map(|port| if self.proxies.is_empty() { port } else { 0 });
        let kept = setup.kept.unwrap_or(60);
        let settings = match fleet {
            Some(_) => fleet_settings(kept),
            None if self.follows => format!("[[follow]]\ndatabase = \"{}\"\n", self.database.url()),
            None => String::new(),
        };
        let mut proxy = Server::start("proxy", port, &self.programs.path("proxy"), |mut proxy, folder| {
            let origin = format!("http://127.0.0.1:{}", self.origin.port);
            proxy = proxy.args(["--origin", &origin]).env("REDIS_URL", &self.pages.url());
            if !settings.is_empty() {
                let file = folder.join("cachepage.toml");
                std::fs::write(&file, &settings)?;
                proxy = proxy.args([OsStr::new("--config"), file.as_os_str()]);
            }
            proxy = match fleet {
                Some(port) => proxy.args(["--site", &format!("localhost:{port}")]),
                None => proxy.args(["--cache", &format!("{}={kept}", CACHED.path)]),
            };
            if let Some(port) = admin {
                proxy = proxy.args(["--admin", &server::address(port)]);
            }
            Ok(proxy)
        })
        .await?;
        if self.follows {
            // All pages are purged before this line is logged.
            proxy.logged(" followed ").await?;
        }
        if admin.is_some() && self.admin.is_none() {
            self.admin = Some(proxy.port_of("admin").await?);
        }
        self.proxies.push(proxy);
        Ok(())
    }

    /// Fills the database again.
    pub(crate) async fn seed(&self, properties: usize, indexes: Indexes) -> Result<(), LabError> {
        seed(&self.programs, &self.database, properties, indexes, false).await
    }

    /// The URL of a path at the proxy, or at the address of all proxies.
    pub(crate) fn url(&self, path: &str) -> String {
        let port = match (&self.balancer, &self.proxies[..]) {
            (Some(balancer), _) => balancer.port,
            (None, proxies) => proxies.first().map_or(0, |proxy| proxy.port),
        };
        format!("http://localhost:{port}{path}")
    }

    /// A path at the proxy, as a target for requests.
    pub(crate) fn target(&self, path: &str) -> Result<Target, TargetError> {
        self.url(path).parse()
    }

    /// Fails if a program has died.
    pub(crate) fn alive(&mut self) -> Result<(), LabError> {
        let mut programs: Vec<_> = self.proxies.iter_mut().map(|proxy| &mut proxy.program).collect();
        programs.push(&mut self.origin.program);
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
        let servers = self.proxies.iter().chain([&self.origin]);
        let mut logs: Vec<_> = servers.map(|server| server.log.clone()).collect();
        logs.extend(self.database.log().map(|log| log.display().to_string()));
        lines.push(format!("Logs: {}", logs.join(", ")));
        lines.join("\n")
    }
}

/// The settings of a proxy of a fleet. The store may take longer to answer, since six more servers run on this machine.
fn fleet_settings(kept: u32) -> String {
    format!(
        "[deadlines]\nstore = \"500ms\"\n[[cache_page]]\npath = \"{}\"\ntimeout = {kept}\ncoalesce = \"fleet\"\n",
        CACHED.path
    )
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
