//! The store in Redis, which a fleet of proxies shares.

mod address;
mod background;
mod batch;
mod cluster;
mod connection;
mod control;
mod dialer;
mod health;
mod keeper;
mod locks;
mod log;
mod log_connection;
mod log_stream;
mod log_writer;
mod node;
mod nodes;
mod operations;
mod oversized;
mod pool;
mod refusals;
mod resp;
mod sentinels;
mod settings;
mod slots;
mod tls;
mod tracking;
mod trials;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tracing::warn;

use background::Background;
use cluster::Cluster;
use connection::Bounds;
use dialer::{Dialer, Whereabouts};
use keeper::Keeper;
use log_writer::LogWriter;
use node::{KeyCommand, RedisNode, unanswered};
use nodes::Nodes;
use operations::Operations;
use oversized::Oversized;
use pool::Outcomes;
use refusals::{Refusals, is_for_good};
#[cfg(any(test, fuzzing))]
pub(crate) use resp::replies_in;
use resp::{RedisReply, Unread};
use sentinels::Sentinels;
pub use settings::{RedisKind, RedisOptions, RedisSettings};
use tracking::{Beat, FeedSettings, Tracking};
use trials::trials;

use super::feed::Listeners;
use super::{
    Feed, Listener, LogCopy, NodeNumber, NodeState, OperationTotals, PurgeLog, PurgeLogSettings,
    RefusedCommand, Store, StoreError, Values, Write,
};
use crate::key::Key;
use crate::purge::{LoggedPurge, Purge, PurgeId};

/// The bytes of a value besides its body: the head, and in a pickle the names of its classes.
const BESIDE_THE_BODY: usize = 1 << 20;

/// Pages in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisStore {
    nodes: Nodes,
    refusals: Arc<Refusals>,
    operations: Arc<Operations>,
    oversized: Arc<Oversized>,
    /// The listeners also get the writes of this process, directly and not by way of Redis.
    listeners: Arc<Listeners>,
    /// Whether changes arrive; set on the first call that needs them.
    is_followed: Arc<OnceLock<bool>>,
    log_writer: Arc<LogWriter>,
    /// The background thread, which starts when it is first needed.
    background: Arc<OnceLock<Background>>,
}

impl RedisStore {
    /// A store at a URL, without further settings.
    pub fn new(url: &str, deadline: Duration, max_entry: u64) -> Result<Self, String> {
        let settings = url.parse::<RedisSettings>()?.with(RedisOptions::default());
        let settings = settings.map_err(|faults| faults.join("; "))?;
        Self::open(&settings, deadline, max_entry).map_err(|error| error.to_string())
    }

    /// A store that connects on first use. While Redis is down, every lookup is a miss. `deadline` is how long Redis may be
    /// silent. A value that is much longer than `max_entry` bytes is not read.
    pub fn open(settings: &RedisSettings, deadline: Duration, max_entry: u64) -> io::Result<Self> {
        let longest_value = usize::try_from(max_entry).unwrap_or(usize::MAX).saturating_add(BESIDE_THE_BODY);
        let bounds = Bounds { silence: deadline, longest_value };
        let listeners = Arc::<Listeners>::default();
        let nodes = nodes(settings, bounds, &listeners);
        let refusals = Arc::<Refusals>::default();
        let store = Self {
            nodes: nodes.clone(),
            log_writer: Arc::new(LogWriter::new(nodes.clone(), refusals.clone(), deadline)),
            refusals,
            operations: Arc::default(),
            oversized: Arc::default(),
            listeners,
            is_followed: Arc::default(),
            background: Arc::default(),
        };
        match nodes {
            Nodes::Cluster(cluster) => store.run_beside(Keeper::new(cluster).run())?,
            Nodes::One(node) => {
                if let Whereabouts::Master(sentinels) = &node.dialer.place {
                    store.run_beside(sentinels.clone().watch(node.health.clone()))?;
                }
            }
        }
        Ok(store)
    }

    /// Runs a task on the background thread.
    fn run_beside(&self, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        if self.background.get().is_none() {
            // If two threads are started at once, the second one ends again.
            drop(self.background.set(Background::start()?));
        }
        self.background.wait().spawn(task);
        Ok(())
    }

    /// Sends a read in one batch with those of other requests.
    async fn read(&self, name: &'static str, arguments: &[&[u8]]) -> Result<RedisReply, StoreError> {
        let began = self.operations.begin();
        let reply = self.nodes.read(name, arguments).await;
        let outcome = reply.and_then(|reply| self.refusals.accept(name, reply));
        self.operations.end(name, &outcome, began);
        outcome
    }

