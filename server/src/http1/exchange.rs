//! A connection while hyper has it: for what is asked in words that are not known.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::Extensions;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::time::Instant;
use tracing::debug;

use crate::alarm::{Alarm, LazyTimer, in_time};
use crate::http1::connection::{Connection, Done, LAST_REQUEST};
use crate::http1::guard::Guarded;
use crate::http1::rest::{Counted, Rest};
use crate::http1::socket::Socket;
use crate::http1::writer::{Ordinary, Recallable, Resumed};
use crate::{Clients, Handler};

/// How long hyper stays with a connection on which nothing is asked. It holds some ten kilobytes for it.
const LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// Has hyper serve it, until it is at rest or over.
    pub(crate) async fn serve<H: Handler>(&mut self, handler: &Arc<H>, ordinary: Ordinary) -> Done {
        let Self { stream, peer, clients, at_rest_since, stopping, .. } = self;
        let Ordinary { words, extensions } = ordinary;
        let turn = Turn {
            handler,
            peer: *peer,
            extensions: Mutex::new(extensions),
            is_last: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            rest: Rest::default(),
        };
        let stream = Resumed { words, stream };
        let stream = Guarded::new(stream, clients.limits, clients.deadlines, turn.rest.clone());
        let service = service_fn(|request| turn.answer(request));
        let mut connection = http(clients).serve_connection(Socket::new(stream, turn.rest.clone()), service);
        let pause = tokio::select! {
            biased;
            () = poll_fn(|cx| stopping.poll(cx)) => Pause::Stopping,
            pause = turn.until_rest(&mut connection) => pause,
        };
        let ended = match pause {
            Pause::AtRest(since) => {
                *at_rest_since = since;
                // What is left can be nobody's: all that came has been answered.
                let is_clean = connection.into_parts().read_buf.is_empty();
                return if is_clean { Done::AtRest } else { Done::Over };
            }
            Pause::Ended(ended) => ended,
            Pause::Stopping => {
                turn.until_over(&mut connection, |connection| connection.graceful_shutdown()).await
            }
        };
        let stream = connection.into_parts().io.into_inner();
        if let Err(error) = ended {
            debug!(%peer, %error, refused = ?stream.refused(), "connection ended");
        }
        stream.say_why(H::REFUSED).await;
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

    /// Until the connection is over, of which the next answer is the last.
    async fn until_over<C>(&self, connection: &mut C, close: impl FnOnce(Pin<&mut C>)) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        self.is_last.store(true, Ordering::Relaxed);
        if let Some(ended) = in_time(Instant::now() + LAST_REQUEST, &mut *connection).await {
            return ended;
        }
        // At once if nothing is under way.
        close(Pin::new(&mut *connection));
        connection.await
    }
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
