//! The way of a request, in one line: disposition, lookup, fetch, admission, fill.

pub(crate) mod body;
pub(crate) mod error;
mod explain;
pub(crate) mod fill;
mod flight;
mod lookup;
mod recall;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use server::{Recallable, Recalled};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{Level, debug, warn};

pub use explain::Explanation;
use flight::Wanted;
use lookup::{Lookup, follow};
use recall::{Asked, Begun, Requests, is_plain};

use crate::config::Config;
use crate::head_cache::Known;
use crate::key::{Keys, Page};
use crate::near::Near;
use crate::origin::{Fetched, Upstream};
use crate::page::entry::Ready;
use crate::page::format::Format;
use crate::policy::{self, Disposition, Freshness, Policy};
use crate::request::receive::{self, TrustedProxies};
use crate::request::site::Site;
use crate::share::flights::Collapsing;
use crate::status::{self, CacheStatus, Hit, Source};
use crate::store::Store;
use crate::variants::Variants;
use crate::way::body::Body;
use crate::way::error::Error;

/// A cache in front of one origin.
///
/// What holds for every request:
/// * A store fault never fails, delays past its deadline, or truncates a response: a failed read is a miss, a failed
///   write is a page not stored and a warning.
/// * A key is a function of request and vary list alone.
/// * What was not admitted is never stored.
/// * A hit never contacts the origin; a pass never touches the store.
#[derive(Debug)]
pub struct Proxy<S> {
    policy: Policy,
    keys: Keys,
    format: Arc<Format>,
    /// Whether pages are written at all, or only read.
    writes: bool,
    site: Site,
    trusted: TrustedProxies,
    store: S,
    upstream: Upstream,
    collapsing: Collapsing,
    variants: Variants,
    /// What goes on when its client has left: fills.
    tasks: TaskTracker,
    max_entry: u64,
    known: Known,
    requests: Requests,
    /// What was read and has not changed since, if the store tells of changes.
    near: Option<Arc<Near>>,
}

impl<S: Store> server::Handler for Proxy<S> {
    type Body = Body;

    const REFUSED: &'static str = status::REFUSED;

    /// Answers a request, always. The one place where an error becomes a response and a line in the log.
    async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let asked =
            tracing::enabled!(Level::DEBUG).then(|| format!("{} {}", request.method(), request.uri()));
        let response = self.try_handle(request, peer).await.unwrap_or_else(|error| {
            self.log(&error, peer);
            error.to_response()
        });
        if let Some(asked) = asked {
            let cache = response.headers().get_all("cache-status").iter().next_back();
            debug!(request = asked, status = response.status().as_u16(), ?cache, "answered");
        }
        response
    }

    fn recall(self: &Arc<Self>, words: &[u8], peer: SocketAddr, asked: Instant) -> Recalled<'_> {
        self.again(words, peer, asked)
    }
}

impl<S: Store> Proxy<S> {
    /// A proxy with these settings over this store. `site` is where clients are expected.
    pub fn new(config: &Config, site: Site, store: S) -> Self {
        Self {
            policy: Policy::new(config.rules.clone(), config.max_entry),
            keys: config.keys.clone(),
            format: Arc::new(config.format.clone()),
            writes: config.writes,
            site,
            trusted: TrustedProxies::new(config.trusted_proxies.clone()),
            near: follow(&store, config),
            store,
            upstream: Upstream::new(config.origin.clone(), config.deadlines.origin, config.limits.origin),
            collapsing: Collapsing::new(config.deadlines.store),
            variants: Variants::new(config.limits.variants),
            tasks: TaskTracker::new(),
            max_entry: config.max_entry,
            known: Known::new(),
            requests: Requests::new(),
        }
    }

    fn log(&self, error: &Error, peer: SocketAddr) {
        if error.is_origins() {
            warn!(origin = %self.upstream.origin(), error = error.chain(), "origin failed");
        } else {
            debug!(%peer, error = error.chain(), "request refused");
        }
    }

