//! The origin and the proxy, on the article's ports if they can be had.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::{Duration, Instant};

use bench::stack::{Launch, Program, free_port, new_folder};
use tokio::net::TcpStream;

use super::error::DemoError;
use super::programs::Programs;

/// The origin or the proxy.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) program: Program,
    pub(super) port: u16,
    pub(super) log: String,
}

impl Server {
    /// Starts it on its port, or on a free one, and waits until it takes connections.
    pub(super) async fn start(
        name: &str,
        port: u16,
        programs: &Programs,
        with: impl FnOnce(Launch) -> Launch,
    ) -> Result<Self, DemoError> {
        let port = port_or_free(name, port)?;
        let folder = new_folder()?;
        let log = folder.join(format!("{name}.log"));
        let address = format!("127.0.0.1:{port}");
        let launch = Launch::new(name, &programs.path(name), &log).args(["--listen", &address]);
        let program = with(launch).folder(&folder).start()?;
        let mut server = Self { program, port, log: log.display().to_string() };
        server.ready(&address).await?;
        println!("The {name} listens on {address}.");
        Ok(server)
    }

    async fn ready(&mut self, address: &str) -> Result<(), DemoError> {
        const PATIENCE: Duration = Duration::from_secs(30);
        const PAUSE: Duration = Duration::from_millis(20);
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.program.try_wait() {
                return Err(DemoError::died(&self.program, status));
            }
            if started.elapsed() > PATIENCE {
                let program = self.program.name().to_owned();
                return Err(DemoError::Silent { program, address: address.to_owned() });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// The port, if nobody has it, or a free one.
fn port_or_free(name: &str, port: u16) -> io::Result<u16> {
    if is_free(port) {
        return Ok(port);
    }
    let free = free_port()?;
    println!("Port {port} is busy: the {name} takes {free}.");
    Ok(free)
}

/// Whether `localhost` has nobody on this port, whichever of its addresses a client tries first.
fn is_free(port: u16) -> bool {
    let in_use = |bound: io::Result<_>| bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        // A machine without IPv6 has nobody there.
        && !in_use(TcpListener::bind((Ipv6Addr::LOCALHOST, port)))
}
