//! A client's connection, from its first request to its end.
//!
//! At rest it is a stream and the front that reads it, no more: idle connections are many. hyper comes when something is
//! asked that the front does not answer, and leaves when the connection has been at rest for a while.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::debug;

use super::exchange;
use super::front::{Front, Passed};
use crate::alarm::in_time;
use crate::limits::Admitted;
use crate::stopping::Stopping;
use crate::{Clients, Handler};

/// How long a connection on which nothing is asked is kept when the server stops: a request may be on its way, which many
/// clients do not send twice.
pub(crate) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How hyper leaves a connection.
pub(crate) enum End {
    Rest,
    Closed,
}

/// What ends the rest of a connection.
enum Event<H: Handler> {
    Passed(Passed<H>),
    Idle,
    Stopping,
}

/// What a connection begins with, beside its stream.
pub(crate) struct Start<H> {
    pub(crate) peer: SocketAddr,
    pub(crate) handler: Arc<H>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) stopping: Stopping,
    /// Its place among the connections.
    pub(crate) _admitted: Admitted,
}

/// Serves a connection to its end, on the worker that it was dealt to; `arrive` has its events come to that one.
#[allow(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
pub(crate) fn converse<I: AsyncRead + AsyncWrite + Unpin + Send, H: Handler>(
    mut stream: I,
    arrive: impl FnOnce(I) -> io::Result<I> + Send,
    mut start: Start<H>,
) -> impl Future<Output = ()> + Send {
    async move {
        let Start { peer, handler, clients, stopping, .. } = &mut start;
        match arrive(stream) {
            Ok(arrived) => stream = arrived,
            Err(error) => return debug!(%peer, %error, "connection lost"),
        }
        let mut front = Front::new(&mut stream, handler, clients, peer);
        loop {
            let event = poll_fn(|cx| poll_event(&mut front, stopping, cx)).await;
            // Boxed, so that idle connections don't pay for it.
            match Box::pin(go_on(&mut front, event, stopping)).await {
                Ok(End::Rest) => {}
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
    let end = exchange::serve(front, passed, stopping).await;
    front.at_rest_since = Instant::now();
    Ok(end)
}

fn poll_event<I: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    front: &mut Front<'_, I, H>,
    stopping: &mut Stopping,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Event<H>>> {
    // A request that the front is answering is finished first.
    if !front.is_busy() && stopping.poll(cx).is_ready() {
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
    use std::future::pending;

    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::limits::Connections;
    use crate::stopping::Order;
    use crate::{Answer, Decided, RequestHead};

    struct Silent;

    impl Handler for Silent {
        type Body = Incoming;
        type Page = Vec<u8>;
        type Lookup = ();
        type Decision = ();
        type Record = ();

        fn answer(self: &Arc<Self>, _: &RequestHead<'_>, _: SocketAddr, _: Instant) -> Decided<Self> {
            Decided::Decision(())
        }

        async fn look_up(
            self: &Arc<Self>,
            (): (),
            _: &RequestHead<'_>,
            _: SocketAddr,
        ) -> Result<Answer<Vec<u8>, ()>, ()> {
            Err(())
        }

        fn handle(
            self: Arc<Self>,
            _: Request<Incoming>,
            _: SocketAddr,
            _: Option<()>,
        ) -> impl Future<Output = (Response<Incoming>, ())> + Send {
            pending()
        }
    }

    #[tokio::test]
    async fn the_task_of_an_idle_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let stream = TcpStream::connect(peer).await.unwrap();
        let (clients, order) = (Arc::new(Clients::default()), Order::default());
        let admitted = Connections::new(clients.limits).admit(peer.ip()).unwrap();
        let (handler, stopping) = (Arc::new(Silent), Stopping::new(&order));
        let connection =
            converse(stream, Ok, Start { peer, handler, clients, stopping, _admitted: admitted });
        // With what tokio keeps of a task beside it these are 384 bytes; one more, and it would be 512.
        assert!(size_of_val(&connection) <= 280, "{}", size_of_val(&connection));
    }
}
