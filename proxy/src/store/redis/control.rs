//! A connection of the background thread, for everything but pages: the feed of changes, the messages of Sentinels, and the
//! map of a cluster. It is one of the library's, since replies may have any shape, and messages may come unasked.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, PushKind, RedisError, Value};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::address::NodeAddress;
use super::dialer::{ByteStream, Login, dial};

/// How long a connection may be silent before it is given up.
pub(super) const SILENCE: Duration = Duration::from_millis(500);

/// A connection, and whether it is still open. It is closed when this is dropped.
pub(super) struct ControlConnection {
    connection: MultiplexedConnection,
    is_open: Arc<AtomicBool>,
    driver: JoinHandle<()>,
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("no answer within {} ms", SILENCE.as_millis())]
    Silence,
    #[error("the connection has ended")]
    Goodbye,
    #[error("it is not the master any more")]
    NoMaster,
}

impl ControlConnection {
    /// Logs in on a stream. Messages that come unasked go to `hear`, in their order.
    pub(super) async fn open(
        stream: Box<dyn ByteStream>,
        login: &Login,
        hear: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> Result<Self, Lost> {
        let is_open = Arc::new(AtomicBool::new(true));
        let open = is_open.clone();
        let config =
            AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    open.store(false, Ordering::Relaxed);
                }
                hear(&push);
                Ok::<_, ()>(())
            });
        let info = login.info().set_protocol(ProtocolVersion::RESP3);
        let opening = MultiplexedConnection::new_with_config(&info, stream, config);
        let (connection, driver) = timeout(SILENCE, opening).await.map_err(|_| Lost::Silence)??;
        Ok(Self { connection, is_open, driver: tokio::spawn(driver) })
    }

    /// Connects to an address and logs in. Messages that come unasked are ignored.
    pub(super) async fn to(address: &NodeAddress, login: &Login) -> Result<Self, Lost> {
        let dialled = timeout(SILENCE, dial(address, login)).await;
        Self::open(dialled.map_err(|_| Lost::Silence)??, login, |_| {}).await
    }

    /// Sends a command and waits for its reply.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value, Lost> {
        answered(command.query_async(&mut self.connection)).await
    }

    /// The connection itself. It closes when this is dropped.
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

/// The answer, if it comes in time.
pub(super) async fn answered<T>(answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, Lost> {
    Ok(timeout(SILENCE, answer).await.map_err(|_| Lost::Silence)??)
}

impl Drop for ControlConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
