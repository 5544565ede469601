//! Stops work when the user asks for it or the terminal closes.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::laboratory::LabError;

/// Receives the signals that ask a program to stop: SIGTERM, SIGINT (Ctrl-C), SIGQUIT (Ctrl-\), and SIGHUP, which comes when
/// the terminal closes.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl Stop {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
            _ = self.quit.recv() => (),
            _ = self.hangup.recv() => (),
        }
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
