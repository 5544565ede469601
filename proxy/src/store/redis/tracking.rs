//! The feed of changes in Redis (CLIENT TRACKING). By it the near cache drops entries that have changed, and requests that
//! wait for another proxy's fill are woken.
//!
//! Tracking is by prefix (`BCAST PREFIX`) and not by key. By key, Redis would have to remember which keys each proxy has read
//! (and would forget some of a million keys), and each read would have to register its key again. By prefix, one further
//! connection is enough. Its price is an invalidation for every page that any proxy stores: a hundred bytes for each fill, and
//! fills are few.
//!
//! An invalidation may arrive before or after a value that was read on another connection. Redis sends it after the change. If
//! it arrives before an old value, the value is not kept. If it arrives after the old value, the value is removed
//! ([`Near::ticket`](crate::near::Near::ticket)).
//!
//! Each node that takes writes has a stream of its own. Each stream is certain or lost by itself.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{Cmd, PushInfo, PushKind, Value, cmd};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::cluster::Cluster;
use super::control::{ControlConnection, Lost};
use super::log_stream::LogStream;
use super::node::RedisNode;
use super::refusals::Refusals;
use super::slots::Redirect;
use crate::store::feed::Listeners;
use crate::store::{Listener, LogCopy, NodeNumber};

/// How long the answer to a beat counts, from the beat on. It shows that all changes from before the beat have arrived. So the
/// near cache serves no page later than this after its change, even if a cut cable or a busy machine holds invalidations up.
/// The promise is 50 ms; 5 ms are in reserve.
const CERTAIN_FOR: Duration = Duration::from_millis(45);

/// The time between two beats. Three may be late before lookups go to Redis again. 100 beats a second cost 0.4% of a core
/// here, and half of that in Redis.
const BEAT: Duration = Duration::from_millis(10);

/// The beat while the near cache is not used.
const IDLE_BEAT: Duration = Duration::from_millis(100);

/// How long after the last use of the near cache the slower beat begins.
const WATCHFUL: Duration = Duration::from_secs(1);

/// The pause before the next try to connect.
const PAUSE: Duration = Duration::from_millis(100);

const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// The changes to report, and the listeners.
#[derive(Clone)]
pub(super) struct FeedSettings {
    /// The prefixes of the keys.
    pub(super) prefixes: Arc<[Vec<u8>]>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) refusals: Arc<Refusals>,
}

/// A connection that reports changes.
struct Stream {
    control: ControlConnection,
    /// Whether Redis reports changes. Even if it refuses to, purges are read.
    is_tracking: bool,
    log: LogStream,
}

/// The stream of changes of one node.
pub(super) struct Tracking {
    pub(super) node: Arc<RedisNode>,
    pub(super) feed: FeedSettings,
    /// The beat. Its reply shows that the node still has the role that it had when the stream began.
    pub(super) beat: Beat,
}

/// The command that a node gets again and again.
pub(super) enum Beat {
    /// Asks whether the node answers.
    Ping,
    /// Asks whether the node is still the master.
    Role,
    /// Asks for a key in one of the node's slots of this cluster: whether the node still answers for it, and is not cut off
    /// from the other nodes.
    Key(Arc<Cluster>),
}

impl Tracking {
    /// Reports all changes of the node to the listeners, as long as it runs.
    pub(super) async fn run(self) {
        let mut was_on = true;
        loop {
            let generation = self.node.health.generation();
            let lost = match self.connect().await {
                Ok(stream) => self.listen(stream, generation, &mut was_on).await,
                Err(lost) => lost,
            };
            self.feed.listeners.lost(self.node.id);
            if let Beat::Key(cluster) = &self.beat {
                cluster.wanted.notify_one();
            }
            // Logged once, and not for each try. Requests may wait for the purge log, so the first try is made at once.
            if std::mem::replace(&mut was_on, false) {
                warn!(%lost, node = self.node.address(), "changes in Redis do not arrive: near cache off");
            } else {
                sleep(PAUSE).await;
            }
        }
    }

    /// Opens a connection that reports all changes from now on.
    async fn connect(&self) -> Result<Stream, Lost> {
        let (listeners, node) = (self.feed.listeners.clone(), self.node.id);
        let dialer = &self.node.dialer;
        let dialled = timeout(CONNECT_DEADLINE, dialer.dial()).await;
        let stream = dialled.map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
        let hear = move |push: &PushInfo| hear(&listeners, node, push);
        let mut control = ControlConnection::open(stream, &dialer.login, hear).await?;
        let mut track = cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in self.feed.prefixes.iter() {
            track.arg("PREFIX").arg(prefix);
        }
        let is_tracking = match control.ask(&track).await {
            Err(Lost::Redis(error)) if error.code() == Some("NOPERM") && self.log().is_some() => {
                self.feed.refusals.note_error("CLIENT TRACKING", &error);
                false
            }
            tracking => tracking.map(|_| true)?,
        };
        let log = LogStream::new(&self.node, &self.feed.refusals);
        Ok(Stream { control, is_tracking, log })
    }

