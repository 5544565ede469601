//! How fills and leases end, counted for operators.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::histogram::{Durations, Histogram};

/// How the fetch of a page for the store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillEnd {
    Stored,
    /// A 304 has given the stored page a new lifetime.
    Renewed,
    /// The answer may not be stored.
    Declined,
    TooLarge,
    /// Too many pages were being captured at the moment.
    NoRoom,
    /// The answer broke off.
    CutShort,
    /// A purge named the page while it was fetched.
    Purged,
    /// The store did not take the page, or could not be asked.
    Failed,
}

impl FillEnd {
    pub(crate) const ALL: [Self; 8] = [
        Self::Stored,
        Self::Renewed,
        Self::Declined,
        Self::TooLarge,
        Self::NoRoom,
        Self::CutShort,
        Self::Purged,
        Self::Failed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Renewed => "renewed",
            Self::Declined => "declined",
            Self::TooLarge => "too_large",
            Self::NoRoom => "no_room",
            Self::CutShort => "cut_short",
            Self::Purged => "purged",
            Self::Failed => "failed",
        }
    }
}

/// How a page that the fleet fetches once was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseEnd {
    /// This proxy had the lease.
    Ours,
    /// Another proxy had it, and has stored the page.
    Theirs,
    /// No proxy had a lease.
    Alone,
}

impl LeaseEnd {
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::Theirs, Self::Alone];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Alone => "alone",
        }
    }
}

/// The counters of fills and leases.
#[derive(Debug, Default)]
pub(super) struct FillCounts {
    ends: [AtomicU64; FillEnd::ALL.len()],
    leases: [AtomicU64; LeaseEnd::ALL.len()],
    durations: Histogram,
}

/// The figures of fills and leases, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct FillTotals {
    /// In the order of [`FillEnd::ALL`].
    pub(crate) ends: [u64; FillEnd::ALL.len()],
    /// In the order of [`LeaseEnd::ALL`].
    pub(crate) leases: [u64; LeaseEnd::ALL.len()],
    /// The times from the head of the origin's answer until the page was stored.
    pub(crate) durations: Durations,
}

impl FillCounts {
    pub(super) fn count(&self, end: FillEnd) {
        self.ends[end as usize].fetch_add(1, Relaxed);
    }

    /// Counts a fill that took so long.
    pub(super) fn count_timed(&self, end: FillEnd, took: Duration) {
        self.count(end);
        if end == FillEnd::Stored {
            self.durations.count(took);
        }
    }

    pub(super) fn count_lease(&self, end: LeaseEnd) {
        self.leases[end as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn totals(&self) -> FillTotals {
        FillTotals {
            ends: self.ends.each_ref().map(|cell| cell.load(Relaxed)),
            leases: self.leases.each_ref().map(|cell| cell.load(Relaxed)),
            durations: self.durations.durations(),
        }
    }
}
