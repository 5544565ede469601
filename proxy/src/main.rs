//! The program `proxy`: settings, listener, server, exit status.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use mimalloc::MiMalloc;
use proxy::{Args, Config, MemoryStore, Proxy, RedisStore, Site, Store, StoreUrl};
use server::{Workers, refuse};
use tokio::net::TcpListener;
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = match Config::load(&Args::parse()) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults),
    };
    server::start_log();
    let (listener, address) = match server::bind(config.listen).await {
        Ok(bound) => bound,
        Err(fault) => return refuse(&fault),
    };
    match &config.store {
        StoreUrl::Memory => run(listener, address, &config, MemoryStore::new(config.memory_limit)).await,
        StoreUrl::Redis(url) => match RedisStore::new(url, config.deadlines.store) {
            Ok(store) => run(listener, address, &config, store).await,
            Err(error) => refuse(&format!("--store (REDIS_URL): {error}")),
        },
    }
}

async fn run<S: Store>(listener: TcpListener, address: SocketAddr, config: &Config, store: S) -> ExitCode {
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
    server::serve_on(&workers, listener, proxy, config.deadlines.client, stop).await;
    ExitCode::SUCCESS
}
