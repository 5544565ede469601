//! The access log: a line for each request, for people and for the tools that read such lines.
//!
//! A worker formats a line into a buffer of its own, and never waits for the disk: one thread takes the buffers and writes
//! them. Lines that it cannot write, or that find a full buffer, are dropped and counted.

mod clock;
mod json;
mod line;
mod output;
mod writer;

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use server::PerWorker;

use crate::config::LogSettings;
use clock::Clock;
pub(crate) use line::{LineText, LogLine};
use output::Output;
use writer::Writer;

/// The most bytes of a worker that wait for the writer. This is enough for 10,000 lines, more than a worker writes between two
/// writes, which are 10 ms apart. It also bounds the memory while the writer waits for its disk.
const LIMIT: usize = 4 << 20;

/// An open access log. It ends when this is dropped and each request that began with it has its line.
#[derive(Debug)]
pub struct AccessLog {
    settings: LogSettings,
    workers: PerWorker<Arc<WorkerLog>>,
    /// The writer.
    open: Arc<OpenLog>,
    /// Disconnected when the writer has written everything.
    ended: Mutex<Receiver<()>>,
}

/// The access log of one worker.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    settings: LogSettings,
    waiting: Arc<WaitingLines>,
    open: Arc<OpenLog>,
}

/// The thread that writes. Dropping it ends the thread, once the waiting lines are written.
#[derive(Debug)]
struct OpenLog {
    orders: Arc<Orders>,
    writer: Thread,
}

/// The lines of a worker that wait for the writer, and the clock that formats their times.
#[derive(Debug, Default)]
struct WaitingLines(Mutex<(Vec<u8>, Clock)>);

/// The orders to the writer, and the lines that were dropped.
#[derive(Debug, Default)]
struct Orders {
    reopen: AtomicBool,
    end: AtomicBool,
    dropped: AtomicU64,
    /// The dropped lines of all logs that the program has had.
    dropped_of_all: Arc<AtomicU64>,
}

impl Orders {
    fn drop_lines(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        self.dropped_of_all.fetch_add(lines, Ordering::Relaxed);
    }
}

impl AccessLog {
    /// Whether the log can be opened. Makes no file.
    pub fn check(settings: &LogSettings) -> io::Result<()> {
        output::check(&settings.access)
    }

    /// Opens the log. A FIFO that nobody reads yet is opened later. `dropped` counts the lines that cannot be written.
    pub fn open(settings: &LogSettings, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let output = Output::open(settings.access.clone())?;
        let orders = Arc::new(Orders { dropped_of_all: dropped, ..Orders::default() });
        let waiting = PerWorker::new(|_| Arc::<WaitingLines>::default());
        let all = waiting.all().to_vec();
        let (end, ended) = mpsc::channel();
        let writer = Writer::new(all.clone(), orders.clone(), output);
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            writer.run();
            drop(end);
        })?;
        let open = Arc::new(OpenLog { orders, writer: thread.thread().clone() });
        let worker = |index: usize| {
            let (settings, waiting) = (settings.clone(), all[index].clone());
            Arc::new(WorkerLog { settings, waiting, open: open.clone() })
        };
        let (settings, workers) = (settings.clone(), PerWorker::new(worker));
        Ok(Self { settings, workers, open, ended: Mutex::new(ended) })
    }

    /// The log of the calling worker.
    pub(crate) fn own(&self) -> &Arc<WorkerLog> {
        self.workers.own()
    }

    /// The settings of the log.
    pub(crate) fn settings(&self) -> &LogSettings {
        &self.settings
    }

    /// Opens the file anew, which another program has renamed or deleted.
    pub fn reopen(&self) {
        self.open.orders.reopen.store(true, Ordering::Release);
        self.open.writer.unpark();
    }

    /// The number of dropped lines.
    pub fn dropped(&self) -> u64 {
        self.open.orders.dropped.load(Ordering::Relaxed)
    }

    /// Writes the waiting lines, for as long as this at most, and ends the log.
    pub fn finish(&self, patience: Duration) {
        self.open.end();
        // The channel carries nothing: the wait ends with the thread, or when the time is over.
        let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience);
    }
}

impl OpenLog {
    fn end(&self) {
        self.orders.end.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

impl Drop for OpenLog {
    fn drop(&mut self) {
        self.end();
    }
}

impl WorkerLog {
    /// The settings of the log.
    pub(crate) fn settings(&self) -> &LogSettings {
        &self.settings
    }

    /// Adds a line, or drops it if too much waits.
    pub(crate) fn add(&self, line: &LogLine<'_>) {
        let add = |(lines, clock): &mut (Vec<u8>, Clock)| {
            let length = lines.len();
            if length < LIMIT {
                line.write(self.settings.format, clock, lines);
            } else {
                self.open.orders.drop_lines(1);
            }
            length == 0
        };
        // The writer is woken only if it sleeps, since waking it is a system call.
        if self.waiting.with(add) {
            self.open.writer.unpark();
        }
    }
}

impl WaitingLines {
    fn with<R>(&self, change: impl FnOnce(&mut (Vec<u8>, Clock)) -> R) -> R {
        // After a panic elsewhere the buffer holds whole lines, or a part of one.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the lines, and leaves an empty buffer.
    fn take(&self, empty: Vec<u8>) -> Vec<u8> {
        self.with(|(lines, _)| mem::replace(lines, empty))
    }
}
