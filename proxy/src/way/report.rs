//! The state of a proxy, for its operators.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Proxy, now};
use crate::counts::Totals;
use crate::error::Error;
use crate::near::NearState;
use crate::store::Store;

/// How many of the last errors are kept.
const ERRORS: usize = 20;

/// What an operator sees. It holds no secret and nothing of any client.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The requests of each rule, in the order of `rules`, and then those without a rule.
    pub(crate) totals: Totals,
    pub(crate) rules: Vec<RuleState>,
    pub(crate) store_is_up: bool,
    /// `None` if there is no near cache.
    pub(crate) near: Option<NearState>,
    pub(crate) flights: usize,
    pub(crate) origin: OriginState,
    /// The last errors, oldest first.
    pub(crate) errors: Vec<LastError>,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleState {
    pub(crate) path: String,
    /// `None` if the rule is off.
    pub(crate) timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) struct OriginState {
    pub(crate) url: String,
    pub(crate) is_up: bool,
    /// Requests that the origin has.
    pub(crate) in_flight: usize,
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
    /// Keeps an error of the origin or the proxy; the client's own faults are not kept.
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
            near: self.near.as_ref().map(|near| near.state()),
            flights: self.flights.count(),
            origin: OriginState {
                url: self.upstream.origin().to_string(),
                is_up: !self.upstream.is_away(),
                in_flight: self.upstream.in_flight(),
            },
            errors: self.errors.all(),
        }
    }
}
