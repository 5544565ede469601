//! A client's connection, from its first request to its end.
//!
//! A connection at rest is a stream and the front that reads it, and no more, since most connections are idle. hyper serves the
//! requests that the front does not answer, and is dropped when the connection has been at rest for a while.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::debug;

use super::exchange;
use super::front::{Front, Passed};
use crate::Handler;
use crate::alarm::in_time;
use crate::clients::KnownClients;
use crate::limits::Admitted;
use crate::peer::Peer;
use crate::stopping::Stopping;

/// How long a connection without a request is kept when the server stops. A request may be on its way, and many clients do not
/// send it a second time.
pub(crate) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How hyper leaves a connection.
pub(crate) enum End {
    /// The connection is at rest, since this time.
    Rest(Instant),
    Closed,
}

/// An event that ends the rest of a connection.
enum Event<H: Handler> {
    Passed(Passed<H>),
    Idle,
    Stopping,
}

/// The parts of a new connection, beside its stream.
pub(crate) struct Start<H> {
    pub(crate) peer: Peer,
    pub(crate) handler: Arc<H>,
    pub(crate) clients: KnownClients,
    pub(crate) stopping: Stopping,
    /// Its place among the connections.
    pub(crate) admitted: Admitted,
}

/// Serves a connection to its end, on the worker that it was dealt to. `arrive` moves the connection's events to that worker.
#[allow(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
pub(crate) fn converse<I: AsyncRead + AsyncWrite + Unpin + Send, H: Handler>(
    mut stream: I,
    arrive: impl FnOnce(I) -> io::Result<I> + Send,
    mut start: Start<H>,
) -> impl Future<Output = ()> + Send {
    async move {
        let Start { peer, handler, clients, stopping, admitted } = &mut start;
        match arrive(stream) {
            Ok(arrived) => stream = arrived,
            Err(error) => return debug!(%peer, %error, "connection lost"),
        }
        let mut front = Front::new(&mut stream, handler, clients, peer);
        loop {
            let event = poll_fn(|cx| {
                let event = poll_event(&mut front, stopping, cx);
                admitted.set_active(front.is_busy());
                event
            });
            let event = event.await;
            // Boxed, so that idle connections don't pay for it.
            match Box::pin(go_on(&mut front, event, stopping, admitted)).await {
                Ok(End::Rest(since)) => front.at_rest_since = front.at_rest_since.max(since),
                Ok(End::Closed) => return,
                Err(error) => return debug!(peer = %front.peer, %error, "connection ended"),
            }
        }
    }
}

/// Gives hyper what the front has passed on.
async fn go_on<I: AsyncRead + AsyncWrite + Unpin + Send, H: Handler>(
    front: &mut Front<'_, I, H>,
    event: io::Result<Event<H>>,
    stopping: &mut Stopping,
    admitted: &mut Admitted,
) -> io::Result<End> {
    let passed = match event? {
        Event::Passed(passed) => passed,
        Event::Idle => return Ok(End::Closed),
        Event::Stopping => match last_request(front).await {
            Some(passed) => passed?,
            None => return Ok(End::Closed),
        },
    };
    if passed.bytes.is_empty() {
        return Ok(End::Closed);
    }
    Ok(exchange::serve(front, passed, stopping, admitted).await)
}

fn poll_event<I: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    front: &mut Front<'_, I, H>,
    stopping: &mut Stopping,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Event<H>>> {
    if let Some(passed) = ready!(front.poll_answer(cx))? {
        return Poll::Ready(Ok(Event::Passed(passed)));
    }
    // The front finishes a request that it is answering before the connection ends.
    if stopping.poll(cx).is_ready() {
        return Poll::Ready(Ok(Event::Stopping));
    }
    if let Poll::Ready(passed) = front.poll(cx) {
        return Poll::Ready(passed.map(Event::Passed));
    }
    if front.is_busy() {
        return Poll::Pending;
    }
    front.poll_idle(cx).map(|()| Ok(Event::Idle))
}

