//! The origins behind the proxy: which of them may take a request, and which of those gets it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use server::Peer;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::health::{Ejection, OriginHealth, Standing};
use super::share::Share;
use super::{
    Fetched, Origin, OriginDeadlines, OriginError, OriginLimits, OriginTotals, RequestBody, Unanswered,
    Upstream,
};

/// The origins, and the settings for failures among them.
#[derive(Clone, Debug)]
pub struct Origins {
    /// All origins; at least one.
    pub all: Vec<Origin>,
    pub(crate) ejection: Ejection,
    /// The retries that each request earns.
    pub(crate) retry_budget: f64,
    /// The probe of the origins, if there is one.
    pub(crate) probe: Option<Probe>,
}

/// A request that asks an origin whether it is well.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// The URL of the probe.
    pub(crate) target: Uri,
    pub(crate) every: Duration,
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.all.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

/// All origins, in groups that serve the same requests.
#[derive(Debug)]
pub(crate) struct Upstreams {
    groups: Vec<OriginGroup>,
    ejection: Ejection,
    retries: Budget,
    /// How long a client may be silent in its body.
    idle: Duration,
}

/// Origins that serve the same requests.
#[derive(Debug)]
struct OriginGroup {
    share: Share,
    members: Vec<Member>,
    /// Held while an origin is being left out, so that not too many are at a time.
    ejecting: Mutex<()>,
}

#[derive(Debug)]
struct Member {
    upstream: Upstream,
    health: OriginHealth,
    weight: u32,
    is_backup: bool,
}

/// An origin as operators see it.
#[derive(Clone, Debug)]
pub(crate) struct OriginState {
    pub(crate) url: String,
    pub(crate) is_up: bool,
    pub(crate) is_ejected: bool,
    /// The requests and tunnels that it has.
    pub(crate) in_flight: usize,
    /// Requests that wait for a slot.
    pub(crate) waiting: usize,
    pub(crate) totals: OriginTotals,
}

/// The requests that were sent to another origin after one gave no answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RetryTotals {
    pub(crate) made: u64,
    /// The retries that the budget did not allow.
    pub(crate) left_out: u64,
}

/// A request to an origin. If it is dropped without an answer, the client has given it up.
struct AskedOrigin<'a> {
    health: &'a OriginHealth,
    is_answered: bool,
}

impl<'a> AskedOrigin<'a> {
    fn begin(health: &'a OriginHealth, now: Instant) -> Self {
        health.asked(now);
        Self { health, is_answered: false }
    }
}

impl Drop for AskedOrigin<'_> {
    fn drop(&mut self) {
        self.health.ended(self.is_answered, Instant::now());
    }
}

impl Upstreams {
    pub(crate) fn new(origins: &Origins, deadlines: OriginDeadlines, limits: OriginLimits) -> Self {
        let now = Instant::now();
        let mut groups: Vec<OriginGroup> = Vec::new();
        for origin in &origins.all {
            let member = Member {
                upstream: Upstream::new(origin.clone(), deadlines, limits),
                health: OriginHealth::new(now),
                weight: origin.weight,
                is_backup: origin.is_backup,
            };
            match groups.iter_mut().find(|group| group.share == origin.share) {
                Some(group) => group.members.push(member),
                None => groups.push(OriginGroup {
                    share: origin.share.clone(),
                    members: vec![member],
                    ejecting: Mutex::default(),
                }),
            }
        }
        let (ejection, retries) = (origins.ejection, Budget::new(origins.retry_budget));
        Self { groups, ejection, retries, idle: deadlines.idle }
    }

    /// Probes each of several origins at intervals, until this is dropped.
    pub(crate) fn watch(self: &Arc<Self>, probe: &Probe) {
        for (group, members) in self.groups.iter().map(|group| group.members.len()).enumerate() {
            for member in (0..members).filter(|_| members > 1) {
                tokio::spawn(watch(Arc::downgrade(self), (group, member), probe.clone()));
            }
        }
    }

