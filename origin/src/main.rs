//! The program `origin`: settings, listener, server, exit status.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use origin::{Args, Command, Config, Database, Origin};
use server::{ClientDeadlines, ClientLimits, Clients, refuse};
use tokio::runtime::Builder;
use tracing::{info, warn};

/// A naive page of a large table can take many seconds.
const SHUTDOWN: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    server::run(Builder::new_multi_thread(), start())
}

async fn start() -> ExitCode {
    let args = Args::parse();
    let config = match Config::parse(&args) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults),
    };
    if let Some(Command::Health) = args.command {
        return server::health(
            "origin",
            &server::ListenAddress::Tcp(config.listen),
            "GET /healthz HTTP/1.1\r\n",
        )
        .await;
    }
    server::start_log();
    let (listener, address) = match server::bind(config.listen, "--listen") {
        Ok(bound) => bound,
        Err(fault) => return refuse(&fault),
    };
    let stop = match server::stop_signal(|| warn!("SIGHUP ignored: it has no meaning here")) {
        Ok(stop) => stop,
        Err(error) => return refuse(&format!("cannot listen for signals: {error}")),
    };
    info!(%address, pool_size = config.pool_size, "listening");
    server::announce("origin", format_args!("http://{address}"));
    let deadlines = ClientDeadlines { shutdown: SHUTDOWN, ..ClientDeadlines::default() };
    let limits = ClientLimits::default().affordable(config.pool_size as usize);
    let clients = Clients { deadlines, limits };
    server::serve(listener, Arc::new(Origin::new(Database::new(&config), address)), clients, stop).await;
    ExitCode::SUCCESS
}