    /// Waits for the fills under way: their clients may be gone, but others will ask.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn try_handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Error> {
        let (mut request, body) = request.into_parts();
        let begun = Begun::take(&mut request);
        let is_trusted = self.trusted.contains(peer.ip());
        let is_plain = !is_trusted && is_plain(&request);
        receive::receive(&mut request, is_trusted, &self.site)?;
        let rule = match self.policy.disposition(&request) {
            Disposition::Lookup(rule) => rule,
            Disposition::Pass(pass) => {
                let is_conditional = policy::is_conditional(&request.headers);
                let fetched = self.upstream.fetch(request, Some(body), peer).await?;
                return asked_for(is_conditional, relay(fetched, CacheStatus::Passed(pass)));
            }
        };
        let page = Page::of(&request, rule, &self.keys, &self.site);
        let is_known = matches!(begun, Begun::Looked(..));
        let (asked, lookup) = match &begun {
            Begun::Looked(asked, lookup) => (*asked, lookup.clone()),
            Begun::Words(_) | Begun::Apart => {
                let asked = Instant::now();
                (asked, self.lookup(&page, &request, asked).await)
            }
        };
        let is_hit = matches!(lookup, Lookup::Hit(..));
        if let (Begun::Words(words), true) = (begun, is_plain && is_hit) {
            self.requests.remember(Asked { words, request: request.clone(), page: page.clone() });
        }
        let (miss, marker) = lookup.parts();
        let wanted = Wanted { page: &page, request: &request, peer, miss, marker, asked };
        let mut response = match &lookup {
            Lookup::Hit(ready, source, _) => self.hit(ready, *source, wanted).await,
            Lookup::Miss(..) => self.miss(wanted).await,
        }?;
        if is_plain && (is_hit || is_known) {
            response.extensions_mut().insert(Recallable);
        }
        Ok(response)
    }

    /// Serves a page that was found, unless it is past its time.
    async fn hit(
        self: &Arc<Self>,
        ready: &Ready,
        source: Source,
        wanted: Wanted<'_>,
    ) -> Result<Response<Body>, Error> {
        let now = now();
        match self.may_serve(ready, wanted, now) {
            Some(hit) => Ok(ready.response(now, hit, source)),
            None => self.miss_or_stale(wanted, ready).await,
        }
    }

    /// Whether a page that was found is good enough, and has it refreshed if it will not be for long.
    fn may_serve(self: &Arc<Self>, ready: &Ready, wanted: Wanted<'_>, now: SystemTime) -> Option<Hit> {
        let hit = match wanted.page.rule.freshness(ready.head.expires, ready.head.cost, now, rand::random) {
            Freshness::Fresh => return Some(Hit::Fresh),
            Freshness::Early => Hit::Fresh,
            Freshness::Grace => Hit::Grace,
            Freshness::IfError => return None,
        };
        self.refresh(wanted);
        Some(hit)
    }

    /// A new page, or the old one if none can be had.
    async fn miss_or_stale(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        old: &Ready,
    ) -> Result<Response<Body>, Error> {
        let peer = wanted.peer;
        match self.miss(wanted).await {
            Ok(response) if !policy::is_failure(response.status()) => return Ok(response),
            Err(error) if !error.is_failure() => return Err(error),
            Err(error) => self.log(&error, peer),
            Ok(_) => {}
        }
        Ok(old.response(now(), Hit::StaleIfError, Source::Store))
    }
}

/// The origin's answer as it comes.
fn relay(fetched: Fetched, status: CacheStatus) -> Response<Body> {
    let mut response = Response::from_parts(fetched.head, Body::Relayed(fetched.body));
    status.apply(response.headers_mut());
    response
}

/// An answer, unless it is one to another question: no client asked to switch protocols, since nobody forwards that, and
/// "not modified" says nothing to one that has no page.
fn asked_for(is_conditional: bool, answer: Response<Body>) -> Result<Response<Body>, Error> {
    match answer.status() {
        status if status.is_informational() => Err(Error::Unasked(status)),
        status @ StatusCode::NOT_MODIFIED if !is_conditional => Err(Error::Unasked(status)),
        _ => Ok(answer),
    }
}

/// The clock, read once a request: at the hit, or when the origin has answered.
#[allow(clippy::disallowed_methods, reason = "the edge, where time becomes an argument")]
fn now() -> SystemTime {
    SystemTime::now()
}
