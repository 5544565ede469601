//! Redis tells what changes (CLIENT TRACKING), so that what is kept near is as good as what Redis has, and so that who
//! waits for another proxy's fill hears of it.
//!
//! By prefix (`BCAST PREFIX`) and not key by key: Redis then remembers nothing for the keys that each proxy has read (it
//! would forget some of a million, and each read would have to be announced anew), and one connection beside those that
//! read is enough. Its price, to hear of every page that anybody stores, is a hundred bytes a fill, and fills are few.
//!
//! That the invalidations come on a connection of their own does no harm: an invalidation leaves Redis after the change,
//! so what was read before the change is not kept if it comes before the value, and taken out if it comes after
//! ([`Near::ticket`](crate::near::Near::ticket)).
//!
//! A thread of its own, so that a change is heard of at once, whatever the workers have to do.

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

use crate::store::Listener;
use crate::store::feed::Listeners;

/// An answer to a beat says that all changes that were acknowledged before the beat have been heard of. From the beat on
/// that is good for so long: no page is served near later than this after its change, with 5 ms to spare for the 50 that
/// are promised, whatever keeps the invalidations away: a cut cable, or a machine that has no time for this thread.
const CERTAIN_FOR: Duration = Duration::from_millis(45);

/// Three beats may be late before anything is asked of Redis instead. 100 beats a second cost 0.4% of a
/// core here, and half of that in Redis.
const BEAT: Duration = Duration::from_millis(10);

/// While nobody asks, to hear of those who do.
const IDLE_BEAT: Duration = Duration::from_millis(100);

/// How long nobody must have asked for that.
const WATCHFUL: Duration = Duration::from_secs(1);

/// A connection that has no answer for so long is given up.
const SILENCE: Duration = Duration::from_millis(500);

/// Before the next try to connect.
const PAUSE: Duration = Duration::from_millis(100);

const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// Tells of all changes of keys with this prefix, until who hears of them is dropped.
pub(super) fn follow(client: &Client, prefix: &[u8], listeners: &Arc<Listeners>) -> Result<(), RedisError> {
    let info = client.get_connection_info().clone();
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tracking = Tracking {
        client: Client::open(info.set_redis_settings(settings))?,
        prefix: prefix.to_vec(),
        listeners: Arc::downgrade(listeners),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("tracking".to_owned()).spawn(move || runtime.block_on(tracking.run()))?;
    Ok(())
}

struct Tracking {
    client: Client,
    prefix: Vec<u8>,
    listeners: Weak<Listeners>,
}

/// A connection that tells of changes, and whether it still does.
struct Stream {
    connection: MultiplexedConnection,
    is_open: Arc<AtomicBool>,
}

/// Why changes are not heard of.
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
            // Once, not at each try.
            if std::mem::replace(&mut was_on, false) {
                warn!(%lost, "changes in Redis are not heard of: near cache off");
            }
            sleep(PAUSE).await;
        }
    }

    /// A connection that tells of all changes from here on.
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
        answered(track.exec_async(&mut connection)).await?;
        Ok(Stream { connection, is_open })
    }

    /// Until changes are not heard of any more.
    async fn listen(&self, mut stream: Stream, was_on: &mut bool) -> Lost {
        let mut asked = Instant::now();
        loop {
            let sent = Instant::now();
            if let Err(lost) = answered(cmd("PING").exec_async(&mut stream.connection)).await {
                return lost;
            }
            // The stream may have ended after the answer; nothing else runs on this thread from here to `certain`.
            let Some(listeners) = self.listeners.upgrade().filter(|_| stream.is_open.load(Ordering::Relaxed))
            else {
                return Lost::Goodbye;
            };
            listeners.certain(sent + CERTAIN_FOR);
            if listeners.was_asked() {
                asked = sent;
            }
            drop(listeners);
            if !std::mem::replace(was_on, true) {
                info!("changes in Redis are heard of again");
            }
            sleep(if sent - asked < WATCHFUL { BEAT } else { IDLE_BEAT }).await;
        }
    }
}

async fn answered(answer: impl Future<Output = Result<(), RedisError>>) -> Result<(), Lost> {
    timeout(SILENCE, answer).await.map_err(|_| Lost::Silence)?.map_err(Lost::Redis)
}

/// One message, in the order in which Redis sent them.
fn hear(listeners: &Listeners, push: &PushInfo) {
    match (&push.kind, push.data.as_slice()) {
        (PushKind::Invalidate, [Value::Array(keys)]) => keys.iter().for_each(|key| match key {
            Value::BulkString(key) => listeners.changed(key),
            // No key can be told: any may have changed.
            _ => listeners.all_changed(),
        }),
        // FLUSHALL, FLUSHDB.
        (PushKind::Invalidate, _) => listeners.all_changed(),
        (PushKind::Disconnection, _) => listeners.lost(),
        _ => {}
    }
}
