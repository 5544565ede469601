//! A page to request, and the connection to its server.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::http::uri::{InvalidUri, Scheme};
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Answer, Fault};

/// A page to request.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    /// Besides the Host.
    headers: Arc<HeaderMap>,
    reader: Option<Reader>,
}

/// Reads a number from the body of an answer.
pub(crate) type Reader = fn(&[u8]) -> Option<u64>;

/// An open connection, for one request at a time.
pub(super) type Connection = SendRequest<Empty<Bytes>>;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) answer: Answer,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Target {
    /// The same page, asked for with these headers.
    pub(crate) fn with(self, headers: Arc<HeaderMap>) -> Self {
        Self { headers, ..self }
    }

    /// The same page, from whose answers this reads a number.
    pub(crate) fn read_by(self, reader: Reader) -> Self {
        Self { reader: Some(reader), ..self }
    }

    pub(super) async fn connect(&self) -> Result<Connection, Fault> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|source| Fault::Connect { address: format!("{}:{}", self.host, self.port), source })?;
        // A request is one small write, which must not be delayed.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Errors of the connection also reach the sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Sends a request on `connection` or on a new one, and keeps the connection for the next request if the server does.
    pub(super) async fn ask(&self, connection: &mut Option<Connection>) -> Result<Whole, Fault> {
        // This notices a connection that the server closed meanwhile.
        let usable = match connection {
            Some(open) => open.ready().await.is_ok(),
            None => false,
        };
        let open = match connection {
            Some(open) if usable => open,
            _ => connection.insert(self.connect().await?),
        };
        self.exchange(open).await
    }

    /// The request: its target in origin form, and the Host that a browser would send.
    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        request.headers_mut().clone_from(&self.headers);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        // This cannot fail: the path is part of a valid URI.
        *request.uri_mut() = Uri::from_str(path).unwrap_or_default();
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if let Ok(host) = host.parse() {
            request.headers_mut().insert(HOST, host);
        }
        request
    }

    async fn exchange(&self, connection: &mut Connection) -> Result<Whole, Fault> {
        let (head, body) = connection.send_request(self.request()).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let read = self.reader.and_then(|read| read(&body));
        let answer = Answer::of(head.status, &head.headers, read);
        Ok(Whole { answer, headers: head.headers, body })
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let uri: Uri = text.parse()?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(TargetError::Scheme);
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(TargetError::Host)?;
        let port = port(&uri, host).ok_or(TargetError::Port)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { uri, host, port, headers: Arc::default(), reader: None })
    }
}

/// The port after the host, or HTTP's own. `Uri` takes any text for a port, and then says that there is none.
fn port(uri: &Uri, host: &str) -> Option<u16> {
    let authority = uri.authority()?.as_str();
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    match address.strip_prefix(host)?.strip_prefix(':') {
        None => Some(80),
        Some(text) => text.parse().ok().filter(|&port| port > 0),
    }
}

/// Why a text does not name a page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("it is not a URL: {0}")]
    Syntax(#[from] InvalidUri),
    #[error("it must begin with http://, for example http://localhost:8000/api/properties/cached/")]
    Scheme,
    #[error("it names no host")]
    Host,
    #[error("its port must be a number from 1 to 65535")]
    Port,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_http_url_with_a_host() {
        for (text, fault) in [
            ("localhost:8000", "it must begin with http://"),
            ("https://localhost/", "it must begin with http://"),
            ("/api/", "it must begin with http://"),
            ("http:///api/", "it is not a URL"),
            ("http://a b/", "it is not a URL"),
            ("http://:80/", "it names no host"),
            ("http://a:99999/", "its port must be"),
            ("http://a:abc/", "its port must be"),
            ("http://80:0/", "its port must be"),
        ] {
            let error = Target::from_str(text).unwrap_err().to_string();
            assert!(error.starts_with(fault), "{text}: {error}");
        }
    }

    #[test]
    fn a_request_carries_path_query_and_host_as_written() {
        for (text, uri, host) in [
            ("http://localhost:8000/a/?page=2#top", "/a/?page=2", "localhost:8000"),
            ("http://Example.com", "/", "Example.com"),
            ("http://me:secret@[::1]:80/%7Ex", "/%7Ex", "[::1]:80"),
        ] {
            let request = Target::from_str(text).unwrap().request();
            assert_eq!(request.uri().to_string(), uri);
            assert_eq!(request.headers()[HOST], host);
        }
    }
}
