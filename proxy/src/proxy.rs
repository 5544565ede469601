//! The way of a request, in one line: disposition, lookup, fetch, admission, fill.

mod explain;
mod flight;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{Level, debug, warn};

pub use explain::Explanation;
use flight::Wanted;

use crate::body::Body;
use crate::collapse::Collapsing;
use crate::config::Config;
use crate::entry::Ready;
use crate::error::Error;
use crate::format::{Base, Format};
use crate::forward::{self, TrustedProxies};
use crate::key::{Keys, Marker, Page};
use crate::known::{Known, Seen};
use crate::policy::{self, Coalesce, Disposition, Freshness, Policy};
use crate::site::Site;
use crate::status::{CacheStatus, Hit, Miss, Source};
use crate::store::{Kept, Near, Store, StoreError, Ticket};
use crate::upstream::{Fetched, Upstream};
use crate::variants::Variants;

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
    /// What was read and has not changed since, if the store tells of changes.
    near: Option<Arc<Near>>,
}

/// What the store holds for a request.
enum Lookup {
    /// And the page's marker, if it has one, in both cases.
    Hit(Ready, Source, Option<Arc<Marker>>),
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
            near: follow(&store, config),
            store,
            upstream: Upstream::new(config.origin.clone(), config.deadlines.origin, config.limits.origin),
            collapsing: Collapsing::new(config.deadlines.store),
            variants: Variants::new(config.limits.variants),
            tasks: TaskTracker::new(),
            max_entry: config.max_entry,
            known: Known::new(),
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
        match self.lookup(&page, &request, asked).await {
            Lookup::Hit(ready, source, marker) => {
                let miss = Miss::Stale;
                self.hit(ready, source, Wanted { page, rule, request: &request, peer, miss, marker, asked })
                    .await
            }
            Lookup::Miss(miss, marker) => {
                self.miss(Wanted { page, rule, request: &request, peer, miss, marker, asked }).await
            }
        }
    }

    /// Serves a page that was found, unless it is past its time.
    async fn hit(
        self: &Arc<Self>,
        ready: Ready,
        source: Source,
        wanted: Wanted<'_>,
    ) -> Result<Response<Body>, Error> {
        let now = now();
        let hit = match wanted.rule.freshness(ready.head.expires, ready.head.cost, now, rand::random) {
            Freshness::Fresh => return Ok(ready.into_response(now, Hit::Fresh, source)),
            Freshness::Early => Hit::Fresh,
            Freshness::Grace => Hit::Grace,
            Freshness::IfError => return self.miss_or_stale(wanted, ready).await,
        };
        self.refresh(&wanted);
        Ok(ready.into_response(now, hit, source))
    }

    /// A new page, or the old one if none can be had.
    async fn miss_or_stale(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        old: Ready,
    ) -> Result<Response<Body>, Error> {
        let peer = wanted.peer;
        match self.miss(wanted).await {
            Ok(response) if !policy::is_failure(response.status()) => return Ok(response),
            Err(error) if !error.is_failure() => return Err(error),
            Err(error) => self.log(&error, peer),
            Ok(_) => {}
        }
        Ok(old.into_response(now(), Hit::StaleIfError, Source::Store))
    }

    /// Looks for the page near, then in the store.
    async fn lookup(&self, page: &Page<'_>, request: &Parts, asked: Instant) -> Lookup {
        if let Some((ready, marker)) = self.near_page(page, request, asked) {
            return Lookup::Hit(ready, Source::Near, marker);
        }
        match self.try_lookup(page, request, asked).await {
            Ok(lookup) => lookup,
            Err(error) => {
                debug!(key = %page.key, %error, "not read");
                let miss = if error.is_outage() { Miss::Store } else { Miss::Unusable };
                Lookup::Miss(miss, None)
            }
        }
    }

    fn near_page(
        &self,
        page: &Page<'_>,
        request: &Parts,
        asked: Instant,
    ) -> Option<(Ready, Option<Arc<Marker>>)> {
        let near = self.near.as_ref()?;
        let marker = match near.get(&page.key, asked)? {
            Kept::Page(ready) => return page.serves(ready.proved(), request).then_some((ready, None)),
            Kept::Marker(marker) => marker,
        };
        let variant = page.variant(&marker, &request.headers);
        match near.get(&variant.key, asked)? {
            Kept::Page(ready) => variant.serves(ready.proved(), request).then_some((ready, Some(marker))),
            Kept::Marker(_) => None,
        }
    }

    /// Reads the page, or the marker of its variants and the variant: both in one round trip if the marker is known.
    async fn try_lookup(
        &self,
        page: &Page<'_>,
        request: &Parts,
        asked: Instant,
    ) -> Result<Lookup, StoreError> {
        let ticket = self.ticket(page, asked);
        let seen = self.known.get(&page.key);
        let guess = match &seen {
            Some(Seen::Marker(marker)) => Some((marker, page.variant(marker, &request.headers))),
            _ => None,
        };
        let (base, guessed) = match &guess {
            None => self.store.get([&page.key]).await.map(|[base]| (base, None))?,
            Some((_, variant)) => {
                let ticket = self.ticket(variant, asked);
                let [base, value] = self.store.get([&page.key, &variant.key]).await?;
                (base, Some((value, ticket)))
            }
        };
        let Some(base) = base else { return Ok(Lookup::Miss(Miss::Uri, None)) };
        if let Some(ready) = known_page(seen.as_ref(), &base) {
            return Ok(self.serve(page, Some(ready), request, None, ticket).await);
        }
        let marker = match self.format.base(&base) {
            Base::Marker(marker) => Arc::new(marker),
            Base::Page(entry) => {
                let ready = self.known.remember_page(&page.key, &base, entry, &self.format);
                return Ok(self.serve(page, Some(ready), request, None, ticket).await);
            }
            Base::Unusable => return Ok(Lookup::Miss(Miss::Unusable, None)),
        };
        self.keep(page, || Kept::Marker(marker.clone()), ticket).await;
        let is_guess = guess.as_ref().is_some_and(|(guess, _)| **guess == marker);
        let variant = page.variant(&marker, &request.headers);
        let (value, ticket) = match guessed.filter(|_| is_guess) {
            Some(read) => read,
            None => {
                self.known.remember_marker(page.key.clone(), marker.clone());
                let ticket = self.ticket(&variant, asked);
                self.store.get([&variant.key]).await.map(|[value]| (value, ticket))?
            }
        };
        let Some(value) = value else { return Ok(Lookup::Miss(Miss::Vary, Some(marker))) };
        let ready = self.variant_page(&variant, &value);
        Ok(self.serve(&variant, ready, request, Some(marker), ticket).await)
    }

    fn variant_page(&self, variant: &Page<'_>, value: &Bytes) -> Option<Ready> {
        known_page(self.known.get(&variant.key).as_ref(), value).or_else(|| {
            let mut entry = self.format.decode(value)?;
            variant.complete(&mut entry);
            Some(self.known.remember_page(&variant.key, value, entry, &self.format))
        })
    }

    /// A stored page as a hit, if it can be read, was stored for this very request, and may go to this client.
    async fn serve(
        &self,
        page: &Page<'_>,
        ready: Option<Ready>,
        request: &Parts,
        marker: Option<Arc<Marker>>,
        ticket: Option<Ticket>,
    ) -> Lookup {
        match ready.filter(|ready| page.serves(ready.proved(), request)) {
            Some(ready) => {
                self.keep(page, || Kept::Page(ready.clone()), ticket).await;
                Lookup::Hit(ready, Source::Store, marker)
            }
            None => Lookup::Miss(Miss::Unusable, marker),
        }
    }

    fn ticket(&self, page: &Page<'_>, asked: Instant) -> Option<Ticket> {
        self.near.as_ref()?.ticket(&page.key, asked)
    }

    /// Keeps near what was read, for as long as the store says that it has it: what the value itself says of that came
    /// from another's clock, and may have been changed by hand.
    async fn keep(&self, page: &Page<'_>, kept: impl FnOnce() -> Kept, ticket: Option<Ticket>) {
        let (Some(near), Some(ticket)) = (&self.near, ticket) else { return };
        let before = Instant::now();
        if let Ok(Some(ttl)) = self.store.ttl(&page.key).await {
            near.keep(&page.key, kept(), before + ttl, ticket);
        }
    }
}

/// Hears of the store's changes, if there is any use for that; with the near cache, if there is to be one.
fn follow<S: Store>(store: &S, config: &Config) -> Option<Arc<Near>> {
    let in_fleet = config.rules.iter().any(|rule| rule.coalesce == Coalesce::Fleet);
    (in_fleet || config.near.is_some()).then(|| store.follow(&config.keys.prefix(), config.near))?
}

/// The page of a value whose head is the last seen.
fn known_page(seen: Option<&Seen>, value: &Bytes) -> Option<Ready> {
    match seen {
        Some(Seen::Head(text)) => text.page(value),
        _ => None,
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
