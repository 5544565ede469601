//! What `origin` and `proxy` have in common as programs: an accept loop with an orderly end, a log, exit statuses.

mod alarm;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http1;
mod limits;
mod program;
mod stopping;
mod takeover;
mod workers;

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use http1::connection::Connection;
use limits::Connections;
use stopping::{Order, Stopping};

pub use alarm::{Alarm, in_time};
pub use http1::writer::{Answer, Later, Ordinary, Recallable, Recalled, is_one_head};
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
    type Body: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Header lines, each with its end, of the answers that are given without it: to what is no request, or has no place.
    const REFUSED: &'static str = "";

    /// Answers one request of a peer.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Answers a request again that came, now, in the very same words before, if it can do so without hyper. The words may
    /// be those of more than one request; only of one that is known they are not.
    fn recall(self: &Arc<Self>, words: &[u8], _peer: SocketAddr, _now: Instant) -> Recalled<'_> {
        Recalled::Ordinary(words.into())
    }
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
    let (clients, patience) = (Arc::new(clients), clients.deadlines.shutdown);
    let order = Order::default();
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
                let stopping = Stopping::new(&order);
                let connection = Connection::new((stream, peer), clients.clone(), stopping, admitted);
                workers.next().spawn(connection.converse(handler.clone()));
            }
            Err(full) => {
                debug!(%peer, ?full, "connection refused");
                if let Some(place) = connections.farewell() {
                    tokio::spawn(http1::guard::turn_away(stream, full, H::REFUSED, place));
                }
            }
        }
    }
    // The port closes first, so that another server can have it.
    drop(listener);
    drain(order, &connections, patience).await;
}

async fn pause(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

/// Tells the connections, and waits for them.
async fn drain(order: Order, connections: &Connections, deadline: Duration) {
    let open = connections.open();
    drop(order);
    match timeout(deadline, connections.closed()).await {
        Ok(()) => info!("stopped: all requests are finished"),
        Err(_) => warn!(open, "stopped with requests under way: their deadline has passed"),
    }
}
