//! The deadlines and limits of clients, which may change while the server runs.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::Clients;
use crate::client_counts::{ClientCounts, ClientTotals};

/// The deadlines and limits in force. Cheap to clone; all clones have the same.
#[derive(Clone, Debug)]
pub struct CurrentClients {
    now: Arc<ArcSwap<Clients>>,
    counts: Arc<ClientCounts>,
}

/// The deadlines and limits as one connection knows them, so that a request only compares a pointer.
#[derive(Clone, Debug)]
pub(crate) struct KnownClients(Cache<Arc<ArcSwap<Clients>>, Arc<Clients>>);

impl CurrentClients {
    /// Puts other deadlines and limits in force, for every request that begins from now on.
    pub fn replace(&self, clients: Clients) {
        self.now.store(Arc::new(clients));
    }

    /// The deadlines and limits in force.
    pub fn now(&self) -> Clients {
        **self.now.load()
    }

    pub(crate) fn known(&self) -> KnownClients {
        KnownClients(Cache::new(self.now.clone()))
    }

    /// The figures of the clients' connections.
    pub fn totals(&self) -> ClientTotals {
        self.counts.totals()
    }

    pub(crate) fn counts(&self) -> &ClientCounts {
        &self.counts
    }
}

impl From<Clients> for CurrentClients {
    fn from(clients: Clients) -> Self {
        Self { now: Arc::new(ArcSwap::from_pointee(clients)), counts: Arc::default() }
    }
}

impl KnownClients {
    /// The deadlines and limits in force.
    pub(crate) fn now(&mut self) -> &Arc<Clients> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientLimits;

    #[test]
    fn a_connection_hears_of_others_at_its_next_request() {
        let current = CurrentClients::from(Clients::default());
        let mut known = current.known();
        let before = known.now().clone();
        assert!(Arc::ptr_eq(&before, known.now()));
        let limits = ClientLimits { headers: 7, ..ClientLimits::default() };
        current.replace(Clients { limits, ..Clients::default() });
        assert_eq!((known.now().limits.headers, current.now().limits.headers), (7, 7));
        assert_eq!(before.limits.headers, 100);
    }
}
