//! The path of a request: question, decision, answer. A miss takes a flight, through admission and fill.

mod answered;
mod body;
mod capture;
mod compress;
mod content;
mod decide;
mod explain;
mod fill;
mod fills;
mod fleet;
mod flight;
mod follow;
mod in_force;
mod lookup;
mod made_names;
mod normal;
mod plain;
mod purge;
mod refresh;
mod renewal;
mod reply;
mod report;
mod serve;

use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};

use server::Seldom;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use explain::Explanation;
pub use in_force::InForce;
use report::LastErrors;
pub(crate) use report::Report;
#[cfg(test)]
pub(crate) use report::RuleState;

use capture::Room;
use compress::CompressionPool;
use fills::FillCounts;
pub(crate) use fills::{FillEnd, LeaseEnd};
pub(crate) use purge::OrderEnd;
use purge::PurgeCounts;

use crate::access_log::AccessLog;
use crate::acme::{Acme, Tokens};
use crate::config::{Config, PurgeSettings, StoreUrl};
use crate::counts::RequestCounts;
use crate::follow::Followed;
use crate::head_cache::HeadCache;
use crate::key::{Key, Keys};
use crate::near::Near;
use crate::origin::Upstreams;
use crate::page::format::Format;
use crate::policy::{Coalesce, Policy, Rule};
use crate::request::TrustedProxies;
use crate::request::site::Site;
use crate::share::flights::Flights;
use crate::share::waiters::Waiters;
use crate::store::{Listener, LogCopy, PurgeLogSettings, Store};
use crate::traffic::{RecentPages, Traffic};
use crate::variants::Variants;
use crate::weight::Shares;

/// A cache in front of one origin or several, with the settings that a request begins with and keeps to its end.
///
/// These hold for every request:
/// * A store fault never fails, delays past its deadline, or truncates a response: a failed read is a miss, a failed
///   write is a page not stored.
/// * A key is a function of the request as the origin sees it, the rule and the marker.
/// * An answer that was not admitted is never stored.
/// * From 50 ms after the acknowledgement of a purge on, no purged page is served.
/// * While a database is not heard, no page is served for longer than its `on_loss` says.
/// * A hit never contacts the origin; a pass touches the store only to purge the pages that an unsafe method has changed.
#[derive(Clone, Debug)]
pub struct Proxy<S> {
    policy: Policy,
    keys: Keys,
    format: Arc<Format>,
    /// Whether pages are stored, or only read.
    writes: bool,
    /// Whether a page gets Django's `ETag` before it is stored.
    conditional_get: bool,
    site: Site,
    /// Whether clients may speak TLS with the proxy.
    speaks_tls: bool,
    trusted: TrustedProxies,
    /// Whether the log has named an untrusted peer that probably should be trusted.
    untrusted_is_logged: Arc<Once>,
    store: S,
    upstreams: Arc<Upstreams>,
    /// The faults of the origin and of clients, for the log.
    faults: Arc<Seldom>,
    /// The last errors, for operators.
    errors: Arc<LastErrors>,
    flights: Arc<Flights>,
    /// The requests that wait for a page that another proxy of the fleet is fetching.
    waiters: Arc<Waiters>,
    variants: Variants,
    /// Flights and fills, which continue after their clients have left.
    tasks: TaskTracker,
    /// The figures of the requests, if the settings want them.
    counts: Option<RequestCounts>,
    /// The hottest pages and the slowest answers, if the settings want them.
    traffic: Option<Arc<Traffic>>,
    /// The access log, if the settings want one.
    access_log: Option<Arc<AccessLog>>,
    /// The answers for an authority that validates names over HTTP, if there is one.
    tokens: Option<Tokens>,
    /// Whether a request without an `X-Request-Id` gets one.
    makes_request_ids: bool,
    /// Whether a request without a `traceparent` that can be read gets one.
    makes_traces: bool,
    max_entry: u64,
    /// The room for pages that are being captured.
    room: Room,
    /// The threads that compress the pages of rules with `compress`.
    compressor: CompressionPool,
    /// The room for contents that select pages.
    contents: Room,
    heads: Arc<HeadCache>,
    /// The near cache, if it is on and the store reports its changes.
    near: Option<Arc<Near>>,
    /// The purge log, if anybody can purge.
    log: Option<Arc<LogCopy>>,
    /// How long a request waits for the log.
    log_patience: Duration,
    purging: PurgeSettings,
    purges: Arc<PurgeCounts>,
    /// The pages that are fetched anew when they are purged, if a rule wants that.
    recent: Option<Arc<RecentPages>>,
    /// The databases to follow.
    followed: Followed,
    fills: Arc<FillCounts>,
}

