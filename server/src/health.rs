//! The command `health` of a program: it asks the server that runs on this machine, as a client would.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::listener::ListenAddress;
use crate::program::refuse;

/// Less than the time that callers allow for a health check: 5 s in compose.yaml.
const PATIENCE: Duration = Duration::from_secs(3);

/// A status line is shorter.
const LINE: u64 = 1024;

/// Asks the server that listens on an address, and says whether the answer is a 200. The request is a line and further
/// header lines, each with its end.
pub async fn health(program: &str, listen: &ListenAddress, request: &str) -> ExitCode {
    let (at, place) = match listen {
        ListenAddress::Tcp(address) if address.port() == 0 => {
            return refuse(&format!("{program} chose its port by itself; --listen names it"));
        }
        ListenAddress::Tcp(address) => {
            let address = reachable(*address);
            (ListenAddress::Tcp(address), address.to_string())
        }
        ListenAddress::Unix(_) => (listen.clone(), listen.to_string()),
    };
    match answers(&at, request).await {
        Ok(()) => {
            // If standard output is closed, the exit status says it.
            let _ = writeln!(io::stdout(), "{program} on {place} is healthy");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            let _ = refuse(&format!("{program} on {place} is not healthy: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether a 200 comes in time.
async fn answers(at: &ListenAddress, request: &str) -> Result<(), String> {
    let silent = |_| Err(format!("no answer within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, connect(at, request)).await.unwrap_or_else(silent)
}

async fn connect(at: &ListenAddress, request: &str) -> Result<(), String> {
    let away = |error: io::Error| format!("{error}; --listen names the address of another");
    let request = |host: &str| format!("{request}Host: {host}\r\nConnection: close\r\n\r\n");
    match at {
        ListenAddress::Tcp(address) => {
            ask(TcpStream::connect(address).await.map_err(away)?, &request(&address.to_string())).await
        }
        ListenAddress::Unix(path) => {
            ask(UnixStream::connect(path).await.map_err(away)?, &request("localhost")).await
        }
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Result<(), String> {
    let broken = |error: io::Error| format!("the connection broke: {error}");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE)).read_line(&mut line).await.map_err(broken)?;
    match line.starts_with("HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(format!("it answers {:?}", line.trim_end())),
    }
}

/// The address by which this machine reaches its own server. A server that listens on all addresses is also reached by the
/// loopback.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_is_healthy_if_it_answers_200() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n",
                Some("it answers \"HTTP/1.1 503 Service Unavailable\""),
            ),
            ("", Some("it answers \"\"")),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let address = ListenAddress::Tcp(at);
            let server = async {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    stream.read_line(&mut head).await.unwrap();
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                head
            };
            let (head, asked) = tokio::join!(server, connect(&address, "GET /healthz HTTP/1.1\r\n"));
            let asked_at = format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
            assert_eq!(head, asked_at);
            assert_eq!(asked.err().as_deref(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_or_away_is_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ListenAddress::Tcp(listener.local_addr().unwrap());
        let asked = answers(&address, "GET / HTTP/1.1\r\n").await;
        assert_eq!(asked.unwrap_err(), "no answer within 3 s");
        drop(listener);
        let asked = answers(&address, "GET / HTTP/1.1\r\n").await;
        assert!(asked.unwrap_err().ends_with("; --listen names the address of another"));
    }

    #[test]
    fn a_server_on_all_addresses_is_asked_by_the_loopback() {
        for (listens, asked) in
            [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.1", "192.0.2.1"), ("fd00::1", "fd00::1")]
        {
            let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 80);
            assert_eq!(reachable(at(listens)), at(asked));
        }
    }
}