    /// The purge log, if this node has it.
    fn log(&self) -> Option<&Arc<LogCopy>> {
        let is_here = |log: &&Arc<LogCopy>| match &self.beat {
            Beat::Key(cluster) => cluster.id_of(log.settings.key.as_bytes()) == self.node.id,
            Beat::Ping | Beat::Role => true,
        };
        self.feed.listeners.log().filter(|log| !log.is_off()).filter(is_here)
    }

    /// Sends beats until changes no longer arrive. `generation` is that of the node when the stream was opened.
    async fn listen(&self, mut stream: Stream, generation: u32, was_on: &mut bool) -> Lost {
        let Some(command) = self.command() else { return Lost::NoMaster };
        let began = Instant::now();
        loop {
            let (sent, log) = (Instant::now(), self.log());
            if let Err(lost) = self.beat(&mut stream, log, &command).await {
                return lost;
            }
            // The stream may have ended after the answer. No other task runs on this thread between here and `certain`.
            if !stream.control.is_open() {
                return Lost::Goodbye;
            }
            if self.node.health.generation() != generation {
                return Lost::NoMaster;
            }
            let (node, until, listeners) = (self.node.id, sent + CERTAIN_FOR, &self.feed.listeners);
            if stream.is_tracking {
                listeners.certain(node, until);
            }
            if let Some(log) = log {
                log.certain(node, until);
            }
            let asked = listeners.last_asked(sent).map_or(began, |asked| asked.max(began));
            if !std::mem::replace(was_on, true) {
                info!(node = self.node.address(), "changes in Redis arrive again: near cache on");
            }
            let pause = sleep(if sent - asked < WATCHFUL { BEAT } else { IDLE_BEAT });
            match log {
                Some(log) => tokio::select! { () = pause => {}, () = log.wanted.notified() => {} },
                None => pause.await,
            }
        }
    }

    /// An exchange with Redis, which shows that it has sent all earlier changes. Also reads the purge log. `command` makes a
    /// node of a cluster prove that it has the slot of its key.
    async fn beat(&self, stream: &mut Stream, log: Option<&Arc<LogCopy>>, command: &Cmd) -> Result<(), Lost> {
        if log.is_none() || matches!(self.beat, Beat::Role) {
            let is_right = match stream.control.ask(command).await {
                // Only the owner of a moving slot sends ASK.
                Err(Lost::Redis(error)) if error.code() == Some("ASK") => true,
                reply => self.beat.accepts(&reply?),
            };
            if !is_right {
                return Err(Lost::NoMaster);
            }
        }
        let Some(log) = log else { return Ok(()) };
        stream.log.read(log, &stream.control).await.map_err(|unread| {
            if let (Beat::Key(cluster), Some(Redirect::Moved(slot, address))) = (&self.beat, &unread.redirect)
            {
                cluster.moved(*slot, address);
            }
            unread.lost
        })
    }

    /// The command of a beat; `None` for a node of a cluster without slots.
    fn command(&self) -> Option<Cmd> {
        match &self.beat {
            Beat::Ping => Some(cmd("PING")),
            Beat::Role => Some(cmd("ROLE")),
            Beat::Key(cluster) => {
                let key = cluster.key_on(&self.node, self.feed.prefixes.first()?)?;
                let mut get = cmd("GET");
                get.arg(key);
                Some(get)
            }
        }
    }
}

impl Beat {
    fn accepts(&self, reply: &Value) -> bool {
        match (self, reply) {
            (Self::Role, Value::Array(words)) => words.first() == Some(&Value::BulkString(b"master".into())),
            _ => true,
        }
    }
}

/// Passes a message to the listeners. It is called in the order in which Redis sent the messages.
fn hear(listeners: &Listeners, node: NodeNumber, push: &PushInfo) {
    match (&push.kind, push.data.as_slice()) {
        (PushKind::Invalidate, [Value::Array(keys)]) => keys.iter().for_each(|key| match key {
            Value::BulkString(key) => listeners.changed(key),
            // The message has no key, so any key may have changed.
            _ => listeners.all_changed(node),
        }),
        // This comes after FLUSHALL and FLUSHDB.
        (PushKind::Invalidate, _) => listeners.all_changed(node),
        (PushKind::Disconnection, _) => listeners.lost(node),
        _ => {}
    }
}
