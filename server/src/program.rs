//! The parts that both servers have in their `main`.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// The exit status for faults that the user can mend: wrong settings, a port in use.
pub const USAGE: u8 = 2;

/// How many connections may wait to be accepted, if the system allows it. The 1,024 of `TcpListener::bind` are less than a
/// burst can bring, and a client that finds no room tries again only after a second.
const BACKLOG: u32 = 4096;

/// Runs a program to its end, and does not wait for threads that it leaves behind: the lookup of a name takes as long as the
/// name servers are silent.
pub fn run(mut runtime: Builder, program: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start: {error}")),
    };
    let status = runtime.block_on(program);
    runtime.shutdown_background();
    status
}

/// Prints on standard error the faults that the user can mend, a line each.
pub fn refuse(faults: &impl Display) -> ExitCode {
    print_faults(faults);
    ExitCode::from(USAGE)
}

/// Prints why a command did not work; the exit status is 1.
pub fn fail(fault: &impl Display) -> ExitCode {
    print_faults(fault);
    ExitCode::FAILURE
}

fn print_faults(faults: &impl Display) {
    for line in faults.to_string().lines() {
        // If standard error is closed, there is nowhere to report this.
        let _ = writeln!(io::stderr(), "error: {line}");
    }
}

/// Listens on an address. The error says why that is not possible, and which flag names another address.
pub fn bind(address: SocketAddr, flag: &str) -> Result<(TcpListener, SocketAddr), String> {
    let fault =
        |error: io::Error| format!("cannot listen on {address}: {error}; {flag} takes another address");
    let listener = listen(address).map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Allows the port while old connections to it linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Says on standard output where the server is, for people and for scripts that started it on port 0.
pub fn announce(name: &str, at: impl Display) {
    let _ = writeln!(io::stdout(), "{name} listening on {at}");
}

/// Completes at SIGTERM, SIGINT or SIGQUIT; at a second of them the program exits at once. Each SIGHUP calls `hangup`; SIGUSR1
/// and SIGUSR2 are only logged. Fails if the handlers cannot be installed, before the server starts.
pub fn stop_signal(mut hangup: impl FnMut() + Send + 'static) -> io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::install()?;
    Ok(async move {
        signals.stop(&mut hangup).await;
        info!("stopping");
        tokio::spawn(async move {
            let kind = signals.stop(&mut hangup).await;
            warn!("stopped at once");
            // The exit status that a shell reports: 130 for Ctrl-C, 143 for SIGTERM.
            std::process::exit(128 + kind.as_raw_value());
        });
    })
}

/// The signals that a server handles. Without a handler each of them would end it at once.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for a signal that asks the program to stop, calls `hangup` at each SIGHUP, and logs the others.
    async fn stop(&mut self, hangup: &mut impl FnMut()) -> SignalKind {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return SignalKind::terminate(),
                _ = self.interrupt.recv() => return SignalKind::interrupt(),
                _ = self.quit.recv() => return SignalKind::quit(),
                _ = self.hangup.recv() => hangup(),
                _ = self.user1.recv() => warn!("SIGUSR1 ignored: it has no meaning here"),
                _ = self.user2.recv() => warn!("SIGUSR2 ignored: it has no meaning here"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_end_of_a_program_waits_for_no_lookup() {
        for runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let (answer, asked) = mpsc::channel::<()>();
            let (ended, end) = mpsc::channel();
            thread::spawn(move || {
                let program = async move {
                    drop(tokio::task::spawn_blocking(move || asked.recv()));
                    ExitCode::SUCCESS
                };
                ended.send(run(runtime, program)).unwrap();
            });
            assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(ExitCode::SUCCESS));
            drop(answer);
        }
    }

    #[tokio::test]
    async fn an_address_is_bound_once() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            // Not every system has IPv6.
            let Ok((listener, address)) = bind(any.parse().unwrap(), "--listen") else { continue };
            assert_eq!(listener.local_addr().unwrap(), address);
            assert_ne!(address.port(), 0);
            let message = bind(address, "--listen").unwrap_err();
            assert!(
                message.starts_with(&format!("cannot listen on {address}: Address already in use")),
                "{message}"
            );
            assert!(message.ends_with("; --listen takes another address"), "{message}");
        }
    }

    #[tokio::test]
    async fn a_port_can_be_bound_again_at_once() {
        let (listener, address) = bind("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        // The server closes first, so its end of the connection lingers.
        drop(listener.accept().await.unwrap());
        drop((listener, client));
        bind(address, "--listen").unwrap();
    }
}
