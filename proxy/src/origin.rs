//! The upstreams: the proxy's side towards the origins.

mod address;
mod connector;
mod counts;
mod dial;
mod download;
mod error;
mod gate;
mod health;
mod link;
mod presence;
mod request_body;
mod resolver;
mod share;
mod silence;
mod upload;
mod upstreams;
mod wire;

use std::error::Error as StdError;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::{request, response};
use hyper::{Method, Request, Response, StatusCode, Version};
use server::{HeldByTunnel, Peer, PerWorker, in_time};
use tokio::time::Instant;

pub use address::OriginUrl;
pub(crate) use address::bare_host;
use connector::{Connector, MAX_LINES};
use counts::OriginCounts;
pub(crate) use counts::{FetchEnd, OriginTotals};
pub(crate) use download::Download;
pub(crate) use error::BodyError;
use error::Cause;
pub(crate) use error::OriginError;
pub use gate::OriginLimits;
use gate::{Gate, GatePermit};
pub(crate) use health::Ejection;
use link::{Link, Links};
pub(crate) use request_body::RequestBody;
pub(crate) use share::Share;
use upload::{Progress, Upload};
pub use upstreams::Origins;
pub(crate) use upstreams::{OriginState, Probe, RetryTotals, Upstreams};

use crate::policy::Length;
use crate::purge::Tags;
use crate::request::{Content, receive};
use crate::tls::TlsClient;

/// The service behind the proxy, and how it is reached.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Where it is.
    pub url: OriginUrl,
    /// The TLS client, if the URL begins with `https`.
    pub(crate) tls: Option<TlsClient>,
    /// The requests that it is for.
    pub(crate) share: Share,
    /// How many requests it gets beside others.
    pub(crate) weight: u32,
    /// Whether it gets requests only while all others are left out.
    pub(crate) is_backup: bool,
    /// How often its name is looked up, beside the lookups for new connections.
    pub(crate) resolve_every: Duration,
}

/// How often names are looked up unless the settings say otherwise.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);

impl Origin {
    /// An origin for all requests.
    pub(crate) fn for_all(url: OriginUrl, tls: Option<TlsClient>) -> Self {
        Self { url, tls, share: Share::default(), weight: 1, is_backup: false, resolve_every: RESOLVE_EVERY }
    }
}

impl Origin {
    /// The Host for requests that the proxy makes by itself.
    fn host(&self) -> HeaderValue {
        let authority = match &self.url {
            OriginUrl::Http(authority) | OriginUrl::Https(authority) => authority.as_str(),
            OriginUrl::Unix(_) => "localhost",
        };
        HeaderValue::from_str(authority).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// How long each step of a fetch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginDeadlines {
    /// The time to look up the origin's name and connect.
    pub connect: Duration,
    /// The time between the last part of the request and the head of the answer.
    pub head: Duration,
    /// The time between two parts of a body, in either direction.
    pub idle: Duration,
    /// The time to wait for a free slot ([`OriginLimits`]).
    pub queue: Duration,
    /// The time from the request to the end of the answer; unbounded if `None`.
    pub total: Option<Duration>,
}

/// Sends requests to one origin.
#[derive(Debug)]
struct Upstream {
    /// Each worker has its own: a connection lives on one worker, and a request from another worker would wake both.
    links: PerWorker<Links>,
    origin: Origin,
    /// Its URL, for the logs.
    name: Arc<str>,
    deadlines: OriginDeadlines,
    /// The limit of an answer's head, in bytes.
    head: usize,
    gate: Gate,
    counts: OriginCounts,
}

/// Why a request got no answer.
#[derive(Debug)]
enum Failure {
    /// No byte was sent, so the body is untouched.
    Connect { error: Cause, unsent: Option<RequestBody> },
    /// The connection broke. If it was used before and has not brought a byte of this answer, the origin had closed it while
    /// it was idle.
    Sent { error: hyper::Error, was_used: bool, is_answered: bool },
}

/// Why an origin gives no answer, and whether another origin may be asked.
#[derive(Debug)]
struct Unanswered {
    error: OriginError,
    /// The body, if no byte of the request was sent.
    unsent: Option<Option<RequestBody>>,
    /// Whether the origin closed the connection before the first byte of an answer.
    is_silent: bool,
}

impl From<OriginError> for Unanswered {
    /// An error after which no other origin is asked.
    fn from(error: OriginError) -> Self {
        Self { error, unsent: None, is_silent: false }
    }
}

/// An answer of the origin, without hop-by-hop headers and tags.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) head: response::Parts,
    pub(crate) body: Download,
    pub(crate) length: Length,
    pub(crate) tags: Tags,
    /// The time from the wait for a slot to the head of the answer.
    pub(crate) took: Duration,
    /// The URL of the origin.
    pub(crate) origin: Arc<str>,
}

