//! The program `proxy`: settings, listener, server, exit status.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use mimalloc::MiMalloc;
use proxy::{Args, Config, MemoryStore, Proxy, RedisStore, Site, Store, StoreUrl};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The exit status for what the user can mend: settings, a port in use.
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::load(&Args::parse()) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults.to_string()),
    };
    start_log();
    let listener = match TcpListener::bind(config.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            return refuse(&format!("cannot listen on {}: {error}; --listen takes another", config.listen));
        }
    };
    match &config.store {
        StoreUrl::Memory => run(listener, &config, MemoryStore::new(config.memory_limit)).await,
        StoreUrl::Redis(url) => match RedisStore::new(url, config.deadlines.store) {
            Ok(store) => run(listener, &config, store).await,
            Err(error) => refuse(&format!("--store (REDIS_URL): {error}")),
        },
    }
}

async fn run<S: Store>(listener: TcpListener, config: &Config, store: S) -> ExitCode {
    let Ok(address) = listener.local_addr() else { return ExitCode::FAILURE };
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return ExitCode::FAILURE;
    };
    let stop = async {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
        info!("stopping");
    };
    let site = config.site.clone().unwrap_or_else(|| Site::localhost(address.port()));
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    if config.rules.is_empty() {
        warn!("no rule: every request passes through; --cache PATH=SECONDS or [[cache_page]] makes one");
    }
    info!(%address, origin = %config.origin, store = %config.store, site = site.as_str(), rules = config.rules.len(), "listening");
    // For people and scripts that started us on port 0; who closed our output does not care.
    let _ = writeln!(std::io::stdout(), "proxy listening on http://{address}");
    proxy::serve(listener, Arc::new(Proxy::new(config, site, store)), config.deadlines, stop).await;
    ExitCode::SUCCESS
}

fn refuse(message: &str) -> ExitCode {
    for line in message.lines() {
        let _ = writeln!(std::io::stderr(), "error: {line}");
    }
    ExitCode::from(USAGE)
}

/// Logs to standard error, filtered by RUST_LOG (`debug`, `proxy=debug,hyper=info`); a filter that is none is `info`.
fn start_log() {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
}
