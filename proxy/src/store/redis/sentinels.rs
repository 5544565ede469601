//! Redis with Sentinels: asks them where the master is, and notices when it moves.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8_redis::redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::address::NodeAddress;
use super::control::{ControlConnection, Lost, SILENCE};
use super::dialer::{Login, dial};
use super::health::Health;

/// How often a Sentinel is asked, in case its message does not arrive.
const BEAT: Duration = Duration::from_secs(1);

/// The pause before the next Sentinel is tried.
const PAUSE: Duration = Duration::from_millis(100);

/// The Sentinels of one master.
#[derive(Debug)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<NodeAddress>,
    /// The name of the master.
    pub(super) name: String,
    /// The login for the Sentinels themselves.
    pub(super) login: Login,
    /// The index of the Sentinel to ask first: the one that last gave the right answer.
    first: AtomicUsize,
    /// The address of the master in the last answer.
    known: Mutex<Option<NodeAddress>>,
}

/// The state of the watch.
struct WatchState {
    master: Option<NodeAddress>,
    is_heard: bool,
}

impl Sentinels {
    pub(super) fn new(addresses: Vec<NodeAddress>, name: String, login: Login) -> Self {
        Self { addresses, name, login, first: AtomicUsize::new(0), known: Mutex::default() }
    }

    /// Asks one Sentinel after the other where the master is.
    pub(super) async fn master(&self) -> io::Result<NodeAddress> {
        let mut last = Lost::Silence;
        for _ in 0..self.addresses.len() {
            let first = self.first();
            let asked = async { self.ask(&mut self.open(first, Arc::default()).await?).await };
            match asked.await {
                Ok(address) => return Ok(address),
                Err(lost) => last = lost,
            }
            self.skip(first);
        }
        Err(io::Error::other(format!("no Sentinel says where the master {:?} is: {last}", self.name)))
    }

    /// Makes the next Sentinel the first to ask, since the Redis in the last answer is no master.
    pub(super) fn disbelieve(&self) {
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            self.skip(self.first());
        }
    }

    /// The index of the Sentinel to ask.
    fn first(&self) -> usize {
        self.first.load(Ordering::Relaxed) % self.addresses.len()
    }

    /// Makes the Sentinel after this one the first to ask, unless another one is already.
    fn skip(&self, index: usize) {
        let next = (index + 1) % self.addresses.len();
        let _ = self.first.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Watches for a new master. Replaces the connections when there is one.
    pub(super) async fn watch(self: Arc<Self>, health: Arc<Health>) {
        let mut seen = WatchState { master: self.last_known(), is_heard: true };
        loop {
            let first = self.first();
            let Err(lost) = self.follow(first, &health, &mut seen).await;
            if !matches!(lost, Lost::NoMaster) && std::mem::replace(&mut seen.is_heard, false) {
                warn!(%lost, master = self.name, "a Sentinel does not answer: the next one is asked");
            }
            self.skip(first);
            sleep(PAUSE).await;
        }
    }

    /// Follows one Sentinel until it is lost, or its answer is not believed any more.
    async fn follow(&self, index: usize, health: &Health, seen: &mut WatchState) -> Result<Infallible, Lost> {
        let told = Arc::<Notify>::default();
        let mut sentinel = self.open(index, told.clone()).await?;
        sentinel.ask(cmd("SUBSCRIBE").arg("+switch-master")).await?;
        loop {
            let now = self.ask(&mut sentinel).await?;
            if let Some(before) = seen.master.replace(now.clone()).filter(|before| *before != now) {
                info!(%before, %now, "the master has moved");
                health.moved();
            }
            if !std::mem::replace(&mut seen.is_heard, true) {
                info!(master = self.name, "a Sentinel answers again");
            }
            // A message is only a reason to ask at once. The answer of the Sentinel counts, whichever way a change is noticed.
            let _ = timeout(BEAT, told.notified()).await;
            if !sentinel.is_open() {
                return Err(Lost::Goodbye);
            }
            if self.first() != index {
                return Err(Lost::NoMaster);
            }
        }
    }

    /// Connects to a Sentinel. `told` is notified of each message.
    async fn open(&self, index: usize, told: Arc<Notify>) -> Result<ControlConnection, Lost> {
        let dialling = timeout(SILENCE, dial(&self.addresses[index], &self.login));
        let stream = dialling.await.map_err(|_| Lost::Silence)??;
        let hear = move |push: &PushInfo| {
            if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                told.notify_one();
            }
        };
        ControlConnection::open(stream, &self.login, hear).await
    }

    /// Asks one Sentinel where the master is, and keeps the answer.
    async fn ask(&self, sentinel: &mut ControlConnection) -> Result<NodeAddress, Lost> {
        let reply = sentinel.ask(cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name)).await?;
        let address = address(&reply)
            .ok_or_else(|| Lost::Io(io::Error::other(format!("it knows no master {:?}", self.name))))?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.clone());
        Ok(address)
    }

    fn last_known(&self) -> Option<NodeAddress> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The address of the master in the last answer. Before the first answer, its name.
    pub(super) fn known(&self) -> String {
        self.last_known().map_or_else(|| self.name.clone(), |address| address.to_string())
    }
}

/// A host and a port.
fn address(reply: &Value) -> Option<NodeAddress> {
    let Value::Array(words) = reply else { return None };
    let [Value::BulkString(host), Value::BulkString(port)] = &words[..] else { return None };
    let host = String::from_utf8(host.clone()).ok()?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(NodeAddress::Tcp { host, port })
}
