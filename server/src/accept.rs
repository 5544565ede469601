//! Accepts connections on all listeners, and deals them out to the workers.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ProtocolVersion;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use crate::full::Full;
use crate::http1::connection::{LAST_REQUEST, Start, converse};
use crate::http1::farewell::{FAREWELL, farewell};
use crate::limits::{Admitted, Connections};
use crate::listener::{Accepted, BoundListener, Entrance};
use crate::peer::Peer;
use crate::refused::Refused;
use crate::stopping::{Order, Stopping};
use crate::tls::{Certificates, is_validation, speaks_http2};
use crate::{CurrentClients, Handler, Workers, http2, proxied};

/// How long to wait when no connection can be accepted, mostly for want of file descriptors: some close meanwhile.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections, a task each, dealt out to workers, until `shutdown` completes; then lets requests under way
/// finish.
pub async fn serve_on<H: Handler>(
    workers: &Workers,
    listeners: Vec<BoundListener>,
    handler: Arc<H>,
    clients: impl Into<CurrentClients>,
    shutdown: impl Future<Output = ()>,
) {
    let clients = clients.into();
    let connections = Connections::new(clients.clone());
    let order = Order::default();
    let watches = watch(&listeners);
    let (mut shutdown, mut turn) = (pin!(shutdown), 0);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listeners, &mut turn) => accepted,
            () = &mut shutdown => break,
        };
        let (stream, peer, entrance) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        // A load balancer has yet to name its client.
        let admitted = match entrance.names_client(&peer) {
            true => connections.admit_unnamed(),
            false => connections.admit(peer.ip()),
        };
        match admitted {
            Ok(admitted) => {
                let (handler, clients, stopping) = (handler.clone(), clients.known(), Stopping::new(&order));
                let start = Start { peer, handler, clients, stopping, admitted };
                begin(workers, stream, entrance, start);
            }
            Err(full) => {
                let place = connections.farewell().filter(|_| entrance.tls.is_none());
                let (refused, headers) = refuse(&*handler, full, peer, place.is_some());
                if place.is_some() {
                    tokio::spawn(turn_away(stream, refused, headers, place));
                }
            }
        }
    }
    // The ports close first, so that another server can have them.
    drop((listeners, watches));
    drain(order, &connections, clients.now().deadlines.shutdown).await;
}

/// The next connection of any listener. A listener with many connections holds up no other.
async fn accept<'a>(
    listeners: &'a [BoundListener],
    turn: &mut usize,
) -> io::Result<(Accepted, Peer, &'a Entrance)> {
    poll_fn(|cx| {
        *turn = turn.wrapping_add(1);
        for index in 0..listeners.len() {
            let listener = &listeners[(*turn + index) % listeners.len()];
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, &listener.entrance)));
            }
        }
        Poll::Pending
    })
    .await
}

/// Begins a connection on the worker whose turn it is.
fn begin<H: Handler>(workers: &Workers, stream: Accepted, entrance: &Entrance, start: Start<H>) {
    let worker = workers.next();
    match stream {
        Accepted::Unix(stream) => drop(worker.spawn(converse(stream, file_moved_here, start))),
        Accepted::Tcp(stream) if entrance.is_open(&start.peer) => {
            drop(worker.spawn(converse(stream, moved_here, start)));
        }
        Accepted::Tcp(stream) => drop(worker.spawn(enter(stream, entrance.clone(), start))),
    }
}

