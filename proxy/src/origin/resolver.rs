//! Looks up the name of the origin.
//!
//! `getaddrinfo` blocks for as long as the name servers are silent, 10 s and more, and cannot be stopped. So a lookup has a
//! thread of its own: the end of the process would wait for a thread of tokio's.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

type Addresses = Result<Vec<SocketAddr>, Arc<io::Error>>;

/// Finds the addresses of a name, and blocks meanwhile.
type Ask = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Shares one lookup between all connections that begin meanwhile: an outage of the name servers must not take a thread for
/// each request. A lookup that has taken longer than `patience` is not shared any more, so that a later connection sees
/// changes.
#[derive(Clone)]
pub(super) struct Resolver {
    ask: Arc<Ask>,
    patience: Duration,
    last: Arc<Mutex<Option<NameLookup>>>,
    known: Arc<Known>,
}

/// The addresses that the last good lookup found, and how often they have changed. They have no end: while the name servers
/// are away the origin may be well, and one that is not is noticed by its connections.
#[derive(Debug, Default)]
struct Known {
    addresses: Mutex<Vec<SocketAddr>>,
    changes: AtomicU64,
    /// Whether the last lookup has failed, which the log says once.
    is_old: AtomicBool,
}

impl Known {
    /// The addresses, if there were any.
    fn addresses(&self) -> Option<Vec<SocketAddr>> {
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        (!known.is_empty()).then(|| known.clone())
    }

    fn take(&self, name: &str, found: &io::Result<Vec<SocketAddr>>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                if self.addresses().is_some() && !self.is_old.swap(true, Relaxed) {
                    warn!(name, %error, "the origin's name is not found: the last addresses are used");
                }
                return;
            }
        };
        if self.is_old.swap(false, Relaxed) {
            info!(name, "the origin's name is found again");
        }
        let mut found = found.clone();
        found.sort_unstable();
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != found {
            *known = found;
            self.changes.fetch_add(1, Relaxed);
        }
    }
}

/// A lookup of the name.
struct NameLookup {
    began: Instant,
    /// `None` while it is under way.
    found: watch::Receiver<Option<Addresses>>,
}

impl Resolver {
    /// Asks the system.
    pub(super) fn new(patience: Duration) -> Self {
        Self::with(patience, |name| (name, 0).to_socket_addrs().map(Iterator::collect))
    }

    fn with(
        patience: Duration,
        ask: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self { ask: Arc::new(ask), patience, last: Arc::default(), known: Arc::default() }
    }

    /// Looks up the addresses of the name, which has no port. If that fails, returns those of the last lookup: the name
    /// servers may be away while the origin is well.
    pub(super) async fn look_up(&self, name: &str) -> Addresses {
        let mut found = self.join(name)?;
        let found = found.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
        found.unwrap_or_else(|| Ok(Vec::new())).or_else(|error| self.known.addresses().ok_or(error))
    }

    /// Begins a lookup if the last one began at least so long ago. Does not wait for it.
    pub(super) fn refresh(&self, name: &str, every: Duration) {
        let is_due = {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.as_ref().is_none_or(|last| last.began.elapsed() >= every)
        };
        if is_due {
            // Without a thread the addresses stay as they are.
            let _ = self.join(name);
        }
    }

    /// How often the addresses have changed.
    pub(super) fn changes(&self) -> u64 {
        self.known.changes.load(Relaxed)
    }

