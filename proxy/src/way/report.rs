//! The state of a proxy, for its operators.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::decide::Serving;
use super::fills::FillTotals;
use super::purge::OrderEnd;
use super::{Proxy, now};
use crate::counts::Totals;
use crate::error::Error;
use crate::follow::FollowState;
use crate::histogram::Durations;
use crate::near::NearState;
use crate::origin::{Fetched, OriginState, RetryTotals};
use crate::purge::TargetKind;
use crate::request::Question;
use crate::store::{NodeState, OperationTotals, Store};
use crate::traffic::{HotPage, PageFreshness, SlowAnswer, shown_url};

/// How many of the last errors are kept.
const ERRORS: usize = 20;

/// The state that an operator sees. It holds no secret. Of requests it holds URLs only, without queries if the access log
/// leaves them out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The requests of each rule, in the order of `rules`, and last those without a rule.
    pub(crate) totals: Totals,
    pub(crate) rules: Vec<RuleState>,
    pub(crate) store_is_up: bool,
    /// The nodes of the store.
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) operations: Vec<OperationTotals>,
    /// `None` if there is no near cache.
    pub(crate) near: Option<NearState>,
    pub(crate) flights: usize,
    /// How many values the store in memory has dropped to make room.
    pub(crate) evictions: u64,
    /// How late purges were read.
    pub(crate) purge_lag: Durations,
    /// The number of purges, by kind, hard and soft.
    pub(crate) purges: [[u64; 2]; TargetKind::ALL.len()],
    /// The number of requests for purges, by how they ended.
    pub(crate) purge_requests: [u64; OrderEnd::ALL.len()],
    /// The databases that are followed.
    pub(crate) follows: Vec<FollowState>,
    pub(crate) fills: FillTotals,
    pub(crate) origins: Vec<OriginState>,
    pub(crate) retries: RetryTotals,
    /// The last errors, oldest first.
    pub(crate) errors: Vec<LastError>,
    /// The pages that are hit most, the hottest first.
    pub(crate) hottest: Vec<HotPage>,
    /// The slowest recent answers of the origin, the slowest first.
    pub(crate) slowest: Vec<SlowAnswer>,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleState {
    pub(crate) path: String,
    /// The timeout; `None` if the rule is off.
    pub(crate) timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) struct LastError {
    pub(crate) time: SystemTime,
    pub(crate) text: String,
}

/// The last errors, oldest first.
#[derive(Debug, Default)]
pub(super) struct LastErrors(Mutex<VecDeque<LastError>>);

impl LastErrors {
    /// Keeps an error of the origin or the proxy. Faults of the client are not kept.
    pub(super) fn keep(&self, error: &Error) {
        if !error.is_failure() {
            return;
        }
        let error = LastError { time: now(), text: error.chain() };
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() == ERRORS {
            errors.pop_front();
        }
        errors.push_back(error);
    }

    fn all(&self) -> Vec<LastError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl<S: Store> Proxy<S> {
    pub(crate) fn report(&self) -> Report {
        let rule = |rule: &crate::policy::Rule| RuleState {
            path: rule.path.to_string(),
            timeout: (!rule.is_off).then_some(rule.timeout),
        };
        Report {
            totals: self.counts.as_ref().map(|counts| counts.totals()).unwrap_or_default(),
            rules: self.policy.rules().all().iter().map(|one| rule(one)).collect(),
            store_is_up: self.store.is_up(),
            nodes: self.store.nodes(),
            operations: self.store.operations(),
            near: self.near.as_ref().map(|near| near.state()),
            flights: self.flights.count(),
            evictions: self.store.evictions(),
            purge_lag: self.log.as_ref().map(|log| log.lag()).unwrap_or_default(),
            purges: self.purges.targets(),
            purge_requests: self.purges.requests(),
            follows: self.followed.states(),
            fills: self.fills.totals(),
            origins: self.upstreams.states(),
            retries: self.upstreams.retries(),
            errors: self.errors.all(),
            ..self.traffic_report()
        }
    }

    /// The hottest pages and the slowest answers. A URL may have been kept when queries were still shown.
    fn traffic_report(&self) -> Report {
        let Some(traffic) = &self.traffic else { return Report::default() };
        let (mut hottest, mut slowest) = (traffic.hottest(Instant::now()), traffic.slowest().all(now()));
        if !self.shows_queries() {
            hottest.iter_mut().for_each(|page| cut_query(&mut page.url));
            slowest.iter_mut().for_each(|answer| cut_query(&mut answer.url));
        }
        Report { hottest, slowest, ..Report::default() }
    }

    /// Counts a hit in the samples of the hottest and of the recent pages, if they are due.
    pub(super) fn sample<'a>(
        &self,
        serving: &Serving,
        began: Instant,
        question: impl FnOnce() -> Question<'a>,
    ) {
        let hits = self.traffic.as_ref().map(|traffic| traffic.own()).filter(|hits| hits.is_due(began));
        let recent = self.recent.as_ref().filter(|recent| recent.is_due(began));
        if hits.is_none() && recent.is_none() {
            return;
        }
        let question = question();
        if let Some(recent) = recent {
            recent.count(shown_url(&question, true), began);
        }
        if let Some(hits) = hits {
            let Serving { page, time_of_page, .. } = serving;
            let freshness = PageFreshness { age: page.age(*time_of_page), ttl: page.ttl(*time_of_page) };
            hits.count(self.url(&question), freshness, began);
        }
    }

    /// Keeps an answer of the origin if it is one of the slowest.
    pub(super) fn keep_if_slow(&self, question: &Question<'_>, fetched: &Fetched) {
        if let Some(traffic) = &self.traffic {
            let (method, url) = (question.method.to_string(), self.url(question));
            let (status, took) = (fetched.head.status.as_u16(), fetched.took);
            traffic.slowest().keep(SlowAnswer { time: now(), method, url, status, took });
        }
    }

    /// The URL of a request, for operators.
    fn url(&self, question: &Question<'_>) -> String {
        shown_url(question, self.shows_queries())
    }

    /// Whether operators see the queries of URLs.
    fn shows_queries(&self) -> bool {
        !self.access_log.as_ref().is_some_and(|log| log.own().settings().redact_query)
    }
}

fn cut_query(url: &mut String) {
    url.truncate(url.find('?').unwrap_or(url.len()));
}