    async fn probe(&self, (group, member): (usize, usize), probe: &Probe) {
        let group = &self.groups[group];
        let member = &group.members[member];
        let mut head = Request::new(()).into_parts().0;
        head.uri = probe.target.clone();
        head.headers.insert(HOST, member.upstream.origin().host());
        let began = Instant::now();
        let answer = timeout(probe.every, member.upstream.fetch(&head, None, Peer::LOCAL)).await;
        let is_well = matches!(&answer, Ok(Ok(fetched)) if fetched.head.status.as_u16() < 400);
        let now = Instant::now();
        match (is_well, member.health.standing(now)) {
            (false, _) => self.note_failure(group, member, now),
            // For an origin that is in use, only real requests tell how fast it is.
            (true, Standing::In) => {}
            (true, _) => member.health.succeeded(now - began, now),
        }
    }

    /// The next piece of a client's body, unless the client is silent for too long.
    pub(crate) async fn read(&self, body: &mut RequestBody) -> Result<Option<Bytes>, OriginError> {
        body.next(self.idle).await.transpose().map_err(OriginError::from)
    }

    /// Asks an origin, and others if the first gives no answer and the request may be sent again.
    pub(crate) async fn fetch(
        &self,
        head: &Parts,
        body: Option<RequestBody>,
        peer: Peer,
    ) -> Result<Fetched, OriginError> {
        let Some(group) = self.group(head) else { return Err(OriginError::None) };
        let [only] = &group.members[..] else {
            // Boxed, so that requests to a single origin don't pay for it.
            return Box::pin(self.fetch_of(group, head, body, peer)).await;
        };
        only.upstream.fetch(head, body, peer).await.map_err(|unanswered| unanswered.error)
    }

    /// The group of origins that a request is for.
    fn group(&self, head: &Parts) -> Option<&OriginGroup> {
        let of_all = self.groups.iter().find(|group| group.share.is_rest());
        self.groups.iter().find(|group| group.share.takes(head)).or(of_all)
    }

    async fn fetch_of(
        &self,
        group: &OriginGroup,
        head: &Parts,
        body: Option<RequestBody>,
        peer: Peer,
    ) -> Result<Fetched, OriginError> {
        self.retries.deposit();
        let has_body = body.as_ref().is_some_and(|body| !body.is_end());
        let is_repeatable = !has_body && [Method::GET, Method::HEAD].contains(&head.method);
        let (mut body, mut tried, mut may_repeat) = (body, SmallVec::<[usize; TRIES]>::new(), is_repeatable);
        loop {
            let place = group.pick(&tried, is_repeatable && tried.is_empty());
            let unanswered = match self.fetch_from(group, place, head, body, peer).await {
                Ok(fetched) => return Ok(fetched),
                Err(unanswered) => unanswered,
            };
            tried.push(place);
            let again = match unanswered.unsent {
                Some(body) => Some(body),
                // At most once, since the origin may have read the request.
                None => (std::mem::take(&mut may_repeat) && unanswered.is_silent).then_some(None),
            };
            let is_another = tried.len() < group.members.len().min(TRIES);
            match again.filter(|_| is_another && self.retries.withdraw()) {
                Some(again) => body = again,
                None => return Err(group.fault(unanswered.error, &tried)),
            }
        }
    }