/// Has a connection pass the entrance, and serves it in the protocol that the client speaks.
async fn enter<H: Handler>(stream: TcpStream, entrance: Entrance, mut start: Start<H>) {
    let patience = start.clients.now().deadlines.head;
    let Start { peer, admitted, stopping, .. } = &mut start;
    // A client that connects just before the end has its request on its way, as without TLS.
    let too_late = async {
        stopping.ordered().await;
        sleep(LAST_REQUEST).await;
    };
    let passed = tokio::select! {
        passed = pass(stream, &entrance, (peer, admitted), patience) => passed,
        () = too_late => return,
    };
    if entrance.tls.is_some() && !matches!(passed, Ok(Entered::Full(..))) {
        start.admitted.counts().shook_hands(passed.as_ref().ok().and_then(Entered::version));
    }
    match passed {
        Err(error) => debug!(peer = %start.peer, %error, "connection not begun"),
        Ok(Entered::Full(mut stream, full)) => {
            let place = start.admitted.farewell().filter(|_| entrance.tls.is_none());
            let (refused, headers) = refuse(&*start.handler, full, start.peer, place.is_some());
            if place.is_some() {
                farewell(&mut stream, refused, &headers).await;
            }
        }
        Ok(Entered::Plain(stream)) => converse(stream, Ok, start).await,
        Ok(Entered::Tls(stream)) if speaks_http2(&stream) => http2::serve(*stream, start).await,
        Ok(Entered::Tls(mut stream)) => {
            if !is_validation(&stream) {
                converse(&mut *stream, Ok, start).await;
            }
            // The end of TLS. A client that has gone does not hear it.
            let _ = timeout(FAREWELL, stream.shutdown()).await;
        }
    }
}

/// A connection that has passed the entrance.
enum Entered {
    /// There is no place for the client that the load balancer names.
    Full(TcpStream, Full),
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Entered {
    /// The version of TLS.
    fn version(&self) -> Option<ProtocolVersion> {
        match self {
            Self::Full(..) | Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.protocol_version(),
        }
    }
}

/// Has the load balancer name its client, and makes the TLS handshake with the client.
async fn pass(
    stream: TcpStream,
    entrance: &Entrance,
    (peer, admitted): (&mut Peer, &mut Admitted),
    patience: Duration,
) -> io::Result<Entered> {
    let mut stream = moved_here(stream)?;
    if entrance.names_client(peer)
        && let Some(address) = proxied::client(&mut stream).await?
    {
        peer.address = address;
        if let Err(full) = admitted.name(peer.ip()) {
            return Ok(Entered::Full(stream, full));
        }
    }
    match &entrance.tls {
        None => Ok(Entered::Plain(stream)),
        Some((handshakes, _)) => {
            peer.is_tls = true;
            Ok(Entered::Tls(Box::new(handshakes.accept(stream, patience).await?)))
        }
    }
}

/// Notes a connection without a place. Returns the answer for it; `is_told` says whether the answer is sent.
fn refuse(handler: &impl Handler, full: Full, peer: Peer, is_told: bool) -> (Refused, String) {
    debug!(%peer, ?full, "connection refused");
    let refused = Refused::from(full);
    let bytes = if is_told { refused.text().len() as u64 } else { 0 };
    (refused, format!("Retry-After: 1\r\n{}", handler.refused(refused, bytes, peer)))
}

/// Answers a connection without a place among the connections. `place` is one of the few for such answers.
async fn turn_away(stream: Accepted, refused: Refused, headers: String, place: impl Sized) {
    match stream {
        Accepted::Tcp(mut stream) => farewell(&mut stream, refused, &headers).await,
        Accepted::Unix(mut stream) => farewell(&mut stream, refused, &headers).await,
    }
    drop(place);
}

/// Moves a connection from the first worker, which accepted it, to the calling one, which gets its events from now on.
fn moved_here(stream: TcpStream) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    // With Nagle's algorithm a small last piece would wait for the acknowledgement of the piece before. If this fails, only
    // speed is lost.
    let _ = stream.set_nodelay(true);
    TcpStream::from_std(stream)
}

/// As [`moved_here`], for a Unix socket.
fn file_moved_here(stream: UnixStream) -> io::Result<UnixStream> {
    UnixStream::from_std(stream.into_std()?)
}

async fn pause(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

/// Looks now and then whether certificates have changed, until it is dropped.
fn watch(listeners: &[BoundListener]) -> JoinSet<()> {
    let certificates = listeners.iter().filter_map(|listener| listener.entrance.tls.as_ref());
    certificates.map(|(_, certificates)| certificates.clone()).map(Certificates::watch).collect()
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
