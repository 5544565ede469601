//! A thread for tasks that must run at once even while the workers are busy: the feed of changes, the watch over Sentinels,
//! and the map of a cluster.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime, which ends with all its tasks when this is dropped.
#[derive(Debug)]
pub(super) struct Background {
    runtime: Handle,
    /// Ends the thread when it is dropped.
    _end: oneshot::Sender<()>,
}

impl Background {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("store".to_owned()).spawn(move || {
            // The sender is dropped to end the thread.
            let _ = runtime.block_on(ended);
            // The end waits for no lookup of a name.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _end: end })
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }
}