    /// Joins the lookup that is under way, or begins one.
    fn join(&self, name: &str) -> io::Result<watch::Receiver<Option<Addresses>>> {
        // A panic elsewhere leaves the lookup consistent.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(NameLookup { began, found }) = &*last
            && found.borrow().is_none()
            && began.elapsed() < self.patience
        {
            return Ok(found.clone());
        }
        let (sender, found) = watch::channel(None);
        let (ask, known, name) = (self.ask.clone(), self.known.clone(), name.to_owned());
        thread::Builder::new()
            .name("lookup".to_owned())
            // If no thread can be started, later requests begin another lookup.
            .spawn(move || {
                let answer = ask(&name);
                known.take(&name, &answer);
                sender.send(Some(answer.map_err(Arc::new)))
            })?;
        *last = Some(NameLookup { began: Instant::now(), found: found.clone() });
        Ok(found)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc;

    use tokio::task::JoinHandle;
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    /// A lookup that has begun. Sending addresses and dropping this ends it; dropping it alone means that the name does not
    /// resolve.
    pub(in super::super) type Asked = mpsc::Sender<SocketAddr>;

    /// A resolver whose lookups the test answers.
    pub(in super::super) fn scripted() -> (Resolver, mpsc::Receiver<Asked>) {
        let (begin, begun) = mpsc::channel();
        let resolver = Resolver::with(PATIENCE, move |_| {
            let (asked, answer) = mpsc::channel();
            begin.send(asked).unwrap();
            answer.recv().map(|address| vec![address]).map_err(|_| io::Error::other("no such name"))
        });
        (resolver, begun)
    }

    /// A lookup that is under way.
    async fn look_up(resolver: &Resolver) -> JoinHandle<Addresses> {
        let resolver = resolver.clone();
        let lookup = tokio::spawn(async move { resolver.look_up("origin").await });
        tokio::task::yield_now().await;
        lookup
    }

    #[tokio::test]
    async fn addresses_are_asked_for_again_and_changes_are_counted() {
        let (resolver, begun) = scripted();
        let every = Duration::from_secs(3600);
        for (host, changes) in [(1, 1), (1, 1), (2, 2)] {
            resolver.refresh("origin", Duration::ZERO);
            begun.recv().unwrap().send(SocketAddr::from(([192, 0, 2, host], 0))).unwrap();
            while resolver.last.lock().unwrap().as_ref().unwrap().found.borrow().is_none() {
                tokio::task::yield_now().await;
            }
            assert_eq!(resolver.changes(), changes);
            resolver.refresh("origin", every);
            assert!(begun.try_recv().is_err(), "not yet");
        }
        resolver.refresh("origin", Duration::ZERO);
        drop(begun.recv().unwrap());
        assert_eq!(resolver.changes(), 2, "a lookup that fails changes nothing");
    }

    #[tokio::test]
    async fn while_lookups_fail_the_addresses_stay_those_of_the_last_one() {
        let (resolver, begun) = scripted();
        let lookup = look_up(&resolver).await;
        drop(begun.recv().unwrap());
        assert!(lookup.await.unwrap().is_err(), "none is known");
        let address = SocketAddr::from(([192, 0, 2, 1], 0));
        for is_known in [true, false] {
            let lookup = look_up(&resolver).await;
            let asked = begun.recv().unwrap();
            match is_known {
                true => asked.send(address).unwrap(),
                false => drop(asked),
            }
            assert_eq!(lookup.await.unwrap().unwrap(), [address]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_a_lookup_until_it_has_an_answer_or_takes_too_long() {
        let (resolver, begun) = scripted();
        let address = SocketAddr::from(([192, 0, 2, 1], 0));
        let shared = [look_up(&resolver).await, look_up(&resolver).await];
        let first = begun.recv().unwrap();
        advance(PATIENCE).await;
        let late = look_up(&resolver).await;
        begun.recv().unwrap().send(address).unwrap();
        assert_eq!(late.await.unwrap().unwrap(), [address]);
        drop(first);
        for lookup in shared {
            assert_eq!(lookup.await.unwrap().unwrap(), [address], "that of the last lookup");
        }
        let after = look_up(&resolver).await;
        begun.recv().unwrap().send(address).unwrap();
        assert_eq!(after.await.unwrap().unwrap(), [address]);
        assert!(begun.try_recv().is_err(), "four lookups asked three times");
    }
}
