//! What `origin` and `proxy` have in common as programs: an accept loop with an orderly end, a log, exit statuses.

mod guard;
mod heads;
mod limits;
mod program;
mod socket;
mod takeover;
mod timer;
mod workers;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use guard::Guarded;
use limits::{Admitted, Connections};
use socket::Socket;
use timer::LazyTimer;

pub use limits::Limits;
pub use program::{USAGE, announce, bind, refuse, start_log, stop_signal};
pub use takeover::{Offer, Predecessor, take};
pub use workers::{PerWorker, Workers};

/// How long to wait when no connection can be accepted, mostly for want of file descriptors: some close meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a server waits for its clients.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the head of a request, from its first byte on.
    pub head: Duration,
    /// For the next request.
    pub idle: Duration,
    /// For a client to take anything of an answer at all.
    pub write: Duration,
    /// For requests under way when the server is told to stop.
    pub shutdown: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// What a server grants its clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clients {
    /// How long it waits for them.
    pub deadlines: Deadlines,
    /// How much they may ask for.
    pub limits: Limits,
}

/// Who answers. It always does: what went wrong is an answer too.
pub trait Handler: Send + Sync + 'static {
    /// The body of its answers.
    type Body: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers one request of a peer.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Serves connections on the calling runtime, as [`serve_on`] does.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    clients: Clients,
    shutdown: impl Future<Output = ()>,
) {
    serve_on(&Workers::here(), listener, handler, clients, shutdown).await;
}

/// Serves connections, a task each, dealt out to workers, until `shutdown` completes; then lets requests under way
/// finish.
pub async fn serve_on<H: Handler>(
    workers: &Workers,
    listener: TcpListener,
    handler: Arc<H>,
    clients: Clients,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Connections::new(clients.limits);
    let (stop, stopping) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        match connections.admit(peer.ip()) {
            Ok(admitted) => {
                let connection = Connection { stream, peer, clients, stopping: stopping.clone(), admitted };
                workers.next().spawn(connection.converse(handler.clone()));
            }
            Err(full) => {
                debug!(%peer, ?full, "connection refused");
                if let Some(place) = connections.farewell() {
                    tokio::spawn(guard::turn_away(stream, full, place));
                }
            }
        }
    }
    // The port closes first, so that another server can have it.
    drop((listener, stopping));
    drain(stop, clients.deadlines.shutdown).await;
}

/// A client's connection, accepted.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    clients: Clients,
    stopping: watch::Receiver<()>,
    /// Its place, for as long as it lives.
    admitted: Admitted,
}

impl Connection {
    /// From its first request to its end, on the worker that has it.
    async fn converse<H: Handler>(self, handler: Arc<H>) {
        let Self { stream, peer, clients, mut stopping, admitted } = self;
        let stream = match moved_here(stream) {
            Ok(stream) => stream,
            Err(error) => return debug!(%peer, %error, "connection lost"),
        };
        if !has_begun(&stream, &mut stopping, clients.deadlines.idle).await {
            return debug!(%peer, "connection ended before its first request");
        }
        let stream = Guarded::new(stream, clients.limits, clients.deadlines);
        // The first request may have come after the order to end.
        let is_last = AtomicBool::new(stopping.has_changed().unwrap_or(true));
        let service = service_fn(|request| answer(handler.clone(), request, peer, &is_last));
        let mut connection = http(&clients).serve_connection(Socket::new(stream), service);
        let ended = tokio::select! {
            biased;
            ended = &mut connection => Some(ended),
            // Said, or its sender dropped: the end is near in either case.
            _ = stopping.changed() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                is_last.store(true, Ordering::Relaxed);
                match timeout(LAST_REQUEST, &mut connection).await {
                    Ok(ended) => ended,
                    Err(_) => {
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
        drop(admitted);
    }
}

/// How long a connection on which nothing is asked is kept at the end: a request may be on its way to us, which many clients
/// do not send twice.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// Whether a first request comes.
async fn has_begun(stream: &TcpStream, stopping: &mut watch::Receiver<()>, idle: Duration) -> bool {
    let begun = tokio::select! {
        biased;
        begun = timeout(idle, stream.readable()) => begun,
        _ = stopping.changed() => {
            stopping.mark_changed();
            timeout(LAST_REQUEST, stream.readable()).await
        }
    };
    matches!(begun, Ok(Ok(())))
}

async fn answer<H: Handler>(
    handler: Arc<H>,
    request: Request<Incoming>,
    peer: SocketAddr,
    is_last: &AtomicBool,
) -> Result<Response<H::Body>, Infallible> {
    let is_chunked = request.body().size_hint().exact().is_none();
    let mut response = handler.handle(request, peer).await;
    // Heads are not followed behind chunks: the next request has a connection of its own.
    if is_chunked || is_last.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
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

async fn pause(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

/// Tells the connections, and waits for them: each holds a receiver for as long as it lives.
async fn drain(stop: watch::Sender<()>, deadline: Duration) {
    let open = stop.receiver_count();
    stop.send_replace(());
    match timeout(deadline, stop.closed()).await {
        Ok(()) => info!("stopped: all requests are finished"),
        Err(_) => warn!(open, "stopped with requests under way: their deadline has passed"),
    }
}
