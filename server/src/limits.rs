//! Limits for clients: how much a request may hold, and how many connections there may be.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::client_counts::ClientCounts;
use crate::clients::CurrentClients;
use crate::full::Full;

/// How many connections without a place get an answer at a time. Further ones are closed without an answer.
pub(crate) const FAREWELLS: usize = 64;

/// How much a client may send in a head, and how many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Bytes of a request's first line: its method, its target. More is 414.
    pub request_line: usize,
    /// Bytes of a request's head. More is 431.
    pub head: usize,
    /// Header lines of a request. More is 431.
    pub headers: usize,
    /// Connections at a time. One more is 503.
    pub connections: usize,
    /// Connections of one address (of one /64 network in IPv6) at a time, 0 for as many as there may be. One more is 429.
    pub connections_per_address: usize,
}

impl Default for ClientLimits {
    /// About the limits of nginx, gunicorn and HAProxy. There is no limit for one address: behind a load balancer all clients
    /// have the same.
    fn default() -> Self {
        Self {
            request_line: 8 << 10,
            head: 32 << 10,
            headers: 100,
            connections: 10_000,
            connections_per_address: 0,
        }
    }
}

/// The connections that are open, counted.
#[derive(Debug)]
pub(crate) struct Connections {
    clients: CurrentClients,
    open: Mutex<OpenConnections>,
    /// Signalled when the last connection closes.
    none_open: Notify,
    farewells: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    all: usize,
    /// Counted only while the setting has a limit for them.
    by_network: HashMap<Ipv6Addr, usize>,
}

/// A place among the connections. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Admitted {
    connections: Arc<Connections>,
    /// Its network, if networks are counted.
    network: Option<Ipv6Addr>,
    /// Whether the connection has a request under way.
    is_active: bool,
}

impl Connections {
    pub(crate) fn new(clients: CurrentClients) -> Arc<Self> {
        Arc::new(Self {
            clients,
            open: Mutex::default(),
            none_open: Notify::new(),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
        })
    }

    /// A place for telling a connection that it was not admitted.
    pub(crate) fn farewell(&self) -> Option<OwnedSemaphorePermit> {
        self.farewells.clone().try_acquire_owned().ok()
    }

    /// Takes a place, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, Full> {
        let mut admitted = self.admit_unnamed()?;
        admitted.name(address)?;
        Ok(admitted)
    }

    /// Takes a place for a client whose address is not known yet.
    pub(crate) fn admit_unnamed(self: &Arc<Self>) -> Result<Admitted, Full> {
        let mut open = self.lock();
        if open.all >= self.clients.now().limits.connections {
            self.clients.counts().refused(Full::All);
            return Err(Full::All);
        }
        open.all += 1;
        self.clients.counts().opened(open.all);
        Ok(Admitted { connections: self.clone(), network: None, is_active: false })
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.lock().all
    }

    /// Waits until all connections are closed.
    pub(crate) async fn closed(&self) {
        loop {
            let none_open = self.none_open.notified();
            if self.open() == 0 {
                return;
            }
            none_open.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OpenConnections> {
        // A panic elsewhere leaves the numbers consistent.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// Takes one of the places of its client's address, if there is one.
    pub(crate) fn name(&mut self, address: IpAddr) -> Result<(), Full> {
        let most = self.connections.clients.now().limits.connections_per_address;
        if most == 0 {
            return Ok(());
        }
        let network = network(address);
        let mut open = self.connections.lock();
        let count = open.by_network.entry(network).or_default();
        if *count >= most {
            self.counts().refused(Full::Address);
            return Err(Full::Address);
        }
        *count += 1;
        self.network = Some(network);
        Ok(())
    }

    /// A place for telling the client that there is none for it, if one is free.
    pub(crate) fn farewell(&self) -> Option<OwnedSemaphorePermit> {
        self.connections.farewell()
    }

    /// Counts the connection among those with a request under way, or no longer.
    pub(crate) fn set_active(&mut self, is_active: bool) {
        if std::mem::replace(&mut self.is_active, is_active) != is_active {
            self.counts().is_active(is_active);
        }
    }

    /// The counters for this connection.
    pub(crate) fn counts(&self) -> &ClientCounts {
        self.connections.clients.counts()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.set_active(false);
        let mut open = self.connections.lock();
        open.all -= 1;
        self.connections.clients.counts().opened(open.all);
        if let Some(network) = self.network
            && let Some(count) = open.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                open.by_network.remove(&network);
            }
        }
        if open.all == 0 {
            self.connections.none_open.notify_waiters();
        }
    }
}

/// The network of an address: in IPv6 a host has a whole /64. An IPv4 address is its own network.
fn network(address: IpAddr) -> Ipv6Addr {
    match address.to_canonical() {
        IpAddr::V6(address) => (u128::from(address) & !u128::from(u64::MAX)).into(),
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clients;

    fn connections(all: usize, per_address: usize) -> Arc<Connections> {
        let limits = ClientLimits {
            connections: all,
            connections_per_address: per_address,
            ..ClientLimits::default()
        };
        Connections::new(CurrentClients::from(Clients { limits, ..Clients::default() }))
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_has_ended() {
        let connections = connections(2, 0);
        let address = IpAddr::from([192, 0, 2, 1]);
        let first = connections.admit(address).unwrap();
        let _second = connections.admit(address).unwrap();
        assert_eq!(connections.admit(address).unwrap_err(), Full::All);
        drop(first);
        assert!(connections.admit(address).is_ok());
    }

    #[test]
    fn an_address_has_its_own_bound_and_leaves_nothing_behind() {
        let connections = connections(10, 1);
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
        ] {
            let [one, same, other] = [one, same, other].map(|text| text.parse::<IpAddr>().unwrap());
            let first = connections.admit(one).unwrap();
            assert_eq!(connections.admit(same).unwrap_err(), Full::Address);
            let second = connections.admit(other).unwrap();
            drop((first, second));
            assert!(connections.admit(same).is_ok());
        }
        let open = connections.lock();
        assert_eq!((open.all, open.by_network.len()), (0, 0));
    }

    #[tokio::test]
    async fn the_end_of_the_last_connection_is_heard_of() {
        let connections = connections(2, 1);
        connections.closed().await;
        let [first, second] = [1, 2].map(|host| connections.admit(IpAddr::from([192, 0, 2, host])).unwrap());
        let closed = tokio::spawn({
            let connections = connections.clone();
            async move { connections.closed().await }
        });
        tokio::task::yield_now().await;
        drop(first);
        tokio::task::yield_now().await;
        assert!(!closed.is_finished());
        assert_eq!(connections.open(), 1);
        drop(second);
        closed.await.unwrap();
    }

    #[test]
    fn a_few_connections_without_a_place_are_told_so_and_the_others_closed() {
        let connections = connections(0, 0);
        let mut places: Vec<_> = std::iter::from_fn(|| connections.farewell()).collect();
        assert_eq!(places.len(), FAREWELLS);
        places.pop();
        assert!(connections.farewell().is_some());
    }
}
