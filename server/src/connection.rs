//! A client's connection, from its first request to its end.
//!
//! At rest it waits for words, and is no more than a socket: idle connections are many. What it is asked in words that
//! are known is answered at once ([`crate::recall`]); for the rest hyper takes over, until the connection is at rest again.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::Extensions;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use crate::guard::Guarded;
use crate::limits::Admitted;
use crate::recall::{Ordinary, Recallable, Recalled, Resumed, Unsent, may_be_known, poll_take};
use crate::rest::{Counted, Rest};
use crate::socket::Socket;
use crate::stopping::Stopping;
use crate::timer::{Alarm, LazyTimer, in_time};
use crate::{Clients, Handler};

/// How long a connection on which nothing is asked is kept at the end: a request may be on its way to us, which many clients
/// do not send twice.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How long hyper stays with a connection on which nothing is asked. It holds some ten kilobytes for it.
const LINGER: Duration = Duration::from_secs(1);

/// A connection that was accepted. There may be many, of which most are idle: what an idle one does not need is in boxes.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    clients: Arc<Clients>,
    alarm: Alarm,
    stopping: Stopping,
    /// Whether the next answer is the last.
    is_last: bool,
    /// Its place, for as long as it lives.
    _admitted: Admitted,
}

/// What comes next on a connection at rest.
enum Next<'a> {
    /// What came, and when.
    Words(Recalled<'a>, Instant),
    End,
}

/// Why hyper is done with a connection.
enum Done {
    /// Since then.
    AtRest(Instant),
    Over,
}

impl Connection {
    pub(crate) fn new(
        (stream, peer): (TcpStream, SocketAddr),
        clients: Arc<Clients>,
        stopping: Stopping,
        admitted: Admitted,
    ) -> Self {
        Self { stream, peer, clients, alarm: Alarm::default(), stopping, is_last: false, _admitted: admitted }
    }

    /// Serves it, on the worker that it was dealt to.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
    pub(crate) fn converse<H: Handler>(mut self, handler: Arc<H>) -> impl Future<Output = ()> + Send {
        async move {
            let (peer, patience) = (self.peer, self.clients.deadlines.write);
            match moved_here(self.stream) {
                Ok(stream) => self.stream = stream,
                Err(error) => return debug!(%peer, %error, "connection lost"),
            }
            // The first request may have come after the order to end.
            self.is_last = self.stopping.is_now();
            let mut at_rest_since = Instant::now();
            while let Next::Words(recalled, mut came) = self.next(&handler, at_rest_since).await {
                let answer = match recalled {
                    Recalled::Answer(answer) => Ok(answer),
                    Recalled::Later(answer) => {
                        let answer = answer.await;
                        came = Instant::now();
                        answer
                    }
                    Recalled::Ordinary(ordinary) => Err(ordinary),
                };
                at_rest_since = match answer {
                    Ok(answer) => {
                        let mut unsent = Unsent::from(answer);
                        match poll_fn(|cx| Poll::Ready(unsent.begin(&mut self.stream, cx))).await {
                            // Went out at once: that needs no look at the clock.
                            Ok(()) if unsent.is_empty() => came,
                            Ok(()) => match Box::pin(unsent.finish(&mut self.stream, patience)).await {
                                Ok(()) => Instant::now(),
                                Err(error) => return debug!(%peer, %error, "connection ended"),
                            },
                            Err(error) => return debug!(%peer, %error, "connection ended"),
                        }
                    }
                    Err(ordinary) => match Box::pin(self.serve(&handler, ordinary)).await {
                        Done::AtRest(since) => since,
                        Done::Over => return,
                    },
                };
            }
            debug!(%peer, "connection ended between requests");
        }
    }