impl<S: Store> Proxy<S> {
    /// A proxy with these settings in front of this store. `site` is the Host that is not part of keys.
    pub fn new(config: &Config, site: Site, store: S) -> Self {
        if config.admin.is_some() {
            store.count_operations();
        }
        Self { followed: Followed::new(&config.follows), ..Self::with_log(config, site, store, true) }
    }

    /// A proxy that serves nobody and writes nothing, to explain requests.
    pub fn for_explaining(config: &Config, site: Site, store: S) -> Self {
        Self::with_log(config, site, store, false)
    }

    fn with_log(config: &Config, site: Site, store: S, writes_log: bool) -> Self {
        let waiters = Arc::new(Waiters::new());
        Self {
            policy: Policy::new(config.rules.clone(), config.max_entry),
            keys: config.keys.clone(),
            format: Arc::new(config.format.clone()),
            writes: config.writes,
            conditional_get: config.conditional_get,
            site,
            speaks_tls: config.listeners.iter().any(|listener| listener.certificates.is_some()),
            trusted: TrustedProxies::new(config.trusted_proxies.clone()),
            untrusted_is_logged: Arc::new(Once::new()),
            near: follow(&store, config, &waiters),
            log: follow_log(&store, config, writes_log),
            log_patience: config.deadlines.store,
            purging: config.purge.clone(),
            purges: Arc::default(),
            recent: refresh::recent(config),
            followed: Followed::elsewhere(&config.follows),
            waiters,
            store,
            upstreams: upstreams(config),
            faults: Arc::default(),
            errors: Arc::default(),
            fills: Arc::default(),
            flights: Arc::new(Flights::new(longest_lookup::<S>(config))),
            variants: Variants::new(config.limits.variants),
            tasks: TaskTracker::new(),
            counts: config.admin.is_some().then(|| RequestCounts::new(&paths(config))),
            traffic: config.admin.is_some().then(|| Arc::new(Traffic::new(Instant::now()))),
            access_log: None,
            tokens: config.acme.as_ref().and_then(Acme::tokens),
            makes_request_ids: config.makes_request_ids,
            makes_traces: config.makes_traces,
            max_entry: config.max_entry,
            room: Room::new(captures(config)),
            compressor: CompressionPool::new(),
            contents: content::room(),
            heads: Arc::new(HeadCache::new(Shares::of(memory(config)).heads)),
        }
    }

    /// The same proxy with other settings. Its caches, counts, flights and fills go on.
    pub(crate) fn with_settings(&self, config: &Config, site: Site, has_same_origins: bool) -> Self {
        if is_for_fleet(config) {
            // This has no effect on a store that is followed already.
            self.store.follow(&config.keys.prefixes(), vec![self.waiters.clone()]);
        }
        Self {
            policy: Policy::new(config.rules.clone(), config.max_entry),
            trusted: TrustedProxies::new(config.trusted_proxies.clone()),
            log: self.log.clone().or_else(|| follow_log(&self.store, config, true)),
            purging: config.purge.clone(),
            followed: self.followed.with(&config.follows),
            recent: refresh::recent(config).map(|new| self.recent.clone().unwrap_or(new)),
            makes_request_ids: config.makes_request_ids,
            makes_traces: config.makes_traces,
            upstreams: if has_same_origins { self.upstreams.clone() } else { upstreams(config) },
            variants: self.variants.with_limit(config.limits.variants),
            counts: self.counts.as_ref().map(|counts| counts.with_rules(&paths(config))),
            // A new request must not join a fetch with the old settings.
            flights: Arc::new(Flights::new(longest_lookup::<S>(config))),
            site,
            ..self.clone()
        }
    }

