//! The stream that hyper reads: the bytes that the front passes on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::front::{Front, Passed};
use super::rest::Rest;
use crate::Handler;

/// The stream that hyper reads. While the connection is at rest the front reads it, and answers the plain requests.
pub(crate) struct Inlet<'i, 'a, I, H: Handler> {
    front: &'i mut Front<'a, I, H>,
    /// The bytes that hyper has not read yet.
    bytes: Bytes,
    /// The decision on the request that hyper reads next.
    decision: &'i Mutex<Option<H::Decision>>,
    rest: Rest,
}

impl<'i, 'a, I: AsyncRead + AsyncWrite + Unpin, H: Handler> Inlet<'i, 'a, I, H> {
    pub(crate) fn new(
        front: &'i mut Front<'a, I, H>,
        passed: Passed<H>,
        decision: &'i Mutex<Option<H::Decision>>,
        rest: Rest,
    ) -> Self {
        let mut inlet = Self { front, bytes: Bytes::new(), decision, rest };
        inlet.take(passed);
        inlet
    }

    /// The bytes that were passed on and that hyper has not read.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }

    fn take(&mut self, passed: Passed<H>) {
        self.bytes = passed.bytes;
        self.rest.passed(!self.bytes.is_empty());
        *self.decision.lock().unwrap_or_else(PoisonError::into_inner) = passed.decision;
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut I> {
        Pin::new(&mut *self.get_mut().front.stream)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin, H: Handler> AsyncRead for Inlet<'_, '_, I, H> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            // hyper is at rest while the front answers a request. On a connection that is about to close, each answer must say
            // so: only hyper's answers do.
            let is_fronts = this.rest.is_now() && !this.rest.is_closing();
            if !is_fronts {
                return Pin::new(&mut *this.front.stream).poll_read(cx, buf);
            }
            let passed = ready!(this.front.poll(cx))?;
            this.take(passed);
        }
        let count = this.bytes.len().min(buf.remaining());
        buf.put_slice(&this.bytes.split_to(count));
        this.rest.passed(!this.bytes.is_empty());
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin, H: Handler> AsyncWrite for Inlet<'_, '_, I, H> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.front.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, WriteHalf, join, sink, split};
    use tokio::time::{sleep, timeout};

    use super::{AsyncRead, AsyncWrite};
    use crate::Clients;
    use crate::http1::testing::{Scene, Scripted, TestClient, get, page, post};

    struct Asked {
        text: String,
        target: String,
    }

    impl Asked {
        fn any(index: usize, random: &mut StdRng) -> Self {
            let kinds = ["now", "later", "undecided", "hyper", "post"];
            let kind = kinds[random.random_range(0..kinds.len())];
            let size = if random.random_bool(0.1) { 50_000 } else { 0 };
            let target = format!("/{kind}/{index}?{size}");
            let text = match kind {
                "post" => post(&target, &get("/hidden").repeat(random.random_range(0..3))),
                _ if random.random_bool(0.2) => get(&target).replacen("GET", "HEAD", 1),
                _ => get(&target),
            };
            Self { text, target }
        }

