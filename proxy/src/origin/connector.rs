//! Makes connections to the origin. One deadline bounds all steps of a connection.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::http::uri::Authority;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::address::bare_host;
use super::dial::dial;
use super::error::Cause;
use super::presence::Presence;
use super::resolver::Resolver;
use super::upload::Upload;
use super::wire::{Wire, WireExchange};
use super::{Origin, OriginUrl};
use crate::tls::TlsClient;

/// The smallest buffer of a connection.
const BUFFER: usize = 64 << 10;

/// The shortest header line.
const SHORTEST_LINE: usize = "a:\n".len();

/// The most header lines, whatever their length. hyper reserves 64 bytes a line for each answer, even for short ones: that
/// costs 0.1 us up to this number, and ten times as much beyond.
pub(super) const MAX_LINES: usize = 8 << 10;

/// A connection took too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s, the lookup of the name included", .0.as_secs_f32())]
struct Late(Duration);

/// Makes the connections of all workers. Clones share the lookups and the lines in the log.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    place: OriginPlace,
    http: Builder,
    deadline: Duration,
    resolve_every: Duration,
    presence: Arc<Presence>,
}

/// Where connections lead.
#[derive(Clone, Debug)]
enum OriginPlace {
    Unix(PathBuf),
    Tcp { host: String, port: u16, resolver: Resolver, tls: Option<TlsClient> },
}

/// A connection as its requests see it.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) sender: SendRequest<Upload>,
    pub(super) exchange: WireExchange,
    /// The task that reads and writes.
    pub(super) task: AbortHandle,
    /// How often the addresses of the origin had changed when the connection was made.
    pub(super) changes: u64,
}

impl Connector {
    /// Makes connections on which the origin may send heads of up to so many bytes.
    pub(super) fn new(origin: &Origin, deadline: Duration, head: usize) -> Self {
        Self::with(Resolver::new(deadline), origin, deadline, head)
    }

    fn with(resolver: Resolver, origin: &Origin, deadline: Duration, head: usize) -> Self {
        let tcp = |authority: &Authority, port, tls| OriginPlace::Tcp {
            host: bare_host(authority).to_owned(),
            port: authority.port_u16().unwrap_or(port),
            resolver,
            tls,
        };
        let place = match &origin.url {
            OriginUrl::Unix(path) => OriginPlace::Unix(path.clone()),
            OriginUrl::Http(authority) => tcp(authority, 80, None),
            OriginUrl::Https(authority) => tcp(authority, 443, origin.tls.clone()),
        };
        let presence = Arc::new(Presence::new(origin.to_string()));
        Self { place, http: http(head), deadline, resolve_every: origin.resolve_every, presence }
    }

    /// Whether the last connection failed, on any worker.
    pub(super) fn is_away(&self) -> bool {
        self.presence.is_away()
    }

    /// Looks the name up again, if that is due. Returns how often its addresses have changed.
    pub(super) fn changes(&self) -> u64 {
        if let Some((host, resolver)) = self.name() {
            resolver.refresh(host, self.resolve_every);
        }
        self.known_changes()
    }

    /// Looks the name up, connects, and speaks HTTP.
    pub(super) async fn connect(&self) -> Result<Channel, Cause> {
        let late = |_| Err(Arc::new(Late(self.deadline)) as Cause);
        let began = Instant::now();
        // Boxed, so that requests on an open connection don't pay for it.
        let connected = timeout(self.deadline, Box::pin(self.try_connect())).await.unwrap_or_else(late);
        self.presence.note(&connected, began);
        connected
    }

    async fn try_connect(&self) -> Result<Channel, Cause> {
        match &self.place {
            OriginPlace::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(cause)?;
                self.speak(stream).await
            }
            OriginPlace::Tcp { host, port, resolver, tls } => {
                let addresses = addresses(host, *port, resolver).await?;
                let stream = dial(addresses).await.map_err(cause)?;
                match tls {
                    None => self.speak(stream).await,
                    Some(tls) => self.speak(tls.connect(stream).await.map_err(cause)?).await,
                }
            }
        }
    }

    fn known_changes(&self) -> u64 {
        self.name().map_or(0, |(_, resolver)| resolver.changes())
    }

    /// The name of the origin, if it has one, with its resolver.
    fn name(&self) -> Option<(&str, &Resolver)> {
        match &self.place {
            OriginPlace::Tcp { host, resolver, .. } if host.parse::<IpAddr>().is_err() => {
                Some((host, resolver))
            }
            OriginPlace::Tcp { .. } | OriginPlace::Unix(_) => None,
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Channel, Cause> {
        let exchange = WireExchange::default();
        let wire = TokioIo::new(Wire::new(stream, exchange.clone()));
        let (sender, connection) = self.http.handshake(wire).await.map_err(cause)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "connection to the origin ended");
            }
        });
        Ok(Channel { sender, exchange, task: task.abort_handle(), changes: self.known_changes() })
    }
}

fn cause(error: impl StdError + Send + Sync + 'static) -> Cause {
    Arc::new(error)
}

/// The addresses of a host. The host may be an address itself.
async fn addresses(host: &str, port: u16, resolver: &Resolver) -> Result<Vec<SocketAddr>, Cause> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    let found = resolver.look_up(host).await.map_err(|error| error as Cause)?;
    Ok(found.into_iter().map(|address| (address.ip(), port).into()).collect())
}

/// hyper, as it speaks to the origin.
fn http(head: usize) -> Builder {
    let mut http = Builder::new();
    // Without writev a head leaves in one piece.
    http.title_case_headers(true).writev(false).max_header_size(head).max_buf_size(head.max(BUFFER));
    http.max_headers((head / SHORTEST_LINE).min(MAX_LINES));
    http
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;
    use crate::origin::resolver::tests::scripted;

    const DEADLINE: Duration = Duration::from_secs(2);

    fn connector(origin: &str, resolver: Resolver) -> Connector {
        Connector::with(resolver, &Origin::for_all(origin.parse().unwrap(), None), DEADLINE, BUFFER)
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