    /// Sends a command that writes, in one batch with those of other requests.
    async fn write(&self, name: &'static str, arguments: &[&[u8]]) -> Result<RedisReply, StoreError> {
        self.write_all(&[KeyCommand::new(name, arguments)]).await?.pop().ok_or_else(unanswered)
    }

    /// Sends commands in one round trip. Returns their replies, or the first error.
    async fn write_all(&self, commands: &[KeyCommand<'_>]) -> Result<Vec<RedisReply>, StoreError> {
        self.write_each(commands).await.into_iter().collect()
    }

    /// Sends commands in one round trip. Returns their outcomes.
    async fn write_each(&self, commands: &[KeyCommand<'_>]) -> Outcomes {
        if commands.is_empty() {
            return Vec::new();
        }
        let began = self.operations.begin();
        let outcomes = self.nodes.write(&commands.iter().collect::<Vec<_>>()).await;
        let accept = |(command, outcome): (&KeyCommand<'_>, Result<_, _>)| {
            let outcome = outcome.and_then(|reply| self.refusals.accept(command.name, reply));
            self.operations.end(command.name, &outcome, began);
            outcome
        };
        commands.iter().zip(outcomes).map(accept).collect()
    }
}

impl Store for RedisStore {
    async fn connect(&self) {
        /// A connection takes less than this even on a busy machine. Without Redis the proxy starts after this time.
        const PATIENCE: Duration = Duration::from_millis(250);
        const PAUSE: Duration = Duration::from_millis(10);
        let connected = async {
            while self.nodes.connect().await.is_err() {
                sleep(PAUSE).await;
            }
        };
        // After a timeout, the first request tries again.
        let _ = timeout(PATIENCE, connected).await;
    }

    fn is_up(&self) -> bool {
        self.nodes.is_up()
    }

    fn nodes(&self) -> Vec<NodeState> {
        self.nodes.states()
    }

    fn count_operations(&self) {
        self.operations.start();
    }

    fn operations(&self) -> Vec<OperationTotals> {
        self.operations.totals()
    }

    async fn refusals(&self, prefixes: &[Vec<u8>]) -> Vec<RefusedCommand> {
        for prefix in prefixes {
            let key = [prefix, &b"none"[..]].concat();
            let commands = trials(&key, self.log().is_ok());
            let outcomes = self.nodes.ask(&key, &commands).await;
            for (name, outcome) in commands.names().zip(outcomes) {
                if let Ok(RedisReply::Error(text)) = outcome
                    && !text.starts_with("ERR invalid expire time")
                {
                    self.refusals.note(name, &text);
                    // A process that does not write the log learns here that the serving process has purging off.
                    if matches!(name, "XADD" | "XRANGE")
                        && is_for_good(&text)
                        && let Ok(log) = self.log()
                        && !log.settings.writes
                    {
                        log.turn_off();
                    }
                }
            }
        }
        self.refusals.all()
    }
}

impl Values for RedisStore {
    async fn get<const N: usize>(&self, keys: [&[u8]; N]) -> Result<[Option<Bytes>; N], StoreError> {
        self.oversized.check(&keys)?;
        // One key is read by GET, since people expect that in MONITOR.
        match self.read(if N == 1 { "GET" } else { "MGET" }, &keys).await? {
            RedisReply::Values(mut values) if values.len() == N => {
                Ok(std::array::from_fn(|index| values[index].take()))
            }
            RedisReply::Unread(Unread::TooLong { index, length }) => {
                self.oversized.remember(keys[index], length);
                Err(StoreError::TooLong(length))
            }
            RedisReply::Unread(Unread::TooSlow) => Err(StoreError::TooSlow),
            _ => Err(unanswered()),
        }
    }

    async fn ttl(&self, key: &[u8]) -> Result<Option<Duration>, StoreError> {
        // A negative number means that the key does not exist, or never expires.
        let milliseconds = match self.read("PTTL", &[key]).await? {
            RedisReply::Number(milliseconds) => u64::try_from(milliseconds).ok(),
            _ => None,
        };
        Ok(milliseconds.map(Duration::from_millis))
    }

    async fn put(&self, writes: Vec<Write>, ttl: Duration) -> Result<(), StoreError> {
        let ttl = ttl.as_secs().max(1).to_string();
        let commands: Vec<_> = writes.iter().map(|write| command(write, ttl.as_bytes())).collect();
        let outcomes = self.write_each(&commands).await;
        for (write, outcome) in writes.iter().zip(&outcomes) {
            // Even a full Redis changes the lifetime of a key.
            if let Write::Set(key, _) = write {
                self.nodes.wrote(key.as_bytes(), outcome.is_ok());
            }
        }
        let result = outcomes.into_iter().collect::<Result<Vec<_>, _>>().map(drop);
        if result.is_ok() {
            self.oversized.forget(&writes);
        }
        writes.iter().for_each(|write| self.listeners.changed(write.key().as_bytes()));
        result
    }

    async fn replace(
        &self,
        key: &Key,
        start: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let ttl = ttl.as_secs().max(1).to_string();
        let arguments: &[&[u8]] = &[REPLACE.as_bytes(), b"1", key.as_bytes(), start, ttl.as_bytes()];
        let replies = self.write_all(&[KeyCommand::new("EVAL", arguments).with(&value)]).await;
        self.listeners.changed(key.as_bytes());
        Ok(matches!(replies?[..], [RedisReply::Number(1)]))
    }

    fn takes_writes(&self, key: &Key) -> bool {
        self.nodes.takes_writes(key.as_bytes())
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let commands: Vec<_> = keys.iter().map(|key| KeyCommand::new("DEL", &[key.as_bytes()])).collect();
        let result = self.write_all(&commands).await.map(drop);
        keys.iter().for_each(|key| self.listeners.changed(key.as_bytes()));
        result
    }
}

impl Feed for RedisStore {
    fn follow(&self, prefixes: &[Vec<u8>], listeners: Vec<Arc<dyn Listener>>) -> bool {
        self.listeners.set(listeners);
        self.is_followed(prefixes)
    }

    fn node_of(&self, key: &[u8]) -> NodeNumber {
        self.nodes.id_of(key)
    }
}

impl PurgeLog for RedisStore {
    fn follow_log(&self, prefixes: &[Vec<u8>], settings: PurgeLogSettings) -> Arc<LogCopy> {
        let log = self.listeners.set_log(|| LogCopy::new(settings));
        self.is_followed(prefixes);
        log
    }

    async fn append(&self, purge: Purge, replicas: u32, _: SystemTime) -> Result<PurgeId, StoreError> {
        self.log_writer.append(self.log()?, purge, replicas).await
    }

    async fn purges(&self, after: PurgeId) -> Result<Vec<LoggedPurge>, StoreError> {
        self.log_writer.purges(self.log()?, after).await
    }
}

impl RedisStore {
    /// Follows the changes of Redis from the first call on. Returns whether that is possible.
    fn is_followed(&self, prefixes: &[Vec<u8>]) -> bool {
        *self.is_followed.get_or_init(|| {
            let feed = FeedSettings {
                prefixes: prefixes.into(),
                listeners: self.listeners.clone(),
                refusals: self.refusals.clone(),
            };
            let followed = match &self.nodes {
                Nodes::Cluster(cluster) => {
                    cluster.follow(feed);
                    Ok(())
                }
                Nodes::One(node) => {
                    let beat = if node.dialer.sentinels().is_some() { Beat::Role } else { Beat::Ping };
                    self.run_beside(Tracking { node: node.clone(), feed, beat }.run())
                }
            };
            if let Err(error) = &followed {
                warn!(%error, "changes in Redis do not arrive: no near cache");
            }
            followed.is_ok()
        })
    }

    fn log(&self) -> Result<&LogCopy, StoreError> {
        let log = self.listeners.log().filter(|log| !log.is_off());
        log.map(|log| &**log).ok_or_else(|| StoreError::Refused("it has no purge log".to_owned()))
    }
}

/// Writes a value if the old one has this beginning.
const REPLACE: &str = "local old = redis.call('GET', KEYS[1]) if old and string.sub(old, 1, #ARGV[1]) == ARGV[1] then redis.call('SETEX', KEYS[1], ARGV[2], ARGV[3]) return 1 end return 0";

fn command<'a>(write: &'a Write, ttl: &'a [u8]) -> KeyCommand<'a> {
    match write {
        Write::Set(key, value) => KeyCommand::new("SETEX", &[key.as_bytes(), ttl]).with(value),
        Write::Extend(key) => KeyCommand::new("EXPIRE", &[key.as_bytes(), ttl]),
    }
}

/// The nodes behind the store, as the settings say.
fn nodes(settings: &RedisSettings, bounds: Bounds, listeners: &Arc<Listeners>) -> Nodes {
    let (addresses, login) = (settings.addresses.clone(), settings.login.clone());
    let place = match &settings.kind {
        RedisKind::Cluster => {
            return Nodes::Cluster(Arc::new(Cluster::new(addresses, login, bounds, listeners.clone())));
        }
        RedisKind::Sentinel(name) => {
            let sentinels = Sentinels::new(addresses, name.clone(), settings.login_of_sentinels());
            Whereabouts::Master(Arc::new(sentinels))
        }
        RedisKind::Alone => Whereabouts::At(addresses[0].clone()),
    };
    let dialer = Dialer { place, login: Arc::new(login) };
    Nodes::One(Arc::new(RedisNode::new(NodeNumber::default(), dialer, bounds)))
}
