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

/// The pause between the first waiting line and the write, so that one write takes many lines.
const PAUSE: Duration = Duration::from_millis(10);

/// If the log was told of dropped lines less than a second ago, it is told of further ones after this time.
const TOLD_LATER: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    workers: Vec<Arc<WaitingLines>>,
    orders: Arc<Orders>,
    output: Output,
    /// An empty buffer, which a worker gets in exchange for its full one.
    empty: Vec<u8>,
    /// The number of dropped lines that the program's log has named so far.
    told: u64,
    /// The error that dropped the last lines.
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

    /// Writes the waiting lines.
    fn write(&mut self) {
        for worker in 0..self.workers.len() {
            let mut lines = self.workers[worker].take(std::mem::take(&mut self.empty));
            // Even without new lines there may be the rest of a line.
            if (!lines.is_empty() || self.output.is_torn())
                && let Err(lost) = self.output.write(&lines)
            {
                self.drop_lines(lost);
            }
            lines.clear();
            self.empty = lines;
        }
    }

    /// Opens the file anew. Lines that came before the order go to the old file.
    fn reopen(&mut self) {
        if let Err(lost) = self.output.reopen() {
            warn!(error = %lost.error, "access log not opened anew: lines go to the old file");
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

    /// Names the dropped lines in the program's log.
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
