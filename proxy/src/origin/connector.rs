//! Makes connections to the origin, each within one deadline for all that it takes.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tower_service::Service as _;
use tracing::debug;

use super::Origin;
use super::error::Cause;
use super::presence::Presence;
use super::resolver::Resolver;
use super::upload::Upload;
use super::wire::{NextTarget, Wire};

/// The least that a connection may buffer.
const BUFFER: usize = 64 << 10;

/// The shortest header line.
const SHORTEST_LINE: usize = "a:\n".len();

/// The most header lines, whatever their length. hyper reserves 64 bytes a line for each answer, whatever it has: 0.1 us up
/// to here, and ten times as much beyond.
pub(super) const MAX_LINES: usize = 8 << 10;

/// A connection took too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s, the lookup of the name included", .0.as_secs_f32())]
struct Late(Duration);

/// Makes the connections of all workers. Clones share the lookups and the lines in the log.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    http: Builder,
    origin: Uri,
    deadline: Duration,
    presence: Arc<Presence>,
}

/// A connection as its requests see it.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) sender: SendRequest<Upload>,
    pub(super) target: NextTarget,
    /// The task that reads and writes.
    pub(super) task: AbortHandle,
}

impl Connector {
    /// Makes connections on which the origin sends heads of at most so many bytes.
    pub(super) fn new(origin: &Origin, deadline: Duration, head: usize) -> Self {
        Self::with(Resolver::new(deadline), origin, deadline, head)
    }

    fn with(resolver: Resolver, origin: &Origin, deadline: Duration, head: usize) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.set_nodelay(true);
        // Divided among the addresses of the name, so that the second is tried although the first is silent.
        tcp.set_connect_timeout(Some(deadline));
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(origin.authority().clone())
            .path_and_query("/")
            .build();
        // This cannot fail: the authority was part of a valid URI.
        let uri = uri.unwrap_or_default();
        let presence = Arc::new(Presence::new(origin.to_string()));
        Self { tcp, http: http(head), origin: uri, deadline, presence }
    }

    /// Whether the last connection failed, of any worker.
    pub(super) fn is_away(&self) -> bool {
        self.presence.is_away()
    }

    /// Looks the name up, connects, and speaks HTTP.
    pub(super) async fn connect(&self) -> Result<Channel, Cause> {
        let late = |_| Err(Arc::new(Late(self.deadline)) as Cause);
        let connected = timeout(self.deadline, self.try_connect()).await.unwrap_or_else(late);
        self.presence.note(&connected);
        connected
    }

    async fn try_connect(&self) -> Result<Channel, Cause> {
        let mut tcp = self.tcp.clone();
        let connected = async {
            poll_fn(|cx| tcp.poll_ready(cx)).await?;
            tcp.call(self.origin.clone()).await
        };
        let stream = connected.await.map_err(|error| Arc::new(error) as Cause)?;
        let target = NextTarget::default();
        let handshake = self.http.handshake(Wire::new(stream, target.clone())).await;
        let (sender, connection) = handshake.map_err(|error| Arc::new(error) as Cause)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to the origin ended");
            }
        });
        Ok(Channel { sender, target, task: task.abort_handle() })
    }
}

/// hyper, as it speaks to the origin.
fn http(head: usize) -> Builder {
    let mut http = Builder::new();
    // Not writev: a head leaves in one piece.
    http.title_case_headers(true).writev(false).max_header_size(head).max_buf_size(head.max(BUFFER));
    http.max_headers((head / SHORTEST_LINE).min(MAX_LINES));
    http
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::origin::resolver::tests::scripted;

    const DEADLINE: Duration = Duration::from_secs(2);

    fn connector(origin: &str, resolver: Resolver) -> Connector {
        Connector::with(resolver, &origin.parse().unwrap(), DEADLINE, BUFFER)
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_of_a_connection_covers_the_lookup_of_the_name() {
        let (resolver, begun) = scripted();
        let connector = connector("http://origin:8001", resolver);
        let started = Instant::now();
        let error = connector.connect().await.unwrap_err();
        assert_eq!(error.to_string(), "no connection within 2 s, the lookup of the name included");
        assert_eq!(started.elapsed(), DEADLINE);
        // The lookup is still under way.
        drop(begun.recv().unwrap());
    }

    #[tokio::test]
    async fn the_origin_is_where_its_name_leads() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (resolver, begun) = scripted();
        let connector = connector(&format!("http://origin:{port}"), resolver);
        let connected = tokio::spawn(async move { connector.connect().await.is_ok() });
        let asked = tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        asked.send((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert!(connected.await.unwrap());
        listener.accept().await.unwrap();
    }
}
