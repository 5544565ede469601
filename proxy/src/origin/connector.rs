//! Makes connections to the origin, each within one deadline for all that it takes.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::timeout;
use tower_service::Service as _;
use tracing::debug;

use super::Origin;
use super::error::Cause;
use super::presence::Presence;
use super::resolver::Resolver;
use super::upload::Upload;

/// A connection took too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s, the lookup of the name included", .0.as_secs_f32())]
struct Late(Duration);

/// Makes the connections of all workers. Clones share the lookups and the lines in the log.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    http: HttpConnector<Resolver>,
    origin: Uri,
    deadline: Duration,
    presence: Arc<Presence>,
}

impl Connector {
    pub(super) fn new(origin: &Origin, deadline: Duration) -> Self {
        Self::with(Resolver::new(deadline), origin, deadline)
    }

    fn with(resolver: Resolver, origin: &Origin, deadline: Duration) -> Self {
        let mut http = HttpConnector::new_with_resolver(resolver);
        http.set_nodelay(true);
        // Divided among the addresses of the name, so that the second is tried although the first is silent.
        http.set_connect_timeout(Some(deadline));
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(origin.authority().clone())
            .path_and_query("/")
            .build();
        // This cannot fail: the authority was part of a valid URI.
        let uri = uri.unwrap_or_default();
        Self { http, origin: uri, deadline, presence: Arc::new(Presence::new(origin.to_string())) }
    }

    /// Looks the name up, connects, and speaks HTTP.
    pub(super) async fn connect(&self) -> Result<SendRequest<Upload>, Cause> {
        let late = |_| Err(Arc::new(Late(self.deadline)) as Cause);
        let connected = timeout(self.deadline, self.try_connect()).await.unwrap_or_else(late);
        self.presence.note(&connected);
        connected
    }

    async fn try_connect(&self) -> Result<SendRequest<Upload>, Cause> {
        let mut http = self.http.clone();
        let connected = async {
            poll_fn(|cx| http.poll_ready(cx)).await?;
            http.call(self.origin.clone()).await
        };
        let stream = connected.await.map_err(|error| Arc::new(error) as Cause)?;
        let handshake = Builder::new().title_case_headers(true).writev(false).handshake(stream).await;
        let (sender, connection) = handshake.map_err(|error| Arc::new(error) as Cause)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to the origin ended");
            }
        });
        Ok(sender)
    }
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
        Connector::with(resolver, &origin.parse().unwrap(), DEADLINE)
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
