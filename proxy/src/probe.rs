//! Finds out whether plain Redis answers at the port of a `rediss://` URL. Redis and the TLS client would each wait for the
//! other, and the only error would be a timeout.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The fault of a URL for TLS, if plain Redis answers there. Nothing secret is sent.
pub async fn wrong_scheme((host, port): (&str, u16)) -> Option<&'static str> {
    /// A connection to Redis may take no longer than this.
    const PATIENCE: Duration = Duration::from_secs(1);
    let first = timeout(PATIENCE, first_byte(host, port)).await.ok()?.ok()?;
    let is_plain = matches!(first, b'+' | b'-');
    is_plain.then_some("plain Redis answers at this port, and rediss:// speaks TLS: write redis://")
}

/// The first byte of the answer to a PING in plain text.
async fn first_byte(host: &str, port: u16) -> io::Result<u8> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(b"PING\r\n").await?;
    stream.read_u8().await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_an_answer_of_plain_redis_shows_that_the_scheme_is_wrong() {
        for (answer, expected) in [
            (&b"+PONG\r\n"[..], true),
            (b"-NOAUTH Authentication required.\r\n", true),
            // A TLS alert.
            (b"\x15\x03\x01\0\x02\x02\x46", false),
            (b"HTTP/1.1 400 Bad Request\r\n", false),
            (b"", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let answered = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut ping = [0; 6];
                stream.read_exact(&mut ping).await.unwrap();
                stream.write_all(answer).await.unwrap();
            };
            let (said, ()) = tokio::join!(wrong_scheme(("127.0.0.1", port)), answered);
            assert_eq!(said.is_some(), expected, "{}", answer.escape_ascii());
        }
        assert_eq!(wrong_scheme(("127.0.0.1", 1)).await, None);
    }
}
