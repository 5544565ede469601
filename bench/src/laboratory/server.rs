//! Starts the origin and the proxy, on the article's ports if they are free.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use stack::{Launch, Program, new_folder};

use super::error::LabError;

/// The origin or the proxy.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) port: u16,
    pub(crate) log: String,
}

impl Server {
    /// Starts the program on its port, or on a free port if that is busy or 0, and waits until it announces its port. `with`
    /// adds to the launch. It gets the folder of the program, which is removed with the program.
    pub(crate) async fn start(
        name: &'static str,
        port: u16,
        program: &Path,
        with: impl FnOnce(Launch, &Path) -> io::Result<Launch>,
    ) -> Result<Self, LabError> {
        let folder = new_folder()?;
        let log = folder.join(format!("{name}.log"));
        let launch = with(Launch::new(name, program, &log).folder(&folder), &folder)?;
        let mut program = launch.args(["--listen", &address(port)]).start()?;
        let bound = bound_port(&mut program, name, &log).await?;
        if bound != port && port != 0 {
            println!("Port {port} is busy: the {name} takes {bound}.");
        }
        println!("The {name} listens on 127.0.0.1:{bound} (process {}).", program.pid());
        Ok(Self { program, port: bound, log: log.display().to_string() })
    }

    /// The port of a further listener of the program.
    pub(crate) async fn port_of(&mut self, listener: &str) -> Result<u16, LabError> {
        bound_port(&mut self.program, listener, self.log.as_ref()).await
    }

    /// Waits until the program has logged a line with this text.
    pub(crate) async fn logged(&mut self, text: &str) -> Result<(), LabError> {
        told(&mut self.program, self.log.as_ref(), |line| line.contains(text).then_some(())).await
    }
}

/// An address with this port, or with any free port if this one is busy or 0.
pub(super) fn address(port: u16) -> String {
    format!("127.0.0.1:{}", if is_free(port) { port } else { 0 })
}

/// This port, or another one if it is busy.
pub(super) fn free_or_another(port: u16) -> io::Result<u16> {
    if is_free(port) { Ok(port) } else { stack::free_port() }
}

/// The port that a listener of the program announces: `proxy listening on http://127.0.0.1:8000`. A connect test is not
/// enough, since another program may listen there.
async fn bound_port(program: &mut Program, listener: &str, log: &Path) -> Result<u16, LabError> {
    told(program, log, |line| announced_port(line, listener)).await
}

/// Waits for a line of the program's output, and returns what `read` finds in it.
async fn told<T>(program: &mut Program, log: &Path, read: impl Fn(&str) -> Option<T>) -> Result<T, LabError> {
    const PATIENCE: Duration = Duration::from_secs(30);
    const PAUSE: Duration = Duration::from_millis(20);
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if let Some(told) = text.lines().find_map(&read) {
            return Ok(told);
        }
        if let Some(status) = program.try_wait() {
            return Err(LabError::died(program, status));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(LabError::Silent { program: program.name().to_owned(), log: program.last_lines(20) })
}

fn announced_port(line: &str, name: &str) -> Option<u16> {
    let address = line.strip_prefix(name)?.strip_prefix(" listening on http://")?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// Whether this port is free on both addresses of `localhost`: a client may try either first.
fn is_free(port: u16) -> bool {
    let in_use = |bound: io::Result<_>| bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        // Without IPv6, the second bind fails with another error, and the port is free.
        && !in_use(TcpListener::bind((Ipv6Addr::LOCALHOST, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_announced_by_its_own_program() {
        for (line, port) in [
            ("proxy listening on http://127.0.0.1:8000", Some(8000)),
            ("proxy listening on http://[::1]:80", Some(80)),
            ("origin listening on http://127.0.0.1:8001", None),
            ("proxy listening on http://127.0.0.1:", None),
            ("2026-11-24 INFO proxy: listening", None),
            ("", None),
        ] {
            assert_eq!(announced_port(line, "proxy"), port, "{line}");
        }
    }
}
