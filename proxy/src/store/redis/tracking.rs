//! The feed of changes in Redis (CLIENT TRACKING). The near cache drops what has changed, and a request that waits for
//! another proxy's fill is woken.
//!
//! Tracking is by prefix (`BCAST PREFIX`) and not by key. By key, Redis would have to remember what each proxy has read
//! (and would forget some of a million keys), and each read would have to register its key again. By prefix, one
//! connection besides those that read is enough. Its price is an invalidation for every page that any proxy stores: a
//! hundred bytes for each fill, and fills are few.
//!
//! Invalidations may arrive before or after a value that was read on another connection. Redis sends an invalidation
//! after the change. If it arrives before a value from before the change, the value is not kept; if it arrives after,
//! the value is removed ([`Near::ticket`](crate::near::Near::ticket)).
//!
//! The feed has its own thread, so that a change arrives at once even while the workers are busy. With a purge log, its
//! beat reads the log ([`super::log`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{
    AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisError, Value, cmd,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::health::Health;
use super::log::LogReader;
use crate::store::feed::Listeners;
use crate::store::{Listener, LogCopy};

/// The answer to a beat shows that all changes from before the beat have arrived. It is valid for this time from the
/// beat on, so the near cache serves no page later than this after its change, even if invalidations are held up by a
/// cut cable or a busy machine. The promise is 50 ms; 5 ms are in reserve.
const CERTAIN_FOR: Duration = Duration::from_millis(45);

/// Three beats may be late before lookups go to Redis again. 100 beats a second cost 0.4% of a core here, and half of
/// that in Redis.
const BEAT: Duration = Duration::from_millis(10);

/// The beat while the near cache is not used.
const IDLE_BEAT: Duration = Duration::from_millis(100);

/// How long after the last use of the near cache the slower beat begins.
const WATCHFUL: Duration = Duration::from_secs(1);

/// A connection without an answer for this time is given up.
const SILENCE: Duration = Duration::from_millis(500);

/// The pause before the next try to connect.
const PAUSE: Duration = Duration::from_millis(100);

const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// Reports all changes of keys with this prefix until the listeners are dropped.
pub(super) fn follow(
    client: &Client,
    prefix: &[u8],
    listeners: &Arc<Listeners>,
    health: &Arc<Health>,
) -> Result<(), RedisError> {
    let info = client.get_connection_info().clone();
    // Without the names of the library, which a user may not set who has only the rights that are needed.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    let tracking = Tracking {
        client: Client::open(info.set_redis_settings(settings))?,
        prefix: prefix.to_vec(),
        listeners: Arc::downgrade(listeners),
        health: health.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("tracking".to_owned()).spawn(move || runtime.block_on(tracking.run()))?;
    Ok(())
}

struct Tracking {
    client: Client,
    prefix: Vec<u8>,
    listeners: Weak<Listeners>,
    health: Arc<Health>,
}

/// A connection that reports changes, and whether it is still open.
struct Stream {
    connection: MultiplexedConnection,
    is_open: Arc<AtomicBool>,
    /// Whether Redis reports changes. If it refuses to, purges are still read.
    is_tracking: bool,
    log: Option<LogReader>,
}

/// Why changes no longer arrive.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("no answer within {} ms", SILENCE.as_millis())]
    Silence,
    #[error("the connection has ended")]
    Goodbye,
}

impl Tracking {
    async fn run(self) {
        let mut was_on = true;
        loop {
            let lost = match self.connect().await {
                Ok(stream) => self.listen(stream, &mut was_on).await,
                Err(lost) => lost,
            };
            let Some(listeners) = self.listeners.upgrade() else { return };
            listeners.lost();
            drop(listeners);
            // Logged once, not for each try. Requests may wait for the purge log, so the first try is made at once.
            if std::mem::replace(&mut was_on, false) {
                warn!(%lost, "changes in Redis do not arrive: near cache off");
            } else {
                sleep(PAUSE).await;
            }
        }
    }

    /// Opens a connection that reports all changes from now on.
    async fn connect(&self) -> Result<Stream, Lost> {
        let (listeners, is_open) = (self.listeners.clone(), Arc::new(AtomicBool::new(true)));
        let open = is_open.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_DEADLINE))
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    open.store(false, Ordering::Relaxed);
                }
                if let Some(listeners) = listeners.upgrade() {
                    hear(&listeners, &push);
                }
                Ok::<_, ()>(())
            });
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut track = cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&self.prefix);
        let is_tracking = match answered(track.exec_async(&mut connection)).await {
            Err(Lost::Redis(error)) if error.code() == Some("NOPERM") && self.log().is_some() => {
                self.health.refused("CLIENT TRACKING", &error.to_string());
                false
            }
            tracking => tracking.map(|()| true)?,
        };
        Ok(Stream { connection, is_open, is_tracking, log: None })
    }

    fn log(&self) -> Option<Arc<LogCopy>> {
        self.listeners.upgrade()?.log().filter(|log| !log.is_off()).cloned()
    }

    /// Sends beats until changes no longer arrive.
    async fn listen(&self, mut stream: Stream, was_on: &mut bool) -> Lost {
        let mut asked = Instant::now();
        loop {
            let (sent, log) = (Instant::now(), self.log());
            if let Err(lost) = self.beat(&mut stream, log.as_ref()).await {
                return lost;
            }
            // The stream may have ended after the answer. Nothing else runs on this thread between here and `certain`.
            let Some(listeners) = self.listeners.upgrade().filter(|_| stream.is_open.load(Ordering::Relaxed))
            else {
                return Lost::Goodbye;
            };
            match &log {
                Some(log) if !stream.is_tracking => log.certain(sent + CERTAIN_FOR),
                _ => listeners.certain(sent + CERTAIN_FOR),
            }
            if listeners.was_asked() {
                asked = sent;
            }
            drop(listeners);
            if !std::mem::replace(was_on, true) {
                info!("changes in Redis arrive again: near cache on");
            }
            let pause = sleep(if sent - asked < WATCHFUL { BEAT } else { IDLE_BEAT });
            match log {
                Some(log) => tokio::select! { () = pause => {}, () = log.wanted.notified() => {} },
                None => pause.await,
            }
        }
    }

    /// An exchange with Redis, which shows that it has sent all changes from before. It also reads the purge log.
    async fn beat(&self, stream: &mut Stream, log: Option<&Arc<LogCopy>>) -> Result<(), Lost> {
        match (log, &mut stream.log) {
            (None, _) => answered(cmd("PING").exec_async(&mut stream.connection)).await,
            (Some(_), Some(reader)) => answered(reader.read()).await,
            (Some(log), none) => {
                let reader = LogReader::begin(log, stream.connection.clone(), &self.health);
                *none = answered(reader).await?;
                Ok(())
            }
        }
    }
}

async fn answered<T>(answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, Lost> {
    timeout(SILENCE, answer).await.map_err(|_| Lost::Silence)?.map_err(Lost::Redis)
}

/// Passes a message to the listeners. Called in the order in which Redis sent the messages.
fn hear(listeners: &Listeners, push: &PushInfo) {
    match (&push.kind, push.data.as_slice()) {
        (PushKind::Invalidate, [Value::Array(keys)]) => keys.iter().for_each(|key| match key {
            Value::BulkString(key) => listeners.changed(key),
            // Not a key: any key may have changed.
            _ => listeners.all_changed(),
        }),
        // FLUSHALL, FLUSHDB.
        (PushKind::Invalidate, _) => listeners.all_changed(),
        (PushKind::Disconnection, _) => listeners.lost(),
        _ => {}
    }
}
