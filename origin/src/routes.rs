//! Routes a request: checks its host, finds the view of its path, negotiates the format, and checks the method.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use server::{Answer, Decided, Peer, RequestHead};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::database::Database;
use crate::error::Error;
use crate::headers;
use crate::host;
use crate::link::Address;
use crate::negotiation::{Accepted, Refused, negotiate};
use crate::page::Page;
use crate::reply::{self, Detail, Reply};

/// Django accepts no more parameters than this (`DATA_UPLOAD_MAX_NUMBER_FIELDS`).
const MAX_PARAMETERS: usize = 1000;

/// The headers by which a proxy reports TLS (gunicorn's `secure_scheme_headers`).
const OF_TLS: [(&str, &str); 3] =
    [("x-forwarded-proto", "https"), ("x-forwarded-protocol", "ssl"), ("x-forwarded-ssl", "on")];

/// The characters of a query that Django quotes in a redirect (`iri_to_uri`), of those that a target can hold.
const UNSAFE: &AsciiSet =
    &CONTROLS.add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// The listings, served from a database.
#[derive(Debug)]
pub struct Origin {
    database: Database,
    /// The host of requests without a Host header.
    address: SocketAddr,
}

/// A list view of the application.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum View {
    Naive,
    Optimized,
    /// The naive list, under the path that a cache is put in front of.
    Cached,
}

const VIEWS: [(View, &str); 3] = [
    (View::Naive, "/api/properties/live/naive/"),
    (View::Optimized, "/api/properties/live/optimized/"),
    (View::Cached, "/api/properties/cached/"),
];

impl Origin {
    /// An origin that listens on this address.
    pub fn new(database: Database, address: SocketAddr) -> Self {
        Self { database, address }
    }

    async fn respond(&self, request: &Parts, peer: Peer) -> Reply {
        let path: Vec<u8> = percent_decode_str(request.uri.path()).collect();
        if path == b"/healthz" {
            return reply::plain(StatusCode::OK, "ok");
        }
        let Some(host) = self.host(&request.headers) else { return reply::bad_request() };
        let query = request.uri.query().unwrap_or_default();
        if let Some((_, path)) =
            VIEWS.iter().find(|(_, known)| known.strip_suffix('/').map(str::as_bytes) == Some(&path))
        {
            return reply::redirect(&with_query(path, query));
        }
        let Some((view, path)) = VIEWS.iter().find(|(_, known)| known.as_bytes() == path) else {
            return reply::not_found();
        };
        if query.split('&').count() > MAX_PARAMETERS {
            return reply::framed(reply::bad_request());
        }
        let address = Address::new(scheme(&request.headers, peer), &host, path, query);
        self.view(*view, request, &address).await
    }

    /// The host that the client named; `None` if it is not valid.
    fn host(&self, headers: &HeaderMap) -> Option<String> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (None, _) => self.address.to_string(),
            (Some(host), None) => host.to_str().ok()?.to_owned(),
            (Some(_), Some(_)) => return None,
        };
        Some(host).filter(|host| host::is_good(host))
    }

    async fn view(&self, view: View, request: &Parts, address: &Address) -> Reply {
        let compact = Accepted { indent: 0 };
        let detail = |status, detail: &str, accepted| reply::json(status, &Detail { detail }, accepted);
        let accept = headers::joined(&request.headers, &ACCEPT).map(|value| headers::latin1(&value));
        let accepted = match negotiate(address.value("format"), accept.as_deref()) {
            Ok(accepted) => accepted,
            Err(Refused::Format) => return detail(StatusCode::NOT_FOUND, "Not found.", compact),
            Err(Refused::Accept) => {
                return detail(
                    StatusCode::NOT_ACCEPTABLE,
                    "Could not satisfy the request Accept header.",
                    compact,
                );
            }
        };
        match request.method {
            Method::GET | Method::HEAD => self.list(view, address, accepted).await,
            Method::OPTIONS => reply::json(StatusCode::OK, &view.metadata(), accepted),
            _ => {
                let text = format!("Method \"{}\" not allowed.", request.method);
                detail(StatusCode::METHOD_NOT_ALLOWED, &text, accepted)
            }
        }
    }

    async fn list(&self, view: View, address: &Address, accepted: Accepted) -> Reply {
        let mut session = self.database.session();
        let mut reply = match Page::fetch(&mut session, view, address).await {
            Ok(page) => reply::listing(&page, accepted),
            Err(error @ Error::InvalidPage) => {
                reply::json(error.status(), &Detail { detail: &error.to_string() }, accepted)
            }
            Err(error) => failed(&error),
        };
        reply::time(&mut reply, &session.timing());
        reply
    }
}