    /// Asks one of several origins, and notes how it answers.
    async fn fetch_from(
        &self,
        group: &OriginGroup,
        member: usize,
        head: &Parts,
        body: Option<RequestBody>,
        peer: Peer,
    ) -> Result<Fetched, Unanswered> {
        let (member, began) = (&group.members[member], Instant::now());
        let mut asked = AskedOrigin::begin(&member.health, began);
        let answer = member.upstream.fetch(head, body, peer).await;
        let now = Instant::now();
        let is_failure = match &answer {
            Ok(fetched) => is_out_of_order(fetched.head.status),
            Err(unanswered) if unanswered.error.is_of_origin() => true,
            // A fault of the client says nothing about the origin.
            Err(_) => return answer,
        };
        asked.is_answered = true;
        let is_error = answer.as_ref().is_ok_and(|fetched| fetched.head.status.is_server_error());
        match is_failure {
            false if is_error => member.health.succeeded((now - began).max(ERROR), now),
            false => member.health.succeeded(now - began, now),
            true => self.note_failure(group, member, now),
        }
        answer
    }

    fn note_failure(&self, group: &OriginGroup, member: &Member, now: Instant) {
        let _one_at_a_time = group.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        // Called before the lock on this origin's state: the count includes this origin.
        let may_be_out = group.may_spare_one(now);
        if member.health.failed(self.ejection, now, may_be_out) {
            member.upstream.counts.ejected();
            let origin = member.upstream.origin();
            warn!(%origin, "origin left out: it failed {} times in a row", self.ejection.after);
        }
    }

    /// The origins that a request is for; none if the proxy has a single origin.
    pub(crate) fn named(&self, head: &Parts) -> Vec<String> {
        if self.groups.iter().map(|group| group.members.len()).sum::<usize>() < 2 {
            return Vec::new();
        }
        let members = self.group(head).map(|group| &group.members[..]).unwrap_or_default();
        members.iter().map(|member| member.upstream.origin().to_string()).collect()
    }

    /// Each origin, for operators.
    pub(crate) fn states(&self) -> Vec<OriginState> {
        let now = Instant::now();
        let members = self.groups.iter().flat_map(|group| &group.members);
        let state = |member: &Member| OriginState {
            url: member.upstream.origin().to_string(),
            is_up: !member.upstream.is_away(),
            is_ejected: member.health.standing(now) != Standing::In,
            in_flight: member.upstream.gate.under_way(),
            waiting: member.upstream.gate.waiting(),
            totals: member.upstream.counts.totals(),
        };
        members.map(state).collect()
    }

    /// The requests that were repeated, for operators.
    pub(crate) fn retries(&self) -> RetryTotals {
        RetryTotals { made: self.retries.made.load(Relaxed), left_out: self.retries.left_out.load(Relaxed) }
    }

    /// How long a follower waits for the leader's answer: as long as it would wait for its own.
    pub(crate) fn patience(&self) -> Duration {
        let all = self.groups.iter().flat_map(|group| &group.members);
        all.map(|member| member.upstream.patience()).max().unwrap_or_default()
    }
}

/// Probes one origin at intervals.
async fn watch(upstreams: Weak<Upstreams>, place: (usize, usize), probe: Probe) {
    loop {
        sleep(probe.every).await;
        let Some(upstreams) = upstreams.upgrade() else { return };
        upstreams.probe(place, &probe).await;
    }
}

impl fmt::Display for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.states().into_iter().map(|state| state.url).collect();
        f.write_str(&all.join(", "))
    }
}

impl OriginGroup {
    /// The index of the origin that gets a request: of two that are drawn, the cheaper one. An origin that was left out long
    /// enough gets a request, if this may be sent twice.
    fn pick(&self, tried: &[usize], may_try: bool) -> usize {
        let now = Instant::now();
        let is_due = |member: &Member| member.health.standing(now) == Standing::Trial;
        if may_try
            && let Some(place) = self.members.iter().position(is_due)
            && self.members[place].health.begin_trial(now)
        {
            info!(origin = %self.members[place].upstream.origin(), "origin tried again");
            return place;
        }
        let among = |is_wanted: &dyn Fn(&Member) -> bool| -> Vec<usize> {
            let places = (0..self.members.len()).filter(|place| !tried.contains(place));
            places.filter(|place| is_wanted(&self.members[*place])).collect()
        };
        let is_in = |member: &Member| member.health.standing(now) == Standing::In;
        // An origin that refuses connections would cost each request a retry.
        let is_gone = |member: &Member| member.upstream.is_away() && member.health.has_just_failed(now);
        let is_well = |member: &Member| is_in(member) && !is_gone(member);
        let preferred: [&dyn Fn(&Member) -> bool; 5] = [
            &|member| !member.is_backup && is_well(member),
            &is_well,
            &|member| !member.is_backup && is_in(member),
            &is_in,
            &|_| true,
        ];
        let candidates = preferred.into_iter().map(among).find(|places| !places.is_empty());
        self.cheaper_of_two(&candidates.unwrap_or_default(), now)
    }

