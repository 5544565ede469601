//! A client's connection, from its first request to its end.
//!
//! At rest it waits for words, and is no more than a socket: idle connections are many. What it is asked in words that
//! are known is answered at once ([`crate::recall`]); for the rest hyper takes over ([`crate::ordinary`]), until the connection is
//! at rest again.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use crate::alarm::{Alarm, in_time};
use crate::http1::writer::{Answer, Later, Ordinary, Recalled, Unsent, may_be_known, poll_take};
use crate::limits::Admitted;
use crate::stopping::Stopping;
use crate::{Clients, Handler};

/// How long a connection on which nothing is asked is kept at the end: a request may be on its way to us, which many clients
/// do not send twice.
pub(crate) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// A connection that was accepted. There may be many, of which most are idle: what an idle one does not need is in boxes.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) clients: Arc<Clients>,
    pub(crate) at_rest_since: Instant,
    alarm: Alarm,
    pub(crate) stopping: Stopping,
    /// Its place, for as long as it lives.
    _admitted: Admitted,
}

/// What comes next on a connection at rest.
enum Next<'a> {
    /// A request, which was answered.
    Answered,
    /// One that was answered with more than the client has taken yet.
    Unsent(Box<Unsent>),
    /// One whose answer is being looked for.
    Later(Later<'a>),
    /// One for hyper.
    Ordinary(Ordinary),
    /// The order to end.
    Stopping,
    End,
}

/// What has become of a connection.
pub(crate) enum Done {
    AtRest,
    Over,
}

impl Connection {
    pub(crate) fn new(
        (stream, peer): (TcpStream, SocketAddr),
        clients: Arc<Clients>,
        stopping: Stopping,
        admitted: Admitted,
    ) -> Self {
        let (at_rest_since, alarm) = (Instant::now(), Alarm::default());
        Self { stream, peer, clients, at_rest_since, alarm, stopping, _admitted: admitted }
    }

    /// Serves it, on the worker that it was dealt to.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
    pub(crate) fn converse<H: Handler>(mut self, handler: Arc<H>) -> impl Future<Output = ()> + Send {
        async move {
            match moved_here(self.stream) {
                Ok(stream) => self.stream = stream,
                Err(error) => return debug!(peer = %self.peer, %error, "connection lost"),
            }
            loop {
                match self.answer(&handler).await {
                    Ok(Done::AtRest) => {}
                    Ok(Done::Over) => return,
                    Err(error) => return debug!(peer = %self.peer, %error, "connection ended"),
                }
            }
        }
    }

    /// Answers the next request.
    async fn answer<H: Handler>(&mut self, handler: &Arc<H>) -> io::Result<Done> {
        let mut next = poll_fn(|cx| self.poll_next(cx, handler)).await?;
        if let Next::Later(answer) = &mut next {
            next = poll_fn(|cx| answer.as_mut().poll(cx).map(|answer| self.begin(answer, cx))).await?;
        }
        match next {
            Next::Answered => Ok(Done::AtRest),
            Next::Unsent(unsent) => {
                Box::pin(unsent.finish(&mut self.stream, self.clients.deadlines.write)).await?;
                self.at_rest_since = Instant::now();
                Ok(Done::AtRest)
            }
            Next::Ordinary(ordinary) => Ok(Box::pin(self.serve(handler, ordinary)).await),
            Next::Stopping => Box::pin(self.last_request(handler)).await,
            Next::Later(_) | Next::End => Ok(Done::Over),
        }
    }

    /// Waits for the next request. One that is known is answered.
    fn poll_next<'a, H: Handler>(
        &mut self,
        cx: &mut Context<'_>,
        handler: &'a Arc<H>,
    ) -> Poll<io::Result<Next<'a>>> {
        if self.stopping.poll(cx).is_ready() {
            return Poll::Ready(Ok(Next::Stopping));
        }
        let Poll::Ready(came) = poll_take(&mut self.stream, cx, |words| recall(words, handler, self.peer))
        else {
            let idle_until = self.at_rest_since + self.clients.deadlines.idle;
            return self.alarm.poll(cx, idle_until).map(|()| Ok(Next::End));
        };
        let Some((recalled, now)) = came? else { return Poll::Ready(Ok(Next::End)) };
        // Or soon after, if all goes out at once: not worth a look at the clock.
        self.at_rest_since = now;
        Poll::Ready(match recalled {
            Recalled::Answer(answer) => self.begin(Ok(answer), cx),
            Recalled::Later(answer) => Ok(Next::Later(answer)),
            Recalled::Ordinary(ordinary) => Ok(Next::Ordinary(ordinary)),
        })
    }

    /// Sends an answer, as much of it as goes out at once.
    fn begin<'a>(&mut self, answer: Result<Answer, Ordinary>, cx: &mut Context<'_>) -> io::Result<Next<'a>> {
        let mut unsent = match answer {
            Ok(answer) => Unsent::from(answer),
            Err(ordinary) => return Ok(Next::Ordinary(ordinary)),
        };
        unsent.begin(&mut self.stream, cx)?;
        Ok(if unsent.is_empty() { Next::Answered } else { Next::Unsent(Box::new(unsent)) })
    }

    /// Waits a moment for a request that may be on its way.
    async fn last_request<H: Handler>(&mut self, handler: &Arc<H>) -> io::Result<Done> {
        let begun = poll_fn(|cx| self.stream.poll_read_ready(cx));
        match in_time(Instant::now() + LAST_REQUEST, begun).await {
            // hyper reads it.
            Some(begun) => Ok(self.serve(handler, begun.map(|()| b""[..].into())?).await),
            None => Ok(Done::Over),
        }
    }
}

/// What comes of what came, if anything did, and when that was.
fn recall<'a, H: Handler>(
    words: &[u8],
    handler: &'a Arc<H>,
    peer: SocketAddr,
) -> Option<(Recalled<'a>, Instant)> {
    let now = Instant::now();
    match words {
        [] => None,
        words if may_be_known(words) => Some((handler.recall(words, peer, now), now)),
        words => Some((Recalled::Ordinary(words.into()), now)),
    }
}

/// A connection was accepted on the first worker; from here on its events come to this one.
fn moved_here(stream: TcpStream) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    // A small last piece must not wait for the acknowledgement of the one before; without it only speed is lost.
    let _ = stream.set_nodelay(true);
    TcpStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use tokio::net::TcpListener;

    use super::*;
    use crate::limits::Connections;
    use crate::stopping::Order;

    struct Nobody;

    impl Handler for Nobody {
        type Body = Incoming;

        fn handle(
            self: Arc<Self>,
            _: Request<Incoming>,
            _: SocketAddr,
        ) -> impl Future<Output = Response<Incoming>> + Send {
            pending()
        }
    }

    #[tokio::test]
    async fn there_may_be_many_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let stream = TcpStream::connect(peer).await.unwrap();
        let (clients, order) = (Arc::new(Clients::default()), Order::default());
        let admitted = Connections::new(clients.limits).admit(peer.ip()).unwrap();
        let connection = Connection::new((stream, peer), clients, Stopping::new(&order), admitted);
        // With what tokio keeps of a task beside it these are 384 bytes; one more, and it would be 512.
        assert!(size_of_val(&connection.converse(Arc::new(Nobody))) <= 280);
    }
}