    /// Sets the access log, which gets a line for each request.
    #[must_use]
    pub fn with_access_log(self, access_log: Option<Arc<AccessLog>>) -> Self {
        Self { access_log, ..self }
    }

    /// The Host that is not part of keys.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its access log, if it has one.
    pub fn access_log(&self) -> Option<&Arc<AccessLog>> {
        self.access_log.as_ref()
    }

    /// Tries each command of the store that the proxy needs. The store warns of those that it refuses.
    pub async fn check_store(&self) {
        self.store.refusals(&self.keys.prefixes()).await;
    }

    /// Waits for the fills under way. Even if their clients have left, later requests need the pages.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The longest time from the start of a lookup to its flight. A store in memory answers at once, but the thread may have to
/// wait for a core.
fn longest_lookup<S: Store>(config: &Config) -> Duration {
    const AT_ONCE: Duration = Duration::from_millis(25);
    if S::IS_IMMEDIATE { AT_ONCE } else { config.deadlines.store }
}

/// New connections to the origins. Probes begin if the settings want them.
fn upstreams(config: &Config) -> Arc<Upstreams> {
    let upstreams = Upstreams::new(&config.origins, config.deadlines.origin, config.limits.origin);
    let upstreams = Arc::new(upstreams);
    config.origins.probe.iter().for_each(|probe| upstreams.watch(probe));
    upstreams
}

/// The paths of the rules, in order.
fn paths(config: &Config) -> Vec<String> {
    config.rules.iter().map(|rule| rule.path.to_string()).collect()
}

/// Whether requests may have to wait for other proxies.
fn is_for_fleet(config: &Config) -> bool {
    config.rules.iter().any(|rule| rule.coalesce == Coalesce::Fleet)
}

/// The limit of captures. The memory of captures on their way to Redis has no limit.
fn captures(config: &Config) -> u64 {
    match &config.store {
        StoreUrl::Memory => Shares::of(config.memory_limit).captures,
        StoreUrl::Redis(_) => u64::MAX,
    }
}

/// The limit of memory that the heads belong to.
fn memory(config: &Config) -> u64 {
    match (&config.store, config.near) {
        (StoreUrl::Memory, _) => config.memory_limit,
        (StoreUrl::Redis(_), Some(near)) => near,
        (StoreUrl::Redis(_), None) => u64::MAX,
    }
}

/// Follows the purge log, if anybody can purge.
fn follow_log<S: Store>(store: &S, config: &Config, writes: bool) -> Option<Arc<LogCopy>> {
    config.purges().then(|| store.follow_log(&config.keys.prefixes(), log_settings(config, writes)))
}

/// The settings of the purge log, which lies beside the pages.
fn log_settings(config: &Config, writes: bool) -> PurgeLogSettings {
    /// The reserve covers the time between two epochs, and clocks that differ.
    const RESERVE: Duration = Duration::from_secs(120);
    let longest = config.rules.iter().map(Rule::keep).max().unwrap_or_default();
    let prefix = config.keys.prefixes().swap_remove(0);
    let key = Key::new([&prefix[..], b"purges"].concat());
    PurgeLogSettings { key, horizon: longest + RESERVE, writes }
}

/// Follows the store's changes if the near cache or a lease needs them. Returns the near cache, if it is on.
fn follow<S: Store>(store: &S, config: &Config, waiters: &Arc<Waiters>) -> Option<Arc<Near>> {
    let near = config.near.map(|limit| Arc::new(Near::new(Shares::of(limit).pages, config.max_entry)));
    if near.is_none() && !is_for_fleet(config) {
        return None;
    }
    let mut listeners: Vec<Arc<dyn Listener>> = vec![waiters.clone()];
    listeners.extend(near.clone().map(|near| near as Arc<dyn Listener>));
    let follows = store.follow(&config.keys.prefixes(), listeners);
    near.filter(|_| follows)
}

/// The clock. A decision reads it once: at a hit, or when the origin has answered. The access log reads it again.
#[allow(clippy::disallowed_methods, reason = "the edge, where time becomes an argument")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
