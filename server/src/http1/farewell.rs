//! The end of a connection on which a client may still be sending. Closing at once, with some of its bytes unread, would
//! reset the connection, and the client might never see its answer.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::alarm::in_time;
use crate::refused::Refused;

/// How long the answer to a refused client may take, and how long the client has to end its side.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// How long an upload is still read after its answer: many clients send all of it before they read. nginx does the same
/// (`lingering_time`, `lingering_timeout`). Here the bytes are bounded, too.
const DRAIN: Duration = Duration::from_secs(30);
const DRAIN_SILENCE: Duration = Duration::from_secs(5);
const DRAIN_BYTES: u64 = 1 << 30;

/// Sends a last answer. Then reads until the client has ended its side, but only for a moment.
pub(crate) async fn farewell(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    refused: Refused,
    headers: &str,
) {
    let status = StatusCode::from_u16(refused.status).unwrap_or_default();
    let text = refused.text();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        while read(stream).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that has gone, or does not read, gets no answer.
    let _ = timeout(FAREWELL, said).await;
}

/// Ends this side after the answer, and reads on until the client has ended its side, or sends nothing, or too much.
pub(crate) async fn drain(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    // TLS ends with a record of its own. A client that reads nothing never takes it.
    if !matches!(timeout(FAREWELL, stream.shutdown()).await, Ok(Ok(()))) {
        return;
    }
    let end = Instant::now() + DRAIN;
    let mut left = DRAIN_BYTES;
    while left > 0 {
        let until = end.min(Instant::now() + DRAIN_SILENCE);
        match in_time(until, read(stream)).await {
            Some(Ok(count @ 1..)) => left = left.saturating_sub(count),
            _ => return,
        }
    }
}

/// Reads something, and gives its length.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u64> {
    let mut bytes = [0; 4096];
    stream.read(&mut bytes).await.map(|count| count as u64)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{ReadBuf, duplex};

    use super::*;
    use crate::Clients;
    use crate::full::Full;
    use crate::http1::testing::{Scene, TestClient, get};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_turned_away_has_a_moment_to_read_why() {
        for (full, status) in
            [(Full::All, "503 Service Unavailable"), (Full::Address, "429 Too Many Requests")]
        {
            for stays in [true, false] {
                let (mut ours, theirs) = duplex(1000);
                let (mut client, start) = (TestClient(theirs), Instant::now());
                let refused = Refused::from(full);
                let turned =
                    tokio::spawn(async move { farewell(&mut ours, refused, "Retry-After: 1\r\n").await });
                // It has asked something meanwhile.
                client.send(&get("/now")).await;
                let told = client.rest().await;
                assert!(told.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{told}");
                assert!(told.contains("\r\nRetry-After: 1\r\n"), "{told}");
                assert!(told.ends_with(&format!("\r\n\r\n{}", refused.text())), "{told}");
                if !stays {
                    drop(client);
                }
                turned.await.unwrap();
                assert_eq!(start.elapsed(), if stays { FAREWELL } else { Duration::ZERO });
            }
        }
    }

    #[tokio::test]
    async fn an_answer_can_be_read_while_the_client_is_still_sending() {
        const MUCH: usize = 4 << 20;
        for head in [format!("Content-Length: {MUCH}"), "Transfer-Encoding: chunked".to_owned()] {
            let scene = Scene::new(Clients::default());
            let mut client = scene.connect_over(1000);
            client.send(&format!("POST /early HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n400000\r\n")).await;
            let part = "x".repeat(1000);
            for _ in 0..MUCH / 1000 - 1 {
                client.send(&part).await;
            }
            assert_eq!(client.page().await, "/early");
            drop(client);
            scene.closed().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_more_after_an_early_answer_is_left() {
        let scene = Scene::new(Clients::default());
        let mut client = scene.connect();
        client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1").await;
        assert_eq!(client.page().await, "/early");
        let start = Instant::now();
        assert_eq!(client.rest().await, "");
        assert!(start.elapsed() < DRAIN_SILENCE, "the client hears at once that this is the end");
        scene.closed().await;
        assert!(
            (DRAIN_SILENCE..DRAIN_SILENCE + FAREWELL).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
    }

    /// A stream that never takes its own end, as TLS does if the client reads nothing.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_take_the_end_is_left() {
        let start = Instant::now();
        drain(&mut Endless).await;
        assert_eq!(start.elapsed().as_secs(), FAREWELL.as_secs());
    }

    /// The time for which a client that sends so much, so often, is read.
    async fn drained(bytes: usize, every: Duration) -> Duration {
        let (mut ours, theirs) = duplex(1 << 20);
        let start = Instant::now();
        let client = async move {
            let (mut client, part) = (theirs, vec![0; bytes]);
            while client.write_all(&part).await.is_ok() {
                tokio::time::sleep(every).await;
            }
        };
        let client = tokio::spawn(client);
        drain(&mut ours).await;
        drop(ours);
        client.await.unwrap();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_after_an_answer_is_bounded_by_silence_and_by_time() {
        let second = Duration::from_secs(1);
        assert!(drained(1, 60 * second).await >= DRAIN_SILENCE);
        assert!((DRAIN..DRAIN + 5 * second).contains(&drained(1000, second).await));
    }
}
