//! What `origin` and `proxy` have in common as programs: an accept loop with an orderly end, a log, exit statuses.

mod connections;
mod program;
mod takeover;
mod workers;

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

pub use program::{USAGE, announce, bind, refuse, start_log, stop_signal};
pub use takeover::{Offer, Predecessor, take};
pub use workers::{PerWorker, Workers};

use connections::{Connections, Place};

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

/// Serves connections on the calling runtime, as [`serve_on`] does.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    deadlines: Deadlines,
    shutdown: impl Future<Output = ()>,
) {
    serve_on(&Workers::here(), listener, handler, deadlines, shutdown).await;
}

/// Serves connections, a task each, dealt out to workers, until `shutdown` completes; then lets requests under way
/// finish.
pub async fn serve_on<H: Handler>(
    workers: &Workers,
    listener: TcpListener,
    handler: Arc<H>,
    deadlines: Deadlines,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Connections::new();
    let http = http(deadlines.head);
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let place = connections.place();
                let connection = converse(stream, peer, handler.clone(), http.clone(), place);
                workers.next().spawn(connection);
            }
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

/// One connection from its first request to its end, on the worker that has it.
async fn converse<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    handler: Arc<H>,
    http: http1::Builder,
    place: Place,
) {
    let ended = match moved_here(stream) {
        Ok(stream) => place.serve(stream, &http, |request| handler.clone().handle(request, peer)).await,
        Err(error) => return debug!(%peer, %error, "connection lost"),
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "connection ended");
    }
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

async fn drain(connections: Connections, deadline: Duration) {
    let open = connections.count();
    match timeout(deadline, connections.end()).await {
        Ok(()) => info!("stopped: all requests are finished"),
        Err(_) => warn!(open, "stopped with requests under way: their deadline has passed"),
    }
}
