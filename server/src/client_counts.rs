//! The figures of clients' connections.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use rustls::ProtocolVersion;

use crate::full::Full;

/// The counters of connections.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    open: AtomicUsize,
    active: AtomicUsize,
    refused: [AtomicU64; Full::ALL.len()],
    tunnels: AtomicUsize,
    tunnels_begun: AtomicU64,
    /// TLS 1.2, TLS 1.3, and those that failed.
    handshakes: [AtomicU64; 3],
}

/// A tunnel that is counted.
#[derive(Debug)]
pub(crate) struct OpenTunnel<'a>(&'a ClientCounts);

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
    }
}

/// The figures of connections, at one moment.
#[derive(Clone, Debug)]
pub struct ClientTotals {
    /// The connections that are open.
    pub open: usize,
    /// The open connections with a request under way.
    pub active: usize,
    /// The connections that had no place, by the limit that they met.
    pub refused: [(&'static str, u64); Full::ALL.len()],
    /// The open connections that lead to an origin in another protocol.
    pub tunnels: usize,
    /// The connections that have changed to another protocol since the start.
    pub tunnels_begun: u64,
    /// TLS handshakes, by result and version.
    pub handshakes: [(&'static str, &'static str, u64); 3],
}

impl ClientCounts {
    pub(crate) fn opened(&self, open: usize) {
        self.open.store(open, Relaxed);
    }

    /// Notes that a connection has a request under way now, or has none any more.
    pub(crate) fn is_active(&self, is_active: bool) {
        match is_active {
            true => self.active.fetch_add(1, Relaxed),
            false => self.active.fetch_sub(1, Relaxed),
        };
    }

    pub(crate) fn refused(&self, full: Full) {
        self.refused[full as usize].fetch_add(1, Relaxed);
    }

    /// Counts a tunnel, until this is dropped.
    pub(crate) fn begin_tunnel(&self) -> OpenTunnel<'_> {
        self.tunnels.fetch_add(1, Relaxed);
        self.tunnels_begun.fetch_add(1, Relaxed);
        OpenTunnel(self)
    }

    /// Counts a handshake; `version` is `None` for one that failed.
    pub(crate) fn shook_hands(&self, version: Option<ProtocolVersion>) {
        let place = match version {
            Some(ProtocolVersion::TLSv1_2) => 0,
            Some(_) => 1,
            None => 2,
        };
        self.handshakes[place].fetch_add(1, Relaxed);
    }

    pub(crate) fn totals(&self) -> ClientTotals {
        let [old, new, failed] = self.handshakes.each_ref().map(|cell| cell.load(Relaxed));
        ClientTotals {
            open: self.open.load(Relaxed),
            active: self.active.load(Relaxed),
            tunnels: self.tunnels.load(Relaxed),
            tunnels_begun: self.tunnels_begun.load(Relaxed),
            refused: Full::ALL.map(|full| (full.limit(), self.refused[full as usize].load(Relaxed))),
            handshakes: [("ok", "1.2", old), ("ok", "1.3", new), ("failed", "", failed)],
        }
    }
}
