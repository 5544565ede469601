//! A connection to a database that notifies.

use std::future::poll_fn;
use std::time::Duration;

use bb8_postgres::tokio_postgres::tls::TlsStream;
use bb8_postgres::tokio_postgres::{self, AsyncMessage, Client, Connection, Socket};
use tokio::sync::{mpsc, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Follow;

/// How often the database is asked whether it is there, and how long its answer may take. A dead peer is noticed within the
/// sum of both.
const PING_EVERY: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(5);
const _: () = assert!(PING_EVERY.as_secs() + PATIENCE.as_secs() <= 10, "docs/follow.md promises less");

/// The most notifications that wait. If there are more, the connection is not read, so the database keeps them.
const WAITING: usize = 1024;

/// Why a connection ended, or was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unheard {
    #[error("{}", cause(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent(#[from] Elapsed),
    #[error("the database has closed the connection")]
    Closed,
}

/// PostgreSQL's own message, or the innermost error: the outer ones only say that there is an error.
fn cause(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A connection that listens.
pub(crate) struct Subscription {
    payloads: mpsc::Receiver<String>,
    alive: watch::Receiver<Instant>,
    /// The task that asks the database whether it is there. It ends when the database is not.
    pings: AbortOnDropHandle<Unheard>,
    /// The task that reads and writes the connection.
    _driver: AbortOnDropHandle<()>,
}

impl Subscription {
    /// Connects and listens. Every transaction that commits afterwards is heard.
    pub(crate) async fn open(follow: &Follow) -> Result<Self, Unheard> {
        timeout(PATIENCE, Self::listen(follow)).await?
    }

    async fn listen(follow: &Follow) -> Result<Self, Unheard> {
        let (client, connection) = follow.database.connect(follow.tls.connector.clone()).await?;
        let (sender, payloads) = mpsc::channel(WAITING);
        let driver = AbortOnDropHandle::new(tokio::spawn(drive(connection, sender)));
        let channel = follow.channel.replace('"', "\"\"");
        client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
        let (answered, alive) = watch::channel(Instant::now());
        let pings = AbortOnDropHandle::new(tokio::spawn(ping(client, answered)));
        Ok(Self { payloads, alive, pings, _driver: driver })
    }

    /// The payloads of all notifications that have come; waits for the first.
    pub(crate) async fn notified(&mut self) -> Result<Vec<String>, Unheard> {
        let mut payloads = Vec::new();
        tokio::select! {
            count = self.payloads.recv_many(&mut payloads, WAITING) => match count {
                0 => Err(Unheard::Closed),
                _ => Ok(payloads),
            },
            lost = &mut self.pings => Err(lost.unwrap_or(Unheard::Closed)),
        }
    }

    /// When the database last showed that it is there.
    pub(crate) fn alive(&self) -> Instant {
        *self.alive.borrow()
    }
}

/// Asks the database again and again whether it is there. Completes when it does not answer.
async fn ping(client: Client, alive: watch::Sender<Instant>) -> Unheard {
    loop {
        sleep(PING_EVERY).await;
        let asked = Instant::now();
        match timeout(PATIENCE, client.batch_execute("")).await {
            Ok(Ok(())) => drop(alive.send_replace(asked)),
            Ok(Err(error)) => return error.into(),
            Err(elapsed) => return elapsed.into(),
        }
    }
}

/// Runs a connection until it ends, and passes on what is notified.
async fn drive(mut connection: Connection<Socket, impl TlsStream + Unpin>, payloads: mpsc::Sender<String>) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message
            && payloads.send(notification.payload().to_owned()).await.is_err()
        {
            return;
        }
    }
}
