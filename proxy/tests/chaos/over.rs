//! With `CACHEPAGE_TEST_TLS=1` the proxy speaks TLS, and with `CACHEPAGE_TEST_TLS=h2` its clients speak HTTP/2. They connect
//! to an address that leads to it.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use h2::Reason;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::tunnel::{Authority, Pair};

/// The way to a proxy that speaks TLS.
#[derive(Clone)]
pub(crate) struct Over {
    issuer: Arc<Issuer>,
}

/// An authority with the certificate of all proxies.
struct Issuer {
    authority: Authority,
    pair: Pair,
}

/// A client's connection to the proxy, unless it has failed.
type Kept = tokio::sync::Mutex<Option<SendRequest<Empty<Bytes>>>>;

impl Over {
    /// The way that the environment chooses. A proxy and the one that takes over from it have one certificate.
    pub(crate) fn chosen() -> Option<Self> {
        static ISSUER: Mutex<Weak<Issuer>> = Mutex::new(Weak::new());
        if !Self::is_chosen() {
            return None;
        }
        let mut known = ISSUER.lock().unwrap();
        let issuer = known.upgrade().unwrap_or_else(|| {
            let authority = Authority::new();
            let pair = authority.issue(&["127.0.0.1"]);
            Arc::new(Issuer { authority, pair })
        });
        *known = Arc::downgrade(&issuer);
        Some(Self { issuer })
    }

    /// Whether there is a way. A TLS connection beyond a limit is closed without an answer.
    pub(crate) fn is_chosen() -> bool {
        std::env::var_os("CACHEPAGE_TEST_TLS").is_some()
    }

    /// Whether clients speak HTTP/2.
    pub(crate) fn is_http2() -> bool {
        std::env::var("CACHEPAGE_TEST_TLS").is_ok_and(|chosen| chosen == "h2")
    }

    /// The settings, with a certificate for the address in `listen`.
    pub(crate) fn settings(&self, settings: &str) -> String {
        let Pair { cert, key } = &self.issuer.pair;
        let (listen, rest): (Vec<_>, Vec<_>) =
            settings.lines().partition(|line| line.starts_with("listen = "));
        let address = listen[0].strip_prefix("listen = ").unwrap();
        format!(
            "{}\n[[listen]]\naddress = {address}\ncertificates = [{{ cert = {cert:?}, key = {key:?} }}]\n",
            rest.join("\n")
        )
    }

    /// An address whose connections are led on to the proxy at this one.
    pub(crate) fn leading_to(&self, proxy: SocketAddr) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (listener, over) = (TcpListener::from_std(listener).unwrap(), self.clone());
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let over = over.clone();
                tokio::spawn(async move { over.lead(client, proxy).await });
            }
        });
        address
    }

    /// Leads a client on, until one of both sides ends.
    async fn lead(&self, mut client: TcpStream, proxy: SocketAddr) {
        if Self::is_http2() {
            let Ok(sender) = self.connect(proxy).await else { return };
            let kept = Kept::new(Some(sender));
            let service = service_fn(|request| self.ask(&kept, request, proxy));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
        } else if let Ok(mut server) = self.issuer.authority.connect("127.0.0.1", &["http/1.1"], proxy).await
        {
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    }

    /// Asks the proxy by HTTP/2, on a new connection if it has ended the old one. If there is no answer, the client sees its
    /// connection end.
    async fn ask(
        &self,
        kept: &Kept,
        request: Request<Incoming>,
        proxy: SocketAddr,
    ) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>> {
        let mut kept = kept.lock().await;
        let mut sender = match kept.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect(proxy).await?,
        };
        let host = request.headers().get(HOST).ok_or("no host")?.to_str()?;
        let target = format!("https://{host}{}", request.uri());
        let asked = || Request::builder().method(request.method()).uri(&target).body(Empty::new());
        let mut answer = match sender.send_request(asked()?).await {
            Err(error) if is_refused(&error) => {
                sender = self.connect(proxy).await?;
                sender.send_request(asked()?).await?
            }
            answer => answer?,
        };
        *answer.version_mut() = Version::HTTP_11;
        *kept = Some(sender);
        Ok(answer)
    }

    async fn connect(
        &self,
        proxy: SocketAddr,
    ) -> Result<SendRequest<Empty<Bytes>>, Box<dyn Error + Send + Sync>> {
        let stream = self.issuer.authority.connect("127.0.0.1", &["h2"], proxy).await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Whether the proxy ends the connection, and the request came too late. Clients send it anew (RFC 9113 §6.8).
fn is_refused(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    error.is_canceled()
        || cause.is_some_and(|cause| cause.is_go_away() && cause.reason() == Some(Reason::NO_ERROR))
}