/// Every request goes to hyper: no answer is ready in memory.
impl server::Handler for Origin {
    type Body = Full<Bytes>;
    type Page = Bytes;
    type Lookup = Infallible;
    type Decision = ();
    type Record = ();

    fn answer(self: &Arc<Self>, _: &RequestHead<'_>, _: Peer, _: Instant) -> Decided<Self> {
        Decided::Decision(())
    }

    async fn look_up(
        self: &Arc<Self>,
        lookup: &Infallible,
        _: &RequestHead<'_>,
        _: Peer,
    ) -> Result<Answer<Bytes, ()>, ()> {
        match *lookup {}
    }

    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        _: Option<()>,
    ) -> (Response<Full<Bytes>>, ()) {
        let (request, _body) = request.into_parts();
        let mut reply = self.respond(&request, peer).await;
        reply::finish(&mut reply, &request.headers);
        (reply, ())
    }
}

/// The answer to OPTIONS (DRF's `SimpleMetadata`).
#[derive(Serialize)]
struct Metadata {
    name: &'static str,
    description: &'static str,
    renders: [&'static str; 1],
    parses: [&'static str; 3],
}

impl View {
    /// The names and texts are those of the article's view classes.
    fn metadata(self) -> Metadata {
        let (name, description) = match self {
            Self::Naive => ("Property List", "No cache, no joins."),
            Self::Optimized => ("Optimized Property List", "No cache, joins."),
            Self::Cached => ("Cached Property List", "The same list behind cache_page."),
        };
        Metadata {
            name,
            description,
            renders: ["application/json"],
            parses: ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"],
        }
    }
}

/// The scheme as gunicorn decides it: only a proxy on this machine is trusted to report TLS. gunicorn refuses headers
/// that contradict each other; here the first in the table decides, which is the one that our own proxy sets.
fn scheme(headers: &HeaderMap, peer: Peer) -> &'static str {
    let told = OF_TLS.iter().find_map(|(name, tls)| Some(headers.get(*name)? == tls));
    if told == Some(true) && peer.ip().to_canonical().is_loopback() { "https" } else { "http" }
}

fn with_query(path: &str, query: &str) -> String {
    match query {
        "" => path.to_owned(),
        query => format!("{path}?{}", utf8_percent_encode(query, UNSAFE)),
    }
}

fn failed(error: &Error) -> Reply {
    match error.status() {
        StatusCode::SERVICE_UNAVAILABLE => warn!(error = error.chain(), "the database does not answer"),
        _ => {
            error!(error = error.chain(), "the database does not hold the listings: has `seed` run?")
        }
    }
    reply::plain(error.status(), &error.to_string())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_proxy_on_this_machine_is_trusted_to_report_tls() {
        for (peer, headers, expected) in [
            ("127.0.0.1:1", &[][..], "http"),
            ("127.0.0.1:1", &[("x-forwarded-proto", "https")], "https"),
            ("[::1]:1", &[("x-forwarded-proto", "https")], "https"),
            ("10.0.0.1:1", &[("x-forwarded-proto", "https")], "http"),
            ("127.0.0.1:1", &[("x-forwarded-proto", "HTTPS")], "http"),
            ("127.0.0.1:1", &[("x-forwarded-proto", "https,http")], "http"),
            ("127.0.0.1:1", &[("x-forwarded-protocol", "ssl")], "https"),
            ("127.0.0.1:1", &[("x-forwarded-protocol", "https")], "http"),
            ("127.0.0.1:1", &[("x-forwarded-ssl", "on")], "https"),
            ("127.0.0.1:1", &[("x-forwarded-ssl", "on"), ("x-forwarded-proto", "http")], "http"),
        ] {
            let given = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            assert_eq!(
                scheme(&given.collect(), peer.parse::<SocketAddr>().unwrap().into()),
                expected,
                "{peer} {headers:?}"
            );
        }
    }
}
