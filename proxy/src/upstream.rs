//! Our side to the origin.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::http::uri::{Authority, Parts as UriParts, Scheme};
use hyper::http::{request, response};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::{Client, Error as ClientError, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use crate::body::{BodyError, Progress, Relay};
use crate::error::Error;
use crate::forward;
use crate::policy::Length;

/// A pooled connection is closed after this time, before most origins would close it under us.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// The service behind the proxy: `http://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(Authority);

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| "not a URL")?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("https to the origin is not supported; http is"),
            _ => return Err("not a URL like http://127.0.0.1:8001"),
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err("an origin has no path: requests keep theirs");
        }
        let authority = uri.into_parts().authority.filter(|authority| !authority.host().is_empty());
        match authority.ok_or("a URL without a host")? {
            authority if authority.as_str().contains('@') => Err("an origin has no user"),
            authority => Ok(Self(authority)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// How long the origin may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// To accept a connection.
    pub connect: Duration,
    /// From the last piece of the request to the head of the answer.
    pub head: Duration,
    /// Between two pieces of a body, in either direction.
    pub idle: Duration,
}

/// A pool of connections to one origin.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Relay>,
    origin: Origin,
    deadlines: Deadlines,
}

/// An answer of the origin. What was for our connection to it alone is gone from its head.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) head: response::Parts,
    pub(crate) body: Relay,
    pub(crate) length: Length,
}

impl Upstream {
    pub(crate) fn new(origin: Origin, deadlines: Deadlines) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(deadlines.connect));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .http1_title_case_headers(true)
            .build(connector);
        Self { client, origin, deadlines }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How long to wait for somebody else's answer of the origin: as long as for one's own.
    pub(crate) fn patience(&self) -> Duration {
        self.deadlines.connect + self.deadlines.head
    }

    /// Asks the origin, with the request's target as it is and the truth about its client.
    pub(crate) async fn fetch(
        &self,
        mut head: request::Parts,
        body: Option<Incoming>,
        peer: SocketAddr,
    ) -> Result<Fetched, Error> {
        head.uri = self.absolute(&head.uri)?;
        head.version = hyper::Version::HTTP_11;
        forward::announce(&mut head.headers, peer);
        let progress = Progress::new();
        let body = Relay::new(body, self.deadlines.idle).noting(progress.clone());
        let answer = self.client.request(Request::from_parts(head, body));
        let response = self.within_head_deadline(answer, &progress).await?;
        Ok(self.received(response))
    }

    fn absolute(&self, target: &Uri) -> Result<Uri, Error> {
        let mut parts = UriParts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.origin.0.clone());
        parts.path_and_query = target.path_and_query().cloned();
        Uri::from_parts(parts).map_err(|_| Error::BadRequest("a bad target"))
    }

    /// The clock for the head starts anew with each piece of the request's body: a long upload is not a silent origin.
    async fn within_head_deadline(
        &self,
        answer: impl Future<Output = Result<Response<Incoming>, ClientError>>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Error> {
        let mut answer = pin!(answer);
        loop {
            let deadline = progress.last() + self.deadlines.head;
            match timeout_at(deadline, &mut answer).await {
                Ok(result) => return result.map_err(Error::from),
                Err(_) if progress.last() + self.deadlines.head > Instant::now() => {}
                Err(_) => return Err(Error::OriginSilent(self.deadlines.head)),
            }
        }
    }

    fn received(&self, response: Response<Incoming>) -> Fetched {
        let (mut head, body) = response.into_parts();
        let chunked = head.headers.contains_key(TRANSFER_ENCODING);
        let length = match body.size_hint().exact() {
            Some(length) if !chunked => Length::Known(length),
            _ if chunked => Length::Chunked,
            _ => Length::UntilClose,
        };
        if chunked {
            // An origin that sends both lies in one; ours is the chunks (RFC 9112 §6.3).
            head.headers.remove(CONTENT_LENGTH);
        }
        forward::remove_hop_by_hop(&mut head.headers);
        Fetched { head, body: Relay::new(body, self.deadlines.idle), length }
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        if error.is_connect() {
            return Self::OriginConnect(Arc::new(error));
        }
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if inner.is::<BodyError>() {
                return Self::RequestBody(Arc::new(error));
            }
            cause = inner.source();
        }
        Self::OriginAnswer(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_http_urls_without_a_path() {
        for good in ["http://127.0.0.1:8001", "http://origin", "http://[::1]:80/"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:8001",
            "https://a",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a?b",
            "http://u:p@a",
            "nonsense",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
