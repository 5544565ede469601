//! Asks for pages as a client does, for the commands that look at a site or warm its pages.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{ACCEPT, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, StatusCode, Uri};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::exchange;
use crate::request::receive::X_FORWARDED_PROTO;

/// The time for one page with its body.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest body, which is more than a sitemap may have (50 MiB).
const LARGEST: usize = 64 << 20;

/// A client of one server. Each page has a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    server: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct VisitedPage {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl VisitedPage {
    /// The value of `Cache-Status`; empty without one.
    pub(crate) fn cache_status(&self) -> &str {
        self.headers.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the cache has answered with a stored page.
    pub(crate) fn is_hit(&self) -> bool {
        self.cache_status().contains("; hit")
    }

    /// Whether the cache has stored the answer.
    pub(crate) fn is_stored(&self) -> bool {
        self.cache_status().contains("; stored")
    }
}

impl Visitor {
    /// A client of the server at this address.
    pub(crate) fn of(server: SocketAddr) -> Self {
        Self { server }
    }

    /// Asks for a page. The request names the host and scheme of the URL, whatever the address of the server is.
    pub(crate) async fn get(&self, url: &Uri) -> Result<VisitedPage, String> {
        let asked = timeout(PATIENCE, self.ask(url)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
    }

    async fn ask(&self, url: &Uri) -> Result<VisitedPage, String> {
        let stream = TcpStream::connect(self.server).await;
        let stream = stream.map_err(|error| format!("{}: {error}", self.server))?;
        let answer = exchange(stream, self.request(url)?, LARGEST).await;
        let (head, body) = answer.map_err(|error| error.to_string())?.into_parts();
        Ok(VisitedPage { status: head.status, headers: head.headers, body })
    }

    fn request(&self, url: &Uri) -> Result<Request<Empty<Bytes>>, String> {
        let host = url.authority().map_or_else(|| self.server.to_string(), Authority::to_string);
        let host = HeaderValue::try_from(host).map_err(|error| error.to_string())?;
        let target = url.path_and_query().map_or("/", PathAndQuery::as_str);
        let scheme = url.scheme_str().unwrap_or("http");
        Request::get(target)
            .header(HOST, host)
            .header(ACCEPT, "*/*")
            .header(USER_AGENT, concat!("cachepage/", env!("CARGO_PKG_VERSION")))
            .header(X_FORWARDED_PROTO, scheme)
            .body(Empty::new())
            .map_err(|error| error.to_string())
    }
}

/// A URL of a page.
pub(crate) fn url(text: &str) -> Result<Uri, String> {
    let wrong = || format!("{text:?} is no URL like http://www.example.com/blog/");
    let url: Uri = text.parse().map_err(|_| wrong())?;
    let is_web = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&url.scheme());
    if is_web && url.authority().is_some() { Ok(url) } else { Err(wrong()) }
}
