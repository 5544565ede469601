//! Stops work at Ctrl-C or SIGTERM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::laboratory::LabError;

/// Receives Ctrl-C and SIGTERM.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(crate) async fn recv(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => (), _ = self.terminate.recv() => () }
    }

    /// Does the work. A signal drops the work, which ends everything that it started.
    pub(crate) async fn or<T>(
        &mut self,
        work: impl Future<Output = Result<T, LabError>>,
    ) -> Result<T, LabError> {
        tokio::select! {
            done = work => done,
            () = self.recv() => Err(LabError::Interrupted),
        }
    }
}
