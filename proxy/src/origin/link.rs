//! Connections to the origin, kept for the next request.
//!
//! The pool of hyper-util's client hashes the origin's name twice and spawns a task for each request, a twentieth of the
//! cost of a pass. With a single origin a list is enough.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::Failure;
use super::connector::{Channel, Connector};
use super::upload::{Pace, Upload};

/// An idle connection is closed after this time, before most origins would close it.
const IDLE: Duration = Duration::from_secs(15);

/// The connections of one worker.
#[derive(Debug)]
pub(super) struct Links {
    connector: Connector,
    idle: Arc<Idle>,
}

/// A connection whose answer has begun. It can take the next request when the body of the answer has ended.
pub(crate) struct Link {
    connection: Channel,
    /// The pace of the request's body.
    pace: Pace,
    idle: Weak<Idle>,
}

/// The idle connections.
#[derive(Debug, Default)]
struct Idle(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Each connection with the time since when it is idle. The latest is the last.
    links: Vec<(Channel, Instant)>,
    /// Whether a task is running that closes old connections.
    is_watched: bool,
}

impl Links {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, idle: Arc::default() }
    }

    /// Whether the last connection failed, on any worker.
    pub(super) fn is_away(&self) -> bool {
        self.connector.is_away()
    }

    /// Sends a request, on the connection that was used last or on a new one. If the origin had closed that connection and no
    /// byte of the request was written, tries another connection.
    pub(super) async fn send(
        &self,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Link), Failure> {
        let changes = self.connector.changes();
        loop {
            let (mut connection, was_used) = match self.idle.take(changes) {
                Some(connection) => (connection, true),
                None => match self.connector.connect().await {
                    Ok(connection) => (connection, false),
                    Err(error) => {
                        let unsent = request.into_body().into_body();
                        return Err(Failure::Connect { error, unsent });
                    }
                },
            };
            connection.exchange.begin(request.method().as_str(), request.extensions().get());
            let pace = request.body().pace();
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok((response, Link { connection, pace, idle: Arc::downgrade(&self.idle) }));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if was_used => request = unsent,
                    _ => {
                        let (error, is_answered) = (failed.into_error(), connection.exchange.is_answered());
                        return Err(Failure::Sent { error, was_used, is_answered });
                    }
                },
            }
        }
    }
}

impl Link {
    /// Keeps the connection for the next request. The answer was read to its end. After a long body the connection is closed
    /// once the body is sent: the origin may be about to close it, and a request that is sent then gets no answer.
    pub(crate) fn give_back(self) {
        // If this fails, the worker or the runtime is gone.
        let (Some(idle), Ok(runtime)) = (self.idle.upgrade(), Handle::try_current()) else { return };
        if self.connection.sender.is_ready() && !self.pace.is_long() {
            return idle.put(self.connection, &runtime);
        }
        runtime.spawn(async move {
            let Self { mut connection, pace, .. } = self;
            match pace.keep(connection.sender.ready()).await {
                Some(Ok(())) if pace.is_long() => drop(connection),
                Some(Ok(())) => idle.put(connection, &Handle::current()),
                // The origin has closed the connection, or it has answered and reads no more of the request. The client may
                // read nothing before it has sent everything, and must not wait for the origin.
                _ => connection.task.abort(),
            }
        });
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Idle {
    /// An open connection to an address that the origin still has.
    fn take(&self, changes: u64) -> Option<Channel> {
        let mut waiting = self.lock();
        while let Some((connection, _)) = waiting.links.pop() {
            if connection.sender.is_ready() && connection.changes == changes {
                return Some(connection);
            }
        }
        None
    }

    fn put(self: &Arc<Self>, connection: Channel, runtime: &Handle) {
        let mut waiting = self.lock();
        waiting.links.push((connection, Instant::now()));
        if !std::mem::replace(&mut waiting.is_watched, true) {
            runtime.spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes the connections that were idle for too long. Returns when the next one will be, if there is one.
    fn close_old(&self) -> Option<Instant> {
        let mut waiting = self.lock();
        let now = Instant::now();
        let old = waiting.links.iter().take_while(|(_, since)| *since + IDLE <= now).count();
        waiting.links.drain(..old);
        let next = waiting.links.first().map(|(_, since)| *since + IDLE);
        waiting.is_watched = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes old connections until none is idle.
async fn watch(idle: Weak<Idle>) {
    while let Some(next) = idle.upgrade().and_then(|idle| idle.close_old()) {
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::http1::Builder;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio::time::sleep;

    use super::*;
    use crate::origin::RequestBody;
    use crate::origin::upload::Progress;
    use crate::origin::wire::WireExchange;

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_and_the_watching_task_ends() {
        let idle = Arc::<Idle>::default();
        let mut origins = Vec::new();
        for _ in 0..2 {
            let (ours, theirs) = duplex(1024);
            let (sender, connection) = Builder::new().handshake(TokioIo::new(ours)).await.unwrap();
            let task = tokio::spawn(connection).abort_handle();
            let connection = Channel { sender, exchange: WireExchange::default(), task, changes: 0 };
            let pace = Upload::new(RequestBody::default(), IDLE, Progress::new()).pace();
            Link { connection, pace, idle: Arc::downgrade(&idle) }.give_back();
            origins.push((theirs, Instant::now()));
            sleep(IDLE / 2).await;
        }
        for (mut theirs, since) in origins {
            assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(since.elapsed().as_secs(), IDLE.as_secs());
        }
        assert!(!idle.lock().is_watched && idle.take(0).is_none());
    }
}
