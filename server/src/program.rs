//! The parts of a `main` that both servers have.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::{self, ExitCode};

use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// The exit status for what the user can mend: settings, a port in use.
pub const USAGE: u8 = 2;

/// The exit status when a second signal ended the program in the middle of its requests.
const IMPATIENT: u8 = 1;

/// How many connections may wait to be accepted, if the system lets so many. The 128 of `TcpListener::bind` are fewer than
/// a burst brings, and whoever finds no room tries again only after a second.
const BACKLOG: u32 = 4096;

/// Logs to standard error, filtered by RUST_LOG (`debug`, `proxy=debug,hyper=info`); a filter that is none is `info`.
pub fn start_log() {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

/// Says on standard error what the user can mend, a line each.
pub fn refuse(faults: &impl Display) -> ExitCode {
    for line in faults.to_string().lines() {
        // Who closed our standard error does not want to know.
        let _ = writeln!(io::stderr(), "error: {line}");
    }
    ExitCode::from(USAGE)
}

/// Takes an address; what is in the way of it, as a message with the way out.
pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let fault =
        |error: io::Error| format!("cannot listen on {address}: {error}; --listen takes another address");
    let listener = listen(address).map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port can be had while old connections to it linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Says on standard output where the server is, for people and for scripts that started it on port 0.
pub fn announce(name: &str, address: SocketAddr) {
    let _ = writeln!(io::stdout(), "{name} listening on http://{address}");
}

/// Completes at SIGTERM or SIGINT; the next one ends the program at once. Fails if signals cannot be had, before the
/// server starts.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut next = async move || {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
    };
    let (told, stop) = oneshot::channel();
    // Beside the server, so that the second is heard whatever the first has begun.
    tokio::spawn(async move {
        next().await;
        info!("stopping");
        // A server that has ended by itself does not listen.
        let _ = told.send(());
        next().await;
        warn!("stopped at once: told twice");
        process::exit(IMPATIENT.into());
    });
    Ok(async move { drop(stop.await) })
}