    /// Waits for the next request, on a connection that has been at rest since then.
    async fn next<'a, H: Handler>(&mut self, handler: &'a Arc<H>, at_rest_since: Instant) -> Next<'a> {
        let Self { stream, peer, clients, alarm, stopping, is_last, .. } = self;
        if !*is_last {
            let idle_until = at_rest_since + clients.deadlines.idle;
            let next = poll_fn(|cx| {
                if let Poll::Ready(next) = poll_words(stream, cx, handler, *peer) {
                    return Poll::Ready(Some(next.unwrap_or(Next::End)));
                }
                match alarm.poll(cx, idle_until) {
                    Poll::Ready(()) => Poll::Ready(Some(Next::End)),
                    Poll::Pending => stopping.poll(cx).map(|()| None),
                }
            });
            if let Some(next) = next.await {
                return next;
            }
            *is_last = true;
        }
        let begun = poll_fn(|cx| stream.poll_read_ready(cx));
        match Box::pin(in_time(Instant::now() + LAST_REQUEST, begun)).await {
            // hyper reads it.
            Some(Ok(())) => Next::Words(Recalled::Ordinary(b""[..].into()), Instant::now()),
            _ => Next::End,
        }
    }

    /// Has hyper serve the connection, until it is at rest or over.
    async fn serve<H: Handler>(&mut self, handler: &Arc<H>, ordinary: Ordinary) -> Done {
        let Self { stream, peer, clients, stopping, is_last, .. } = self;
        let (peer, rest) = (*peer, Rest::default());
        let Ordinary { words, extensions } = ordinary;
        let turn = Turn {
            handler,
            peer,
            extensions: Mutex::new(extensions),
            is_last: AtomicBool::new(*is_last),
            leaves: AtomicBool::new(false),
            rest: rest.clone(),
        };
        let stream = Guarded::new(Resumed { words, stream }, clients.limits, clients.deadlines, rest.clone());
        let service = service_fn(|request| turn.answer(request));
        let mut connection = http(clients).serve_connection(Socket::new(stream, rest.clone()), service);
        let pause = match *is_last {
            true => Pause::Stopping,
            false => tokio::select! {
                biased;
                pause = turn.until_rest(&mut connection) => pause,
                () = poll_fn(|cx| stopping.poll(cx)) => Pause::Stopping,
            },
        };
        let ended = match pause {
            Pause::AtRest(since) => {
                // What is left can be nobody's: all that came has been answered.
                let is_clean = connection.into_parts().read_buf.is_empty();
                return if is_clean { Done::AtRest(since) } else { Done::Over };
            }
            Pause::Ended(ended) => ended,
            Pause::Stopping => {
                *is_last = true;
                turn.is_last.store(true, Ordering::Relaxed);
                match in_time(Instant::now() + LAST_REQUEST, &mut connection).await {
                    Some(ended) => ended,
                    None => {
                        // Closes it now if nothing is under way.
                        Pin::new(&mut connection).graceful_shutdown();
                        (&mut connection).await
                    }
                }
            }
        };
        let stream = connection.into_parts().io.into_inner();
        if let Err(error) = ended {
            debug!(%peer, %error, refused = ?stream.refused(), "connection ended");
        }
        stream.say_why().await;
        Done::Over
    }
}

/// What hyper asks while it has a connection.
struct Turn<'a, H> {
    handler: &'a Arc<H>,
    peer: SocketAddr,
    /// For the first request.
    extensions: Mutex<Extensions>,
    is_last: AtomicBool,
    /// Whether hyper is to leave as soon as the connection is at rest.
    leaves: AtomicBool,
    rest: Rest,
}

/// Why hyper's turn may be over.
enum Pause {
    AtRest(Instant),
    Ended(hyper::Result<()>),
    Stopping,
}

impl<H: Handler> Turn<'_, H> {
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Counted<H::Body>>, Infallible> {
        let extensions = std::mem::take(&mut *self.extensions.lock().unwrap_or_else(PoisonError::into_inner));
        request.extensions_mut().extend(extensions);
        let is_chunked = request.body().size_hint().exact().is_none();
        let mut response = self.handler.clone().handle(request, self.peer).await;
        // Heads are not followed behind chunks: the next request has a connection of its own.
        if is_chunked || self.is_last.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if response.extensions_mut().remove::<Recallable>().is_some() {
            self.leaves.store(true, Ordering::Relaxed);
        }
        Ok(response.map(|body| Counted::new(body, self.rest.clone())))
    }

    /// Until the connection is over, or at rest and hyper has no more to do there.
    async fn until_rest<C>(&self, connection: &mut C) -> Pause
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        let (mut alarm, mut answered, mut since) = (Alarm::default(), 0, Instant::now());
        poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Pause::Ended(ended)),
            Poll::Pending if !self.rest.is_now() => Poll::Pending,
            Poll::Pending => {
                if answered != self.rest.answered() {
                    (answered, since) = (self.rest.answered(), Instant::now());
                }
                let is_over =
                    self.leaves.load(Ordering::Relaxed) || alarm.poll(cx, since + LINGER).is_ready();
                if is_over { Poll::Ready(Pause::AtRest(since)) } else { Poll::Pending }
            }
        })
        .await
    }
}

/// Reads the words of the next request, if anything has come, and asks for what is known of them.
fn poll_words<'a, H: Handler>(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    handler: &'a Arc<H>,
    peer: SocketAddr,
) -> Poll<io::Result<Next<'a>>> {
    poll_take(stream, cx, |words| {
        let now = Instant::now();
        match words {
            [] => Next::End,
            words if may_be_known(words) => Next::Words(handler.recall(words, peer, now), now),
            words => Next::Words(Recalled::Ordinary(words.into()), now),
        }
    })
}

fn http(clients: &Clients) -> http1::Builder {
    /// The least that uploads are read in, and answers written.
    const BUFFER: usize = 64 << 10;
    /// As many fit on hyper's stack; more are counted on the heap.
    const HEADERS: usize = 100;
    let Clients { deadlines, limits } = clients;
    let mut http = http1::Builder::new();
    // Not pipeline_flush: it holds answers back while a next request is half there, and loses those to a bad head.
    http.timer(LazyTimer::default()).title_case_headers(true).max_buf_size(BUFFER.max(limits.head));
    // Between two requests, that is: a head that has begun has a deadline of its own.
    http.header_read_timeout(deadlines.idle.max(deadlines.head));
    if limits.headers > HEADERS {
        http.max_headers(limits.headers);
    }
    http
}

/// A connection was accepted on the first worker; from here on its events come to this one.
fn moved_here(stream: TcpStream) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    // A small last piece must not wait for the acknowledgement of the one before; without it only speed is lost.
    let _ = stream.set_nodelay(true);
    TcpStream::from_std(stream)
}