/// Waits a moment for a request that may be on its way.
async fn last_request<I: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    front: &mut Front<'_, I, H>,
) -> Option<io::Result<Passed<H>>> {
    in_time(Instant::now() + LAST_REQUEST, poll_fn(|cx| front.poll_bytes(cx))).await
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::sleep;

    use super::*;
    use crate::Clients;
    use crate::clients::CurrentClients;
    use crate::http1::testing::{Scene, Scripted, get, page, post, settle};
    use crate::limits::Connections;
    use crate::stopping::Order;

    const SECOND: Duration = Duration::from_secs(1);

    fn scene() -> Scene {
        Scene::new(Clients::default())
    }

    #[tokio::test]
    async fn the_task_of_an_idle_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, peer) = (TcpStream::connect(address).await.unwrap(), Peer::from(address));
        let (current, order) = (CurrentClients::from(Clients::default()), Order::default());
        let (clients, admitted) = (current.known(), Connections::new(current).admit(peer.ip()).unwrap());
        let (handler, stopping) = (Scripted::new(), Stopping::new(&order));
        let connection = converse(stream, Ok, Start { peer, handler, clients, stopping, admitted });
        // With the fields that tokio adds to a task this takes 384 bytes. One byte more, and it would take 512.
        assert!(size_of_val(&connection) <= 280, "{}", size_of_val(&connection));
    }

    #[tokio::test]
    async fn a_client_that_leaves_in_the_middle_of_a_head_leaves_nothing() {
        let scene = scene();
        for text in ["", "G", "GET /now HTTP/1.1\r\nHost: a\r\n", "GET /now HTTP/1.1\r\nHost: a\r\n\r"] {
            let mut client = scene.connect();
            client.send(text).await;
            settle().await;
            assert!(!scene.is_closed());
            drop(client);
            scene.closed().await;
            assert_eq!(scene.handler.notes(), [""; 0], "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_is_closed_a_moment_after_the_order() {
        for before in ["", "/now", "/later", "/hyper"] {
            let mut scene = scene();
            scene.handler.open(1);
            let mut client = scene.connect();
            if !before.is_empty() {
                client.send(&get(before)).await;
                assert_eq!(client.page().await, before);
            }
            settle().await;
            let start = Instant::now();
            scene.stop();
            assert_eq!(client.rest().await, "");
            scene.closed().await;
            assert_eq!(start.elapsed(), LAST_REQUEST, "{before:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_on_its_way_at_the_order_is_answered_and_is_the_last() {
        for (before, text) in [
            ("", get("/now")),
            ("/now", get("/later")),
            ("/hyper", get("/now")),
            ("/hyper", post("/post", "a")),
        ] {
            let mut scene = scene();
            let mut client = scene.connect();
            if !before.is_empty() {
                client.send(&get(before)).await;
                client.page().await;
            }
            scene.stop();
            sleep(LAST_REQUEST / 2).await;
            scene.handler.notes();
            // Its second half comes later than a connection at rest would be closed.
            let (first, second) = text.split_at(text.len() - 3);
            client.send(first).await;
            sleep(LAST_REQUEST).await;
            client.send(second).await;
            let rest = client.rest().await;
            assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}");
            assert!(rest.contains("\r\nConnection: close\r\n"), "{rest}");
            scene.closed().await;
            let notes = scene.handler.notes();
            assert_eq!(notes.len(), 2, "{notes:?}");
            assert!(notes[0].starts_with("handle ") && notes[0].ends_with(", None"), "{notes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_at_the_order_is_answered_before_the_connection_closes() {
        // The same holds while hyper serves the connection: it stays for a while after its answer.
        for before in ["/now", "/hyper"] {
            for target in ["/later", "/undecided", "/wait"] {
                let mut scene = scene();
                let mut client = scene.connect();
                client.send(&get(before)).await;
                client.page().await;
                client.send(&get(target)).await;
                settle().await;
                scene.stop();
                sleep(5 * SECOND).await;
                let start = Instant::now();
                scene.handler.open(1);
                assert_eq!(client.page().await, target, "after {before}");
                assert_eq!(client.rest().await, "");
                scene.closed().await;
                assert!(start.elapsed() <= LAST_REQUEST, "{target} after {before}: {:?}", start.elapsed());
                assert_eq!(
                    scene.handler.notes().last().unwrap(),
                    &format!("end {target}, {} bytes", target.len())
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_together_with_the_order_has_its_turn_and_is_the_last() {
        for before in ["/now", "/hyper"] {
            for under_way in [None, Some("/later"), Some("/undecided"), Some("/wait")] {
                let mut scene = scene();
                let mut client = scene.connect();
                client.send(&get(before)).await;
                client.page().await;
                if let Some(target) = under_way {
                    client.send(&get(target)).await;
                }
                settle().await;
                client.send(&get("/now")).await;
                scene.stop();
                settle().await;
                scene.handler.open(1);
                let rest = client.rest().await;
                let answers: Vec<_> = rest.split("HTTP/1.1 200 OK").skip(1).collect();
                let targets: Vec<_> =
                    answers.iter().map(|answer| answer.rsplit('\n').next().unwrap()).collect();
                // hyper closes the connection after the first answer that it gives.
                let expected = match under_way {
                    None => vec!["/now"],
                    Some("/later") => vec!["/later", "/now"],
                    Some(target) => vec![target],
                };
                assert_eq!(targets, expected, "after {before}");
                assert!(answers.last().unwrap().contains("\r\nConnection: close\r\n"), "{rest}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_its_answer_whole_after_the_order() {
        for before in ["/now", "/hyper"] {
            for target in ["/now?3000", "/hyper?3000"] {
                let mut scene = scene();
                let mut client = scene.connect_over(1000);
                client.send(&get(before)).await;
                client.page().await;
                client.send(&get(target)).await;
                settle().await;
                scene.stop();
                sleep(5 * SECOND).await;
                assert!(client.page().await == page(target), "{target} after {before}");
                assert_eq!(client.rest().await, "");
                assert_eq!(scene.handler.notes().last().unwrap(), &format!("end {target}, 3000 bytes"));
            }
        }
    }
}