    fn cheaper_of_two(&self, candidates: &[usize], now: Instant) -> usize {
        let draw = |count: usize| rand::random_range(0..count.max(1));
        let first = draw(candidates.len());
        // A different origin than the first.
        let second = (first + 1 + draw(candidates.len().saturating_sub(1))) % candidates.len().max(1);
        let cost = |place: usize| {
            let member = &self.members[place];
            member.health.cost(member.upstream.gate.under_way(), member.weight, now)
        };
        match (candidates.get(first), candidates.get(second)) {
            (Some(&first), Some(&second)) if cost(second) < cost(first) => second,
            (Some(&first), _) => first,
            // Unreachable: every group has members.
            (None, _) => 0,
        }
    }

    /// The fault of one origin, or that of all origins if none can be reached. As many origins as are tried at most stand for
    /// the others, of which nothing is known yet.
    fn fault(&self, error: OriginError, tried: &[usize]) -> OriginError {
        let is_away = |place: usize| self.members[place].upstream.is_away();
        let are_away = || {
            (0..self.members.len()).all(is_away)
                || tried.len() == TRIES && tried.iter().all(|place| is_away(*place))
        };
        match error {
            OriginError::Connect(cause) if are_away() => OriginError::Gone(cause),
            error => error,
        }
    }

    /// Whether one more origin may be left out: at most half of them are.
    fn may_spare_one(&self, now: Instant) -> bool {
        let out = self.members.iter().filter(|member| member.health.standing(now) != Standing::In).count();
        (out + 1) * 2 <= self.members.len()
    }
}

/// How many origins are asked while no connection can be made.
const TRIES: usize = 3;

/// An answer of the class 5xx counts as if it took this long, so that fast errors do not attract requests.
const ERROR: Duration = Duration::from_millis(100);

/// Whether a status says that the origin, or a proxy before it, cannot serve, so that another origin should.
fn is_out_of_order(status: StatusCode) -> bool {
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT].contains(&status)
}

/// The budget of retries: a share of all requests, saved up to a bound. Unbounded retries would double the load of origins
/// that fail because of their load.
#[derive(Debug)]
struct Budget {
    /// The unit is a thousandth of a retry.
    left: AtomicU64,
    of_each: u64,
    made: AtomicU64,
    left_out: AtomicU64,
}

impl Budget {
    /// The most that is saved: a thousand retries, since an origin that ends may have as many requests.
    const MOST: u64 = 1_000_000;

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1")]
    fn new(of_each: f64) -> Self {
        let of_each = (of_each * 1000.0) as u64;
        let left = AtomicU64::new(if of_each > 0 { Self::MOST } else { 0 });
        Self { left, of_each, made: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    fn deposit(&self) {
        let add = |left| (left < Self::MOST).then(|| Self::MOST.min(left + self.of_each));
        let _ = self.left.fetch_update(Relaxed, Relaxed, add);
    }

    fn withdraw(&self) -> bool {
        let is_left = self.left.fetch_update(Relaxed, Relaxed, |left: u64| left.checked_sub(1000)).is_ok();
        let counter = if is_left { &self.made } else { &self.left_out };
        counter.fetch_add(1, Relaxed);
        is_left
    }
}

#[cfg(test)]
mod tests;
