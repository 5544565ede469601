//! The program `proxy`: settings, listener, server, exit status.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use mimalloc::MiMalloc;
use proxy::{Args, Command, Config, Explain, MemoryStore, Proxy, RedisStore, Site, Store, StoreUrl};
use server::{Offer, Predecessor, Workers, refuse};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let config = match Config::load(&args) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults),
    };
    server::start_log();
    if let Some(Command::Explain(asked)) = &args.command {
        return explain(&config, asked).await;
    }
    match &config.store {
        StoreUrl::Memory => run(&config, MemoryStore::new(config.memory_limit)).await,
        StoreUrl::Redis(url) => match RedisStore::new(url, config.deadlines.store) {
            Ok(store) => run(&config, store).await,
            Err(error) => refuse(&format!("--store (REDIS_URL): {error}")),
        },
    }
}

async fn run<S: Store>(config: &Config, store: S) -> ExitCode {
    let Port { listener, address, predecessor, offer } = match Port::of(config).await {
        Ok(port) => port,
        Err(fault) => return refuse(&fault),
    };
    let stop = match server::stop_signal() {
        Ok(stop) => stop,
        Err(error) => return refuse(&format!("no signals: {error}")),
    };
    let workers = match Workers::one_a_core() {
        Ok(workers) => workers,
        Err(error) => return refuse(&format!("no workers: {error}")),
    };
    let site = config.site.clone().unwrap_or_else(|| Site::localhost(address.port()));
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    if config.rules.is_empty() {
        warn!("no rule: every request passes through; --cache PATH=SECONDS or [[cache_page]] makes one");
    }
    let (origin, rules) = (&config.origin, config.rules.len());
    info!(%address, %origin, store = %config.store, site = site.as_str(), rules, "listening");
    server::announce("proxy", address);
    let proxy = Arc::new(Proxy::new(config, site, store));
    if let Some(predecessor) = predecessor {
        predecessor.relieve().await;
    }
    let stop = async {
        match offer {
            Some(offer) => tokio::select! { () = stop => (), () = offer.taken() => () },
            None => stop.await,
        }
    };
    server::serve_on(&workers, listener, proxy.clone(), config.clients, stop).await;
    if timeout(config.clients.deadlines.shutdown, proxy.finish()).await.is_err() {
        warn!("stopped with pages on their way into the store: their deadline has passed");
    }
    ExitCode::SUCCESS
}

/// Where clients come in.
struct Port {
    listener: TcpListener,
    address: SocketAddr,
    /// Who had it before, and serves until it is told.
    predecessor: Option<Predecessor>,
    /// To who comes after.
    offer: Option<Offer>,
}

impl Port {
    /// Takes it over, if there is somebody to take it from, or takes it.
    async fn of(config: &Config) -> Result<Self, String> {
        let taken = match &config.takeover {
            Some(path) => server::take(path, config.listen).await,
            None => None,
        };
        let (listener, address, predecessor) = match taken {
            Some((listener, address, predecessor)) => (listener, address, Some(predecessor)),
            None => server::bind(config.listen).await.map(|(listener, address)| (listener, address, None))?,
        };
        let offer = config.takeover.as_ref().map(|path| Offer::at(path, &listener)).transpose();
        let offer = offer.map_err(|error| format!("--takeover (PROXY_TAKEOVER): {error}"))?;
        Ok(Self { listener, address, predecessor, offer })
    }
}

/// Prints what would become of a request.
async fn explain(config: &Config, asked: &Explain) -> ExitCode {
    /// Who asks by hand can wait longer than a client.
    const PATIENCE: Duration = Duration::from_secs(2);
    let StoreUrl::Redis(url) = &config.store else {
        return refuse(
            &"--store (REDIS_URL): memory is each proxy's own; there is nothing to look into from here",
        );
    };
    let store = match RedisStore::new(url, PATIENCE) {
        Ok(store) => store,
        Err(error) => return refuse(&format!("--store (REDIS_URL): {error}")),
    };
    let site = config.site.clone().unwrap_or_else(|| Site::localhost(config.listen.port()));
    let explanation = match Proxy::new(config, site, store).explain(asked).await {
        Ok(explanation) => explanation,
        Err(fault) => return refuse(&fault),
    };
    let text = match asked.json {
        true => serde_json::to_string_pretty(&explanation).map_err(io::Error::from),
        false => Ok(explanation.to_string()),
    };
    match text.and_then(|text| writeln!(io::stdout(), "{text}")) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever we would tell has closed our output.
        Err(_) => ExitCode::FAILURE,
    }
}
