//! The directory of an authority: a server that the proxy asks over HTTPS, on a new connection each time.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{BoxError, exchange};
use crate::tls::{TlsClient, TlsFiles};

/// The time for one request, from the lookup of the name to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest answer that is read. Directories send less.
const LARGEST: usize = 1 << 20;

/// A directory reports its problems as JSON of this type. Other failures come from a server in front of it.
const PROBLEM: &str = "application/problem+json";

/// A directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(super) url: Arc<str>,
    tls: TlsClient,
    /// The pause that the last failure has asked for.
    asked_pause: Arc<Mutex<Option<Duration>>>,
}

impl Directory {
    /// A directory at this URL, over TLS as [`tls`](Self::tls) makes it.
    pub(crate) fn new(url: &str, tls: TlsClient) -> Self {
        Self { url: url.into(), tls, asked_pause: Arc::default() }
    }

    /// TLS with servers whose certificates are signed by an authority in this file or, if no file is named, by one that the
    /// system trusts.
    pub(crate) fn tls(ca_file: &str) -> Result<TlsClient, String> {
        // This name is not used: each connection has the name of its server.
        TlsClient::new("localhost", TlsFiles { ca: ca_file, ..TlsFiles::default() }, &[b"http/1.1"])
    }

    /// Its URL as a name of a file: what one authority has issued is not taken for that of another.
    pub(super) fn name(&self) -> String {
        let name = self.url.trim_start_matches("https://");
        name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-', "_")
    }

    /// The pause that a failure has asked for since the last call.
    pub(super) fn take_asked_pause(&self) -> Option<Duration> {
        self.asked_pause.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, BoxError> {
        let asked = timeout(PATIENCE, self.exchange(request)).await;
        let answer = asked.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            *self.asked_pause.lock().unwrap_or_else(PoisonError::into_inner) = asked_pause(answer.headers());
            let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
            if !kind.starts_with(PROBLEM.as_bytes()) {
                return Err(format!("the directory answers {status}").into());
            }
        }
        Ok(BytesResponse::from(answer))
    }

    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, BoxError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let port = request.uri().port_u16().unwrap_or(443);
        let stream = TcpStream::connect((bare(&host), port)).await;
        let stream = stream.map_err(|error| naming(&host, &error))?;
        let stream =
            self.tls.named(bare(&host))?.connect(stream).await.map_err(|error| naming(&host, &error))?;
        Ok(exchange(stream, in_origin_form(request)?, LARGEST).await?.map(Full::new))
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl HttpClient for Directory {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let directory = self.clone();
        Box::pin(async move { directory.ask(request).await.map_err(Error::Other) })
    }
}

/// A request as it is sent: the target is a path, the host is a header, and the User-Agent names the proxy before its library.
fn in_origin_form(mut request: Request<BodyWrapper<Bytes>>) -> Result<Request<BodyWrapper<Bytes>>, BoxError> {
    let uri = std::mem::take(request.uri_mut());
    *request.uri_mut() = uri.path_and_query().map_or("/", PathAndQuery::as_str).parse()?;
    let authority = uri.authority().ok_or("a URL of the directory has no host")?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    let library = request.headers().get(USER_AGENT).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let agent = format!("cachepage/{} {library}", env!("CARGO_PKG_VERSION"));
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_str(&agent)?);
    Ok(request)
}

/// The pause that `Retry-After` asks for, in seconds or until a time.
fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let until = || {
        let sent = httpdate::parse_http_date(headers.get("date")?.to_str().ok()?).ok()?;
        httpdate::parse_http_date(text).ok()?.duration_since(sent).ok()
    };
    text.parse().ok().map(Duration::from_secs).or_else(until)
}

/// A host without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn naming(host: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{host}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_until_a_time() {
        for (text, seconds) in [
            ("120", Some(120)),
            ("Tue, 24 Nov 2026 12:01:00 GMT", Some(60)),
            ("Tue, 24 Nov 2026 11:00:00 GMT", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            headers.insert("date", HeaderValue::from_static("Tue, 24 Nov 2026 12:00:00 GMT"));
            assert_eq!(asked_pause(&headers), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