impl Upstream {
    fn new(origin: Origin, deadlines: OriginDeadlines, limits: OriginLimits) -> Self {
        let connector = Connector::new(&origin, deadlines.connect, limits.head);
        let links = PerWorker::new(|_| Links::new(connector.clone()));
        let name = origin.to_string().into();
        let (gate, counts) = (Gate::new(limits, deadlines.queue), OriginCounts::default());
        Self { links, origin, name, deadlines, head: limits.head, gate, counts }
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether the last connection failed.
    fn is_away(&self) -> bool {
        self.links.own().is_away()
    }

    /// How long a follower waits for the leader's answer: as long as it would wait for its own.
    fn patience(&self) -> Duration {
        self.deadlines.queue + self.deadlines.connect + self.deadlines.head
    }

    /// Asks the origin, and counts how the request ends. A fetch for the store sends no body, except the content of a QUERY.
    async fn fetch(
        &self,
        head: &request::Parts,
        body: Option<RequestBody>,
        peer: Peer,
    ) -> Result<Fetched, Unanswered> {
        let counted = self.counts.begin();
        let answer = self.answer(head, body, peer).await;
        counted.ended(&answer);
        answer
    }

    async fn answer(
        &self,
        head: &request::Parts,
        body: Option<RequestBody>,
        peer: Peer,
    ) -> Result<Fetched, Unanswered> {
        let began = Instant::now();
        let place = self.gate.enter().await?;
        let until = self.deadlines.total.map(|total| Instant::now() + total);
        let content = || head.extensions.get().map(|content: &Content| content.bytes().clone().into());
        let body = body.or_else(content);
        let again = match &body {
            Some(body) => body.again().map(Some),
            None => Some(None),
        };
        let again = again.filter(|_| is_idempotent(&head.method));
        let mut answer = self.ask(head, body, peer, until).await?;
        if let (Err(failure), Some(body)) = (&answer, again)
            && failure.is_closed()
        {
            // Boxed, so that requests of other kinds don't pay for it.
            answer = Box::pin(self.ask(head, body, peer, until)).await?;
        }
        let (response, link) = answer.map_err(|failure| self.unanswered(failure))?;
        let is_chunked = is_chunked(response.headers())?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && !names_one_of(response.headers().get(UPGRADE), head.headers.get(UPGRADE))
        {
            return Err(OriginError::Unasked(response.status()).into());
        }
        let mut fetched = self.received(response, is_chunked, (began.elapsed(), until), (link, place));
        fetched.body.begin().await.map_err(|error| OriginError::Answer(Arc::new(error)))?;
        Ok(fetched)
    }

    /// Sends a request. The outer error is a timeout, after which the request is never repeated.
    async fn ask(
        &self,
        head: &request::Parts,
        body: Option<RequestBody>,
        peer: Peer,
        until: Option<Instant>,
    ) -> Result<Result<(Response<Incoming>, Link), Failure>, OriginError> {
        let progress = Progress::new();
        let head = sent_head(head, body.as_ref(), peer);
        let body = Upload::new(body.unwrap_or_default(), self.deadlines.idle, progress.clone());
        let answer = pin!(self.links.own().send(Request::from_parts(head, body)));
        self.within_head_deadline(answer, &progress, until).await
    }

    /// The deadline for the head restarts with each part of the request's body: during a long upload the origin may be silent.
    async fn within_head_deadline<T>(
        &self,
        mut answer: Pin<&mut impl Future<Output = T>>,
        progress: &Progress,
        until: Option<Instant>,
    ) -> Result<T, OriginError> {
        loop {
            let head = progress.last() + self.deadlines.head;
            let deadline = until.map_or(head, |until| until.min(head));
            match in_time(deadline, &mut answer).await {
                Some(answer) => return Ok(answer),
                None if deadline == head && progress.last() + self.deadlines.head > Instant::now() => {}
                None if deadline == head => return Err(OriginError::Silent(self.deadlines.head)),
                None => return Err(OriginError::Silent(self.deadlines.total.unwrap_or_default())),
            }
        }
    }

    fn unanswered(&self, failure: Failure) -> Unanswered {
        match failure {
            Failure::Connect { error, unsent } => {
                Unanswered { error: OriginError::Connect(error), unsent: Some(unsent), is_silent: true }
            }
            Failure::Sent { error, is_answered, .. } => {
                let is_silent = !is_answered && sources(&error).any(is_closed);
                Unanswered { error: self.error(error), unsent: None, is_silent }
            }
        }
    }

    /// The reason for a missing answer. An error of the request's body is the client's.
    fn error(&self, error: hyper::Error) -> OriginError {
        let of_body = sources(&error).find_map(|source| source.downcast_ref());
        match of_body.map(|error| matches!(error, BodyError::Broken(_))) {
            Some(true) => OriginError::BrokenRequest,
            Some(false) => OriginError::RequestBody(Arc::new(error)),
            None if error.is_parse_too_large() => OriginError::Head { bytes: self.head, lines: MAX_LINES },
            None => OriginError::Answer(Arc::new(error)),
        }
    }

    fn received(
        &self,
        response: Response<Incoming>,
        chunked: bool,
        (took, until): (Duration, Option<Instant>),
        held: (Link, GatePermit),
    ) -> Fetched {
        let (mut head, body) = response.into_parts();
        // An intermediary sends its own version (RFC 9110 §2.5): the origin's HTTP/1.0 would end the client's connection.
        head.version = Version::HTTP_11;
        let length = match body.size_hint().exact() {
            Some(length) if !chunked => Length::Known(length),
            _ if chunked => Length::Chunked,
            _ => Length::UntilClose,
        };
        if chunked {
            // If an origin sends both, the chunks count (RFC 9112 §6.3).
            head.headers.remove(CONTENT_LENGTH);
        } else if let Some(length) = head.headers.get(CONTENT_LENGTH).cloned() {
            // Equal lengths may be repeated.
            head.headers.insert(CONTENT_LENGTH, length);
        }
        let protocol =
            head.headers.get(UPGRADE).filter(|_| head.status == StatusCode::SWITCHING_PROTOCOLS).cloned();
        receive::remove_hop_by_hop(&mut head.headers);
        let tags = Tags::take(&mut head.headers);
        if let Some(protocol) = protocol {
            head.headers.insert(UPGRADE, protocol);
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.extensions.insert(HeldByTunnel::new(self.gate.begin_tunnel()));
        }
        let body = Download::new(body, self.deadlines.idle, until, held);
        Fetched { head, body, length, tags, took, origin: self.name.clone() }
    }
}

/// The head of a request to the origin. Its target is unchanged, and its `X-Forwarded` headers describe the client. A request
/// without a body has no `Content-Length` either.
fn sent_head(head: &request::Parts, body: Option<&RequestBody>, peer: Peer) -> request::Parts {
    let mut head = head.clone();
    head.version = Version::HTTP_11;
    if body.is_none() {
        receive::remove_content_length(&mut head.headers);
    }
    receive::announce(&mut head.headers, peer);
    if body.is_some_and(|body| body.length().exact().is_none()) {
        // Without this, hyper would drop the body of a GET.
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    head
}

impl Failure {
    /// Whether the origin probably closed the connection before it saw the request: the connection has brought an answer
    /// before, and no byte of this one.
    fn is_closed(&self) -> bool {
        matches!(self, Self::Sent { error, was_used: true, is_answered: false } if sources(error).any(is_closed))
    }
}

/// Whether an answer comes in chunks.
fn is_chunked(headers: &HeaderMap) -> Result<bool, OriginError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        // `identity` means no coding, as in HTTP/1.1 before RFC 7230.
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity") => Ok(false),
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(true),
        (Some(coding), _) => {
            Err(OriginError::Coding(String::from_utf8_lossy(coding.as_bytes()).into_owned()))
        }
    }
}

/// Whether a protocol is one of those that were asked for (RFC 9110 §7.8).
fn names_one_of(protocol: Option<&HeaderValue>, asked: Option<&HeaderValue>) -> bool {
    let (Some(protocol), Some(asked)) = (protocol, asked) else { return false };
    let mut asked = asked.as_bytes().split(|byte| *byte == b',');
    asked.any(|asked| asked.trim_ascii().eq_ignore_ascii_case(protocol.as_bytes().trim_ascii()))
}

/// An error and its chain of sources.
fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let source = |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    };
    std::iter::successors(Some(error), source)
}

/// Whether the origin closed the connection without an answer.
fn is_closed(error: &(dyn StdError + 'static)) -> bool {
    use std::io::{Error as IoError, ErrorKind};
    let is_cut = |error: &IoError| {
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
        )
    };
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
        || error.downcast_ref::<IoError>().is_some_and(is_cut)
}

/// Idempotent methods may be sent twice (RFC 9110 §9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::QUERY, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}
