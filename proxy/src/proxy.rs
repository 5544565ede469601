//! The way of a request, in one line: disposition, lookup, fetch, admission, fill.

mod explain;
mod flight;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{Level, debug, warn};

pub use explain::Explanation;
use flight::Wanted;

use crate::body::Body;
use crate::collapse::Collapsing;
use crate::config::Config;
use crate::entry::Entry;
use crate::error::Error;
use crate::format::{Base, Format};
use crate::forward::{self, TrustedProxies};
use crate::key::{Key, Keys, Marker, Page};
use crate::policy::{self, Disposition, Freshness, Policy};
use crate::site::Site;
use crate::status::{CacheStatus, Hit, Miss};
use crate::store::{Store, StoreError};
use crate::upstream::{Fetched, Upstream};
use crate::variants::Variants;

/// How many markers of varying pages are remembered, to save a round trip for each. A few hundred bytes each.
const MARKERS: usize = 10_000;

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
    /// The last marker seen under each base key. A guess: it is compared with the stored one at each use.
    markers: Cache<Key, Arc<Marker>>,
}

/// What the store holds for a request.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made; a box would be an allocation a hit"
)]
enum Lookup {
    /// And the page's marker, if it has one, in both cases.
    Hit(Entry, Option<Arc<Marker>>),
    Miss(Miss, Option<Arc<Marker>>),
}

impl<S: Store> server::Handler for Proxy<S> {
    type Body = Body;

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
            store,
            upstream: Upstream::new(config.origin.clone(), config.deadlines.origin, config.limits.origin),
            collapsing: Collapsing::new(config.deadlines.store),
            variants: Variants::new(config.limits.variants),
            tasks: TaskTracker::new(),
            max_entry: config.max_entry,
            markers: Cache::new(MARKERS),
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
        let asked = Instant::now();
        let (mut request, body) = request.into_parts();
        forward::receive(&mut request, peer, &self.trusted, &self.site)?;
        let rule = match self.policy.disposition(&request) {
            Disposition::Lookup(rule) => rule,
            Disposition::Pass(pass) => {
                let is_conditional = policy::is_conditional(&request.headers);
                let fetched = self.upstream.fetch(request, Some(body), peer).await?;
                return asked_for(is_conditional, relay(fetched, CacheStatus::Passed(pass)));
            }
        };
        let page = Page::of(&request, rule, &self.keys, &self.site);
        let (miss, marker, stale) = match self.lookup(&page, &request).await {
            Lookup::Miss(miss, marker) => (miss, marker, None),
            Lookup::Hit(entry, marker) => {
                let now = now();
                let hit = match rule.freshness(entry.expires, entry.cost, now, rand::random()) {
                    Freshness::Fresh => return Ok(entry.into_response(now, Hit::Fresh)),
                    Freshness::Early => Some(Hit::Fresh),
                    Freshness::Grace => Some(Hit::Grace),
                    Freshness::IfError => None,
                };
                if let Some(hit) = hit {
                    self.refresh(&Wanted {
                        page,
                        rule,
                        request: &request,
                        peer,
                        miss: Miss::Stale,
                        marker,
                        asked,
                    });
                    return Ok(entry.into_response(now, hit));
                }
                (Miss::Stale, marker, Some(entry))
            }
        };
        let answer = self.miss(Wanted { page, rule, request: &request, peer, miss, marker, asked }).await;
        let answer = answer.and_then(|answer| asked_for(policy::is_conditional(&request.headers), answer));
        let has_failed = match &answer {
            Ok(response) => policy::is_failure(response.status()),
            Err(error) => error.is_failure(),
        };
        match stale.filter(|_| has_failed) {
            Some(entry) => {
                if let Err(error) = &answer {
                    self.log(error, peer);
                }
                Ok(entry.into_response(now(), Hit::StaleIfError))
            }
            None => answer,
        }
    }

    /// Reads the page, or the marker of its variants and the variant: both in one round trip if the marker is known.
    async fn lookup(&self, page: &Page<'_>, request: &Parts) -> Lookup {
        match self.try_lookup(page, request).await {
            Ok(lookup) => lookup,
            Err(error) => {
                debug!(key = %page.key, %error, "not read");
                let miss = if error.is_outage() { Miss::Store } else { Miss::Unusable };
                Lookup::Miss(miss, None)
            }
        }
    }

    async fn try_lookup(&self, page: &Page<'_>, request: &Parts) -> Result<Lookup, StoreError> {
        let guess = self.markers.get(&page.key);
        let (base, guessed) = match &guess {
            None => self.store.get([&page.key]).await.map(|[base]| (base, None))?,
            Some(marker) => {
                let variant = page.variant(marker, &request.headers);
                self.store.get([&page.key, &variant.key]).await.map(|[base, value]| (base, value))?
            }
        };
        let Some(base) = base else { return Ok(Lookup::Miss(Miss::Uri, None)) };
        let marker = match self.format.base(&base) {
            Base::Marker(marker) => Arc::new(marker),
            Base::Page(entry) => return Ok(serve(page, Some(entry), request, None)),
            Base::Unusable => return Ok(Lookup::Miss(Miss::Unusable, None)),
        };
        let variant = page.variant(&marker, &request.headers);
        let value = if guess.as_ref() == Some(&marker) {
            guessed
        } else {
            self.markers.insert(page.key.clone(), marker.clone());
            self.store.get([&variant.key]).await.map(|[value]| value)?
        };
        match value {
            Some(value) => Ok(serve(&variant, self.format.decode(&value), request, Some(marker))),
            None => Ok(Lookup::Miss(Miss::Vary, Some(marker))),
        }
    }
}

/// A stored page as a hit, if it can be read, was stored for this very request, and may go to this client.
fn serve(page: &Page<'_>, entry: Option<Entry>, request: &Parts, marker: Option<Arc<Marker>>) -> Lookup {
    let is_for = |entry: &Entry| page.serves(entry, request);
    match entry.filter(is_for) {
        Some(entry) => Lookup::Hit(entry, marker),
        None => Lookup::Miss(Miss::Unusable, marker),
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
