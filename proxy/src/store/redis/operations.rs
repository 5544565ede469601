//! The commands that are sent for requests, counted for operators.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use server::PerWorker;
use tokio::time::Instant;

use super::resp::{RedisReply, Unread};
use crate::histogram::Histogram;
use crate::store::{OperationEnd, OperationTotals, StoreError};

const NAMES: [&str; 9] = ["get", "mget", "pttl", "setex", "expire", "pexpire", "set", "del", "eval"];

/// The counters. They count only after [`start`](Self::start).
#[derive(Debug, Default)]
pub(super) struct Operations(OnceLock<PerWorker<[OperationCells; NAMES.len()]>>);

/// A worker's counters of one command.
#[derive(Debug, Default)]
struct OperationCells {
    ends: [AtomicU64; OperationEnd::ALL.len()],
    durations: Histogram,
}

impl Operations {
    /// Counts from now on.
    pub(super) fn start(&self) {
        self.0.get_or_init(|| PerWorker::new(|_| Default::default()));
    }

    /// The time at which a command begins, if commands are counted.
    pub(super) fn begin(&self) -> Option<Instant> {
        self.0.get().map(|_| Instant::now())
    }

    pub(super) fn end(&self, name: &str, outcome: &Result<RedisReply, StoreError>, began: Option<Instant>) {
        let place = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
        if let (Some(workers), Some(began), Some(place)) = (self.0.get(), began, place) {
            let cells = &workers.own()[place];
            cells.ends[end_of(outcome) as usize].fetch_add(1, Relaxed);
            cells.durations.count(began.elapsed());
        }
    }

    /// The counts so far.
    pub(super) fn totals(&self) -> Vec<OperationTotals> {
        let Some(workers) = self.0.get() else { return Vec::new() };
        let of = |(place, name): (usize, &'static str)| {
            let mut totals = OperationTotals { name, ..OperationTotals::default() };
            for cells in workers.all().iter().map(|worker| &worker[place]) {
                totals.ends.iter_mut().zip(&cells.ends).for_each(|(sum, cell)| *sum += cell.load(Relaxed));
                totals.durations.add(&cells.durations.durations());
            }
            totals
        };
        NAMES.into_iter().enumerate().map(of).collect()
    }
}

fn end_of(outcome: &Result<RedisReply, StoreError>) -> OperationEnd {
    match outcome {
        Ok(RedisReply::Values(values)) if values.iter().all(Option::is_none) => OperationEnd::Miss,
        Ok(RedisReply::Unread(Unread::TooSlow)) | Err(StoreError::Deadline(_) | StoreError::TooSlow) => {
            OperationEnd::Deadline
        }
        Ok(RedisReply::Unread(Unread::TooLong { .. }))
        | Err(StoreError::Refused(_) | StoreError::TooLong(_)) => OperationEnd::Refused,
        Ok(_) => OperationEnd::Ok,
        Err(StoreError::Unreachable(_)) => OperationEnd::Down,
    }
}