        fn is_head(&self) -> bool {
            self.text.starts_with("HEAD")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_is_answered_once_and_in_its_turn_however_the_bytes_come() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let requests: Vec<_> =
                (0..random.random_range(1..20)).map(|index| Asked::any(index, &mut random)).collect();
            let scene = Scene::new(Clients::default());
            let (reader, writer) = split(scene.connect_over(random.random_range(200..100_000)).0);
            let mut client = TestClient(join(reader, sink()));
            let heard = async {
                for request in &requests {
                    hear(&mut client, request).await;
                }
            };
            tokio::join!(
                ask(writer, &requests, StdRng::seed_from_u64(seed)),
                open_gate(&scene.handler, requests.len(), StdRng::seed_from_u64(seed)),
                heard,
            );
            drop(client);
            scene.closed().await;
            assert_each_came_once(&requests, &scene.handler.notes(), seed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_to_stop_at_any_moment_leaves_whole_answers_to_the_first_requests() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let requests: Vec<_> =
                (0..random.random_range(1..10)).map(|index| Asked::any(index, &mut random)).collect();
            let mut scene = Scene::new(Clients::default());
            let (mut reader, writer) = split(scene.connect_over(random.random_range(200..100_000)).0);
            let handler = scene.handler.clone();
            let mut answers = Vec::new();
            let stop = async {
                sleep(Duration::from_millis(random.random_range(0..10_000))).await;
                scene.stop();
            };
            let (.., heard) = tokio::join!(
                ask(writer, &requests, StdRng::seed_from_u64(seed)),
                open_gate(&handler, requests.len(), StdRng::seed_from_u64(seed)),
                stop,
                reader.read_to_end(&mut answers),
            );
            heard.unwrap();
            scene.closed().await;
            let mut client = TestClient(join(&answers[..], sink()));
            let mut answered = 0;
            while !client.0.reader().is_empty() {
                hear(&mut client, &requests[answered]).await;
                answered += 1;
            }
            let ends = handler.notes().iter().filter(|note| note.starts_with("end ")).count();
            assert_eq!(answered, ends, "{seed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_at_any_moment_ends_each_of_its_requests_once() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let requests: Vec<_> =
                (0..random.random_range(1..10)).map(|index| Asked::any(index, &mut random)).collect();
            let scene = Scene::new(Clients::default());
            let (mut reader, writer) = split(scene.connect_over(random.random_range(200..100_000)).0);
            let mut answers = Vec::new();
            let stays = async {
                tokio::join!(
                    ask(writer, &requests, StdRng::seed_from_u64(seed)),
                    open_gate(&scene.handler, requests.len(), StdRng::seed_from_u64(seed)),
                    reader.read_to_end(&mut answers),
                )
            };
            let _ = timeout(Duration::from_millis(random.random_range(0..10_000)), stays).await;
            drop(reader);
            scene.handler.open(requests.len());
            scene.closed().await;
            let notes = scene.handler.notes();
            for Asked { target, .. } in &requests {
                let of_it = |what: &str| {
                    notes
                        .iter()
                        .filter(|note| note.starts_with(what) && note.contains(target.as_str()))
                        .count()
                };
                let is_begun = of_it("handle ") > 0 || of_it("decide ") > 0 && target.starts_with("/now");
                let ends = of_it("end ");
                assert!(ends <= 1 && (ends == 1 || !is_begun), "{seed}: {target} {notes:?}");
            }
        }
    }

    /// Sends requests in pieces. Most pieces end where a request ends. Pauses let hyper come and go.
    async fn ask(mut writer: WriteHalf<DuplexStream>, requests: &[Asked], mut random: StdRng) {
        let all: String = requests.iter().map(|request| request.text.as_str()).collect();
        let mut cuts: Vec<_> =
            (0..random.random_range(0..4)).map(|_| random.random_range(0..all.len())).collect();
        let mut end = 0;
        for request in requests {
            end += request.text.len();
            if random.random_bool(0.7) {
                cuts.push(end);
            }
        }
        cuts.push(all.len());
        cuts.sort_unstable();
        let mut start = 0;
        for end in cuts {
            if writer.write_all(&all.as_bytes()[start..end]).await.is_err() {
                return;
            }
            start = end;
            if random.random_bool(0.7) {
                sleep(Duration::from_millis(random.random_range(0..2000))).await;
            }
        }
    }

    async fn open_gate(handler: &Scripted, times: usize, mut random: StdRng) {
        for _ in 0..times {
            sleep(Duration::from_millis(random.random_range(0..2000))).await;
            handler.open(1);
        }
    }

    async fn hear<S: AsyncRead + AsyncWrite + Unpin>(client: &mut TestClient<S>, request: &Asked) {
        let page = page(&request.target);
        if request.is_head() {
            assert!(client.head().await.contains(&format!("\r\nContent-Length: {}\r\n", page.len())));
        } else {
            assert!(client.page().await == page, "{}", request.target);
        }
    }

    fn assert_each_came_once(requests: &[Asked], notes: &[String], seed: u64) {
        let with = |start: String| notes.iter().filter(|note| note.starts_with(&start)).collect::<Vec<_>>();
        for Asked { text, target } in requests {
            let (method, body) = (text.split(' ').next().unwrap(), text.split_once("\r\n\r\n").unwrap().1);
            let handled = with(format!("handle {method} {target}, "));
            let (decided, looked_up) =
                (with(format!("decide {method} {target}")), with(format!("look up {target}")));
            let decision = if decided.is_empty() { None } else { Some(target) };
            match handled[..] {
                [note] => assert!(
                    note.ends_with(&format!(", {} bytes, {decision:?}", body.len())),
                    "{seed}: {note}"
                ),
                _ => assert!(handled.is_empty() && decided.len() == 1, "{seed}: {target}"),
            }
            assert!(looked_up.len() <= decided.len() && decided.len() <= 1, "{seed}: {target}");
            assert_eq!(with(format!("end {target}, ")).len(), 1, "{seed}: {target}");
        }
        assert!(!notes.iter().any(|note| note.contains("hidden") || note.starts_with("refuse")), "{seed}");
    }
}
