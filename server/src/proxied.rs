//! The PROXY protocol, versions 1 and 2: a load balancer names its client before the first byte of that client.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The time for the header, which comes at the start of a connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// The length of the shortest header of either version, which is enough to tell the two apart.
const START: usize = 12;

/// The signature of version 2.
const SIGNATURE: &[u8; START] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// The longest header of version 2 that is read: addresses, and what some load balancers add.
const LONGEST: usize = 536;

/// Reads the header and nothing behind it. Gives the client's address, or `None` if the header names none.
pub(crate) async fn client(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let header = timeout(PATIENCE, read(stream)).await??;
    parse(&header)
}

/// The address that a whole header names.
pub(crate) fn parse(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (header, length) =
        ProxyHeader::parse(header, config).map_err(io::Error::other).map(|(parsed, length)| {
            (parsed.proxied_address().map(|address| address.source), length == header.len())
        })?;
    if length { Ok(header) } else { Err(bad("bytes behind the header")) }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut header = vec![0; START];
    stream.read_exact(&mut header).await?;
    match header.starts_with(SIGNATURE) {
        true => read_rest(stream, &mut header).await?,
        false if header.starts_with(b"PROXY ") => read_line(stream, &mut header).await?,
        false => return Err(bad("no PROXY header")),
    }
    Ok(header)
}

/// Reads the rest of a header of version 2, whose length is in the part that was read.
async fn read_rest(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    let mut rest = [0; 4];
    stream.read_exact(&mut rest).await?;
    header.extend(rest);
    let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
    if header.len() + length > LONGEST {
        return Err(bad("a PROXY header that is too long"));
    }
    let start = header.len();
    header.resize(start + length, 0);
    stream.read_exact(&mut header[start..]).await.map(drop)
}

/// Reads the rest of a line of version 1. Peeks first, so that it takes nothing behind the line.
async fn read_line(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    while !header.ends_with(b"\n") {
        let mut seen = [0; LONGEST_LINE];
        let seen = match stream.peek(&mut seen[..LONGEST_LINE - header.len()]).await? {
            0 => return Err(bad("a PROXY header that ends early, or is too long")),
            count => &seen[..count],
        };
        let take = seen.iter().position(|&byte| byte == b'\n').map_or(seen.len(), |end| end + 1);
        let start = header.len();
        header.resize(start + take, 0);
        stream.read_exact(&mut header[start..]).await?;
    }
    Ok(())
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// The address in a header that comes in pieces of so many bytes, and the bytes behind it.
    async fn read_in(pieces: usize, bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let bytes = bytes.to_vec();
        let sent = async move {
            for piece in bytes.chunks(pieces) {
                // The other side may have given up.
                let _ = client.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let named = super::client(&mut server).await;
            let mut rest = Vec::new();
            let _ = server.read_to_end(&mut rest).await;
            (named, rest)
        };
        tokio::join!(sent, read).1
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, addresses].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_what_follows() {
        let ipv4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 80];
        let ipv6: Vec<u8> = [[0x20; 16], [1; 16]].concat().into_iter().chain([0x30, 0x39, 0, 80]).collect();
        let with_more = [&ipv4[..], &[4, 0, 2, 0, 0]].concat();
        let v6 = "[2020:2020:2020:2020:2020:2020:2020:2020]:12345";
        for (header, named) in [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n".to_vec(), Some("192.0.2.1:12345")),
            (b"PROXY TCP6 2001:db8::1 ::1 1 80\r\n".to_vec(), Some("[2001:db8::1]:1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ff:: ::1 1 2\r\n".to_vec(), None),
            (version_2(1, 0x11, &ipv4), Some("192.0.2.1:12345")),
            (version_2(1, 0x11, &with_more), Some("192.0.2.1:12345")),
            (version_2(1, 0x21, &ipv6), Some(v6)),
            (version_2(0, 0, &[]), None),
        ] {
            for pieces in [1, 7, 1000] {
                let (read, rest) = read_in(pieces, &[&header[..], b"GET / HTTP/1.1\r\n"].concat()).await;
                assert_eq!(read.unwrap(), named.map(|text| text.parse().unwrap()), "{header:?}");
                assert_eq!(rest, b"GET / HTTP/1.1\r\n");
            }
        }
    }

    #[tokio::test]
    async fn anything_else_is_an_error() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE));
        for bytes in [
            &b""[..],
            b"PROXY",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 80",
            b"PROXY TCP4 a b c d\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 80\r\n",
            long.as_bytes(),
            &version_2(1, 0x11, &[1, 2, 3]),
            &version_2(1, 0x11, &[0; LONGEST]),
            &version_2(9, 0x11, &[0; 12]),
            &SIGNATURE[..],
        ] {
            assert!(read_in(1000, bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
