//! The parts that the programs `origin` and `proxy` share.
//!
//! [`serve_on`] accepts connections and deals them out to [`Workers`], one runtime for each core. A connection speaks HTTP/1.1
//! (`http1`) or HTTP/2 (`http2`). The front of an HTTP/1.1 connection reads plain requests and asks the [`Handler`] to answer
//! them at once; such an answer leaves in one write. Every other request goes to hyper, and from there to [`Handler::handle`].
//! [`ClientDeadlines`] and [`ClientLimits`] bound how much a client may take. [`take`] and [`Offer`] hand the port from one
//! process to the next.

mod accept;
mod alarm;
mod client_counts;
mod clients;
mod files;
mod full;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod http1;
mod http2;
mod limits;
mod listener;
mod log_filter;
mod peer;
mod program;
mod proxied;
mod refused;
mod seldom;
mod socket_file;
mod stopping;
mod takeover;
mod tls;
mod workers;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use tokio::time::Instant;

pub use accept::serve_on;
pub use alarm::{Alarm, in_time};
pub use client_counts::ClientTotals;
pub use clients::CurrentClients;
pub use files::granted_files;
pub use health::{health, reachable};
pub use http1::head::RequestHead;
pub use http1::target::SentTarget;
pub use http1::tunnel::HeldByTunnel;
pub use http1::writer::Answer;
pub use limits::ClientLimits;
pub use listener::{BoundListener, ListenAddress, ListenSettings};
pub use log_filter::{LogFilter, start_log};
pub use peer::Peer;
pub use program::{USAGE, announce, bind, fail, refuse, run, stop_signal};
pub use refused::Refused;
pub use seldom::Seldom;
pub use socket_file::bind_file;
pub use takeover::{Offer, Predecessor, take};
pub use tls::{
    CertificateFiles, Certificates, ChallengeProof, FoundProof, IssuedCertificates, NamedCertificate,
    Validity,
};
pub use workers::{PerWorker, Workers};

/// How long a server waits for its clients.
#[derive(Clone, Copy, Debug)]
pub struct ClientDeadlines {
    /// The time for the head of a request, counted from its first byte.
    pub head: Duration,
    /// The time until the next request. It is more than the 60 s after which most load balancers close a connection: if the
    /// server closes it first, a request that is on its way is lost.
    pub idle: Duration,
    /// The time for a client to take any byte of an answer.
    pub write: Duration,
    /// The time for requests under way when the server stops.
    pub shutdown: Duration,
    /// The time for the next byte of a connection that has changed to another protocol, in either direction.
    pub tunnel: Duration,
}

impl Default for ClientDeadlines {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            shutdown: Duration::from_secs(10),
            tunnel: Duration::from_secs(3600),
        }
    }
}

/// The deadlines and limits of clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clients {
    /// How long the server waits for them.
    pub deadlines: ClientDeadlines,
    /// How much they may ask for.
    pub limits: ClientLimits,
}

/// Answers requests. It always answers: a failure is an answer, too.
///
/// A plain request comes to [`answer`](Self::answer) first. If that does not answer it, hyper reads the request, and
/// [`handle`](Self::handle) gets it with the decision.
pub trait Handler: Send + Sync + 'static {
    /// The body of the answers that hyper writes.
    type Body: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + Unpin + 'static;
    /// The body of an answer that hyper does not write: whole, and in memory.
    type Page: AsRef<[u8]> + Send + 'static;
    /// A look into a store that a decision waits for.
    type Lookup: Send + 'static;
    /// The decision on a request that hyper reads.
    type Decision: Send + 'static;
    /// The record of a request.
    type Record: Record;

    /// Answers a plain request at once, as far as that can be done without waiting.
    fn answer(self: &Arc<Self>, head: &RequestHead<'_>, peer: Peer, now: Instant) -> Decided<Self>;

    /// Finishes a decision that waits.
    fn look_up(
        self: &Arc<Self>,
        lookup: &Self::Lookup,
        head: &RequestHead<'_>,
        peer: Peer,
    ) -> impl Future<Output = Result<Answer<Self::Page, Self::Record>, Self::Decision>> + Send;

    /// Answers a request that hyper has read. `decision` is the decision on it, if there is one already.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        decision: Option<Self::Decision>,
    ) -> impl Future<Output = (Response<Self::Body>, Self::Record)> + Send;

    /// Notes that the server itself refuses a peer, with an answer of so many bytes. Returns further header lines for this
    /// answer, each with its line end.
    fn refused(&self, _refused: Refused, _bytes: u64, _peer: Peer) -> String {
        String::new()
    }
}

