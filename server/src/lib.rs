//! What `origin` and `proxy` have in common as programs: an accept loop with an orderly end, a log, exit statuses.

mod program;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

pub use program::{USAGE, announce, bind, refuse, start_log, stop_signal};

/// How long to wait when no connection can be accepted, mostly for want of file descriptors: some close meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a server waits for its clients.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the head of a request.
    pub head: Duration,
    /// For requests under way when the server is told to stop.
    pub shutdown: Duration,
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

/// Serves connections, a task each, until `shutdown` completes; then lets requests under way finish.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    deadlines: Deadlines,
    shutdown: impl Future<Output = ()>,
) {
    let connections = GracefulShutdown::new();
    let http = http(deadlines.head);
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => connect(stream, peer, handler.clone(), &http, &connections),
            Err(error) => pause(&error).await,
        }
    }
    // The port closes first, so that another server can have it.
    drop(listener);
    drain(connections, deadlines.shutdown).await;
}

fn http(head_deadline: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Not pipeline_flush: it holds answers back while a next request is half there, and loses those to a bad head.
    http.timer(TokioTimer::new()).header_read_timeout(head_deadline).title_case_headers(true);
    http
}

fn connect<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    handler: Arc<H>,
    http: &http1::Builder,
    connections: &GracefulShutdown,
) {
    // A small last piece must not wait for the acknowledgement of the one before; without it only speed is lost.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.handle(request, peer).await) }
    });
    let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%peer, %error, "connection ended");
        }
    });
}

async fn pause(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

async fn drain(connections: GracefulShutdown, deadline: Duration) {
    let open = connections.count();
    match timeout(deadline, connections.shutdown()).await {
        Ok(()) => info!("stopped: all requests are finished"),
        Err(_) => warn!(open, "stopped with requests under way: their deadline has passed"),
    }
}
