//! A simple client for requests that are not measured: it fills caches, and reads the origin's count of requests.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::head::SITE;
use super::yardstick::COUNT;

/// The longest time that a server may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a server for every page, so that each is a hit later.
///
/// Each page is requested twice, on several connections: a cache may keep pages for each worker, or only after a second
/// request.
pub(crate) fn fill(server: SocketAddr, requests: &[String]) -> io::Result<()> {
    const TIMES: usize = 2;
    const CONNECTIONS: usize = 4;
    let ask_all = || {
        let mut client = Client::to(server);
        requests.iter().try_for_each(|request| client.ask(request).map(drop))
    };
    for _ in 0..TIMES {
        thread::scope(|scope| {
            let asking: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(ask_all)).collect();
            asking
                .into_iter()
                .try_for_each(|asking| asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
    }
    Ok(())
}

/// The number of requests that the comparison's origin has answered, without the requests for this number.
pub(crate) fn count(origin: SocketAddr) -> io::Result<u64> {
    let mut client = Client::to(origin);
    let body = client.ask(&format!("GET {COUNT} HTTP/1.1\r\nHost: {SITE}\r\n\r\n"))?;
    String::from_utf8_lossy(&body).parse().map_err(io::Error::other)
}

/// A client with one connection.
pub(crate) struct Client {
    server: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn to(server: SocketAddr) -> Self {
        Self { server, connection: None }
    }

    /// Returns the body of the answer, which must be a 200 with a length.
    pub(crate) fn ask(&mut self, request: &str) -> io::Result<Vec<u8>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.server)?,
        };
        connection.get_mut().write_all(request.as_bytes())?;
        let head = Head::read(&mut connection)?;
        let mut body = vec![0; head.length];
        connection.read_exact(&mut body)?;
        self.connection = Some(connection).filter(|_| head.is_kept);
        Ok(body)
    }
}

fn connect(server: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::with_capacity(64 * 1024, stream))
}

/// The part of an answer's head that this client needs.
struct Head {
    length: usize,
    is_kept: bool,
}

impl Head {
    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_ascii_lowercase();
        let value = |name| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = value("content-length:").and_then(|length| length.parse().ok());
        match length {
            Some(length) if head.starts_with("http/1.1 200 ") => {
                Ok(Self { length, is_kept: value("connection:") != Some("close") })
            }
            _ => Err(io::Error::other(format!("no 200 with a length: {head}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_length_and_says_whether_the_connection_is_kept() {
        let read = |text: &str| Head::read(&mut text.as_bytes()).map(|head| (head.length, head.is_kept));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").unwrap(), (3, true));
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap(),
            (0, false)
        );
        for bad in ["", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
