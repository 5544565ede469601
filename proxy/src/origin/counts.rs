//! The figures of one origin.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hyper::StatusCode;

use super::{Fetched, Unanswered};
use crate::histogram::{Durations, Histogram};
use crate::origin::OriginError;

/// How a request to an origin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchEnd {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// The origin gave no answer.
    Failed,
    /// No slot was free, so the origin was not asked.
    Busy,
    /// The client left, or the client's body broke off.
    Left,
}

impl FetchEnd {
    pub(crate) const ALL: [Self; 8] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Failed,
        Self::Busy,
        Self::Left,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Failed => "error",
            Self::Busy => "busy",
            Self::Left => "left",
        }
    }

    fn of(answer: &Result<Fetched, Unanswered>) -> Self {
        match answer {
            Ok(fetched) => Self::of_status(fetched.head.status),
            Err(unanswered) => match unanswered.error {
                OriginError::Busy => Self::Busy,
                ref error if error.is_of_origin() => Self::Failed,
                _ => Self::Left,
            },
        }
    }

    fn of_status(status: StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

/// The counters of an origin.
#[derive(Debug, Default)]
pub(super) struct OriginCounts {
    ends: [AtomicU64; FetchEnd::ALL.len()],
    /// The times to the heads of answers.
    durations: Histogram,
    ejections: AtomicU64,
}

/// The figures of an origin, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct OriginTotals {
    /// In the order of [`FetchEnd::ALL`].
    pub(crate) ends: [u64; FetchEnd::ALL.len()],
    /// The times from the wait for a slot to the head of the answer.
    pub(crate) durations: Durations,
    /// How often it was left out.
    pub(crate) ejections: u64,
}

impl OriginCounts {
    /// Begins to count a request.
    pub(super) fn begin(&self) -> CountedFetch<'_> {
        CountedFetch { counts: self, end: FetchEnd::Left }
    }

    /// Counts that the origin is left out.
    pub(super) fn ejected(&self) {
        self.ejections.fetch_add(1, Relaxed);
    }

    pub(super) fn totals(&self) -> OriginTotals {
        OriginTotals {
            ends: self.ends.each_ref().map(|end| end.load(Relaxed)),
            durations: self.durations.durations(),
            ejections: self.ejections.load(Relaxed),
        }
    }
}

/// A request that is under way. It is counted when this is dropped, also if its client leaves.
pub(super) struct CountedFetch<'a> {
    counts: &'a OriginCounts,
    end: FetchEnd,
}

impl CountedFetch<'_> {
    /// Notes how it ended.
    pub(super) fn ended(mut self, answer: &Result<Fetched, Unanswered>) {
        self.end = FetchEnd::of(answer);
        if let Ok(fetched) = answer {
            self.counts.durations.count(fetched.took);
        }
    }
}

impl Drop for CountedFetch<'_> {
    fn drop(&mut self) {
        self.counts.ends[self.end as usize].fetch_add(1, Relaxed);
    }
}
