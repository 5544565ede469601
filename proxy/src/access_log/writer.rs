//! The thread that writes the lines of all workers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use server::Seldom;
use tracing::warn;

use super::output::{DroppedLines, Output};
use super::{Orders, WaitingLines};

/// From the first line that waits to the write, so that a write takes many lines.
const PAUSE: Duration = Duration::from_millis(10);

/// After which the log is told of lines that were dropped, if it was told of others less than a second ago.
const TOLD_LATER: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    workers: Vec<Arc<WaitingLines>>,
    orders: Arc<Orders>,
    output: Output,
    /// An empty buffer, which a worker gets for its full one.
    empty: Vec<u8>,
    /// The dropped lines that the log was told of.
    told: u64,
    /// Why the last lines were dropped.
    error: Option<io::Error>,
    seldom: Seldom,
}

impl Writer {
    pub(super) fn new(workers: Vec<Arc<WaitingLines>>, orders: Arc<Orders>, output: Output) -> Self {
        let (empty, seldom) = (Vec::new(), Seldom::new());
        Self { workers, orders, output, empty, told: 0, error: None, seldom }
    }

    /// Writes lines until the log ends.
    pub(super) fn run(mut self) {
        loop {
            match self.untold() {
                0 => thread::park(),
                _ => thread::park_timeout(TOLD_LATER),
            }
            let ends = self.orders.end.load(Ordering::Acquire);
            if !ends {
                thread::sleep(PAUSE);
            }
            let reopen = self.orders.reopen.swap(false, Ordering::AcqRel);
            self.write();
            if reopen {
                self.reopen();
            }
            self.tell();
            if ends {
                self.orders.drop_lines(self.output.is_torn().into());
                return;
            }
        }
    }

    /// Writes what waits.
    fn write(&mut self) {
        for worker in 0..self.workers.len() {
            let mut lines = self.workers[worker].take(std::mem::take(&mut self.empty));
            // Without lines, for the rest of one.
            if (!lines.is_empty() || self.output.is_torn())
                && let Err(lost) = self.output.write(&lines)
            {
                self.drop_lines(lost);
            }
            lines.clear();
            self.empty = lines;
        }
    }

    /// Lines that came before the order are in the old file.
    fn reopen(&mut self) {
        if let Err(lost) = self.output.reopen() {
            warn!(error = %lost.error, "access log not opened anew: the old file goes on");
            self.drop_lines(lost);
        }
    }

    fn drop_lines(&mut self, lost: DroppedLines) {
        self.orders.drop_lines(lost.lines);
        self.error = Some(lost.error);
    }

    fn untold(&self) -> u64 {
        self.orders.dropped.load(Ordering::Relaxed) - self.told
    }

    /// Tells the log of lines that were dropped.
    fn tell(&mut self) {
        let dropped = self.untold();
        if dropped == 0 || self.seldom.turn("dropped").is_none() {
            return;
        }
        match self.error.take() {
            Some(error) => warn!(dropped, %error, "access log lines dropped"),
            None => warn!(dropped, "access log lines dropped: they came faster than they could be written"),
        }
        self.told += dropped;
    }
}
