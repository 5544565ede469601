//! Load: requests that set out together, each timed from its start to the last byte of its answer.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::http::uri::{InvalidUri, Scheme};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// A minute is past all patience; an origin that is merely overrun has answered by then.
const DEADLINE: Duration = Duration::from_secs(60);

/// Sends `count` requests at once: all connect first, then set out together. Samples come in the order of the answers.
///
/// One connection a request, as with the article's curls: nobody waits for another's answer on the same connection.
pub(crate) async fn at_once(target: &Target, count: usize) -> Vec<Sample> {
    let start = Arc::new(Barrier::new(count));
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(client(target.clone(), Arc::clone(&start)));
    }
    let mut samples = Vec::with_capacity(count);
    while let Some(sample) = clients.join_next().await {
        // A client that panicked is a bug here: it must not pass for a request that was never made.
        samples.push(sample.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
    samples
}

/// Sends one request.
pub(crate) async fn one(target: &Target) -> Sample {
    client(target.clone(), Arc::new(Barrier::new(1))).await
}

async fn client(target: Target, start: Arc<Barrier>) -> Sample {
    let connected = within_deadline(target.connect()).await;
    // Also who could not connect comes to the start, or the others would wait for ever.
    start.wait().await;
    let started = Instant::now();
    let outcome = match connected {
        Ok(connection) => within_deadline(target.ask(connection)).await,
        Err(fault) => Err(fault),
    };
    Sample { took: started.elapsed(), outcome }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or(Err(Fault::Deadline))
}

/// What came of one request.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) took: Duration,
    pub(crate) outcome: Result<Answer, Fault>,
}

impl Sample {
    /// The answer, if it is one that a reader is content with.
    pub(crate) fn success(&self) -> Option<&Answer> {
        let answer = self.outcome.as_ref().ok()?;
        (answer.status.is_success() || answer.status.is_redirection()).then_some(answer)
    }

    /// `200`, or `no answer`.
    pub(crate) fn status(&self) -> String {
        self.outcome.as_ref().map_or("no answer", |answer| answer.status.as_str()).to_owned()
    }

    /// What the cache did, as X-Cache says: `HIT`, `MISS`, `BYPASS`, or `-` where no cache stands.
    pub(crate) fn cache(&self) -> String {
        let answer = self.outcome.as_ref().ok();
        let cache = answer.and_then(|answer| answer.headers.get("x-cache")?.to_str().ok());
        cache.unwrap_or("-").to_owned()
    }
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("the exchange failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("no whole answer within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// The page to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    uri: Uri,
    host: String,
    port: u16,
}

impl Target {
    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Fault> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|source| Fault::Connect { address: format!("{}:{}", self.host, self.port), source })?;
        // A request is one small write: it must not wait for anything.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its faults reach the sender, too.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn ask(&self, mut connection: SendRequest<Empty<Bytes>>) -> Result<Answer, Fault> {
        let (head, body) = connection.send_request(self.request()).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// In origin form, with the Host that a browser would send.
    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        // A part of a URI that was parsed is a URI.
        *request.uri_mut() = Uri::from_str(path).unwrap_or_default();
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if let Ok(host) = host.parse() {
            request.headers_mut().insert(HOST, host);
        }
        request
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
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self { uri, host, port })
    }
}

/// Why a text is no page to ask for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("it is not a URL: {0}")]
    Syntax(#[from] InvalidUri),
    #[error("it must begin with http://, for example http://localhost:8000/api/properties/cached/")]
    Scheme,
    #[error("it names no host")]
    Host,
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::Response;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

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

    #[tokio::test]
    async fn all_requests_are_under_way_before_the_first_is_answered() {
        const COUNT: usize = 20;
        let target = serve(Arc::new(Barrier::new(COUNT))).await;
        let samples = at_once(&target, COUNT).await;
        assert!(samples.iter().all(|sample| sample.success().is_some_and(|answer| answer.body == "whole")));
        assert!(
            samples.iter().all(|sample| (sample.status(), sample.cache()) == ("200".into(), "HIT".into()))
        );
    }

    #[tokio::test]
    async fn a_refused_connection_is_a_sample_that_says_so() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let samples = at_once(&format!("http://{closed}/").parse().unwrap(), 3).await;
        assert_eq!(samples.len(), 3);
        for sample in samples {
            let fault = sample.outcome.unwrap_err().to_string();
            assert!(fault.starts_with(&format!("cannot connect to {closed}: ")), "{fault}");
        }
    }

    /// A page that is answered to all readers at once, when they are all there.
    async fn serve(readers: Arc<Barrier>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let answer = move |_: Request<Incoming>| {
            let readers = Arc::clone(&readers);
            async move {
                readers.wait().await;
                let response = Response::builder().header("X-Cache", "HIT");
                Ok::<_, Infallible>(response.body(Full::<Bytes>::from("whole")).unwrap())
            }
        };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(answer.clone());
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        target
    }
}