/// The result of [`Handler::answer`].
pub enum Decided<H: Handler + ?Sized> {
    /// The answer.
    Answer(Answer<H::Page, H::Record>),
    /// The decision waits for a look into the store.
    Lookup(H::Lookup),
    /// hyper reads the request, and the handler gets it together with this decision.
    Decision(H::Decision),
}

/// The record of a request. Dropping it ends the request.
pub trait Record: Send + Unpin + 'static {
    /// Notes that so many bytes of the answer's body were sent.
    fn sent(&mut self, bytes: u64);
}

impl Record for () {
    fn sent(&mut self, _: u64) {}
}

/// Serves connections on the calling runtime, as [`serve_on`] does.
pub async fn serve<H: Handler>(
    listener: impl Into<BoundListener>,
    handler: Arc<H>,
    clients: impl Into<CurrentClients>,
    shutdown: impl Future<Output = ()>,
) {
    serve_on(&Workers::here(), vec![listener.into()], handler, clients, shutdown).await;
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::http1::testing::{Scripted, TestClient, get, post};

    /// A server of a scripted handler, on a port of its own.
    struct Server {
        address: SocketAddr,
        handler: Arc<Scripted>,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn start(clients: Clients) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let (address, handler) = (listener.local_addr().unwrap(), Scripted::new());
            let (stop, stopped) = oneshot::channel();
            let served = serve(listener, handler.clone(), clients, async { drop(stopped.await) });
            Self { address, handler, stop, task: tokio::spawn(served) }
        }

        async fn connect(&self) -> TestClient<TcpStream> {
            TestClient(TcpStream::connect(self.address).await.unwrap())
        }

        /// Completes when so many notes have been written.
        async fn noted(&self, count: usize) {
            let mut notes = Vec::new();
            while notes.len() < count {
                tokio::task::yield_now().await;
                notes.extend(self.handler.notes());
            }
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_place_is_told_so() {
        for (limits, status) in [
            (ClientLimits { connections: 1, ..ClientLimits::default() }, "503 Service Unavailable"),
            (ClientLimits { connections_per_address: 1, ..ClientLimits::default() }, "429 Too Many Requests"),
        ] {
            let server = Server::start(Clients { limits, ..Clients::default() }).await;
            let mut first = server.connect().await;
            first.send(&get("/now")).await;
            assert_eq!(first.page().await, "/now");
            server.handler.notes();
            let mut second = server.connect().await;
            let told = second.rest().await;
            assert!(told.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{told}");
            assert!(told.contains("\r\nRetry-After: 1\r\nVia: scripted\r\n"), "{told}");
            assert_eq!(server.handler.notes(), [format!("refuse {}", &status[..3])]);
            first.send(&get("/now")).await;
            assert_eq!(first.page().await, "/now");
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_closes_its_port_and_finishes_the_requests_under_way() {
        let server = Server::start(Clients::default()).await;
        let mut clients = [server.connect().await, server.connect().await];
        for (client, request) in clients.iter_mut().zip([get("/later"), post("/wait", "abc")]) {
            client.send(&request).await;
        }
        // Two for the lookup, one for the other.
        server.noted(3).await;
        server.stop.send(()).unwrap();
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!server.task.is_finished());
        server.handler.open(2);
        for (mut client, page) in clients.into_iter().zip(["/later", "/wait"]) {
            assert_eq!(client.page().await, page);
            drop(client);
        }
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_stops_waits_for_requests_until_its_deadline() {
        let deadlines = ClientDeadlines { shutdown: Duration::from_millis(20), ..ClientDeadlines::default() };
        let server = Server::start(Clients { deadlines, ..Clients::default() }).await;
        let mut client = server.connect().await;
        client.send(&get("/later")).await;
        server.noted(2).await;
        server.stop.send(()).unwrap();
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn connections_are_dealt_out_to_all_workers() {
        let workers = Workers::one_a_core().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, handler) = (listener.local_addr().unwrap(), Scripted::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = serve_on(&workers, vec![listener.into()], handler, Clients::default(), async {
            drop(stopped.await)
        });
        let asked = async {
            for _ in 0..2 * workers::cores() {
                let mut client = TestClient(TcpStream::connect(address).await.unwrap());
                for (request, page) in [(get("/now"), "/now"), (post("/post", "abc"), "/post")] {
                    client.send(&request).await;
                    assert_eq!(client.page().await, page);
                }
            }
            drop(stop);
        };
        tokio::join!(served, asked);
    }
}
