//! One Redis: its connections, the batches of commands over them, and its state.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use server::PerWorker;
use tokio::time::Instant;

use super::address::NodeAddress;
use super::batch::Batches;
use super::connection::Bounds;
use super::dialer::{Dialer, Whereabouts};
use super::health::Health;
use super::pool::{Commands, ConnectionPool, Outcomes};
use super::resp::RedisReply;
use crate::store::{NodeNumber, StoreError};

/// A command on a key.
#[derive(Clone, Debug)]
pub(super) struct KeyCommand<'a> {
    pub(super) name: &'static str,
    pub(super) arguments: Vec<&'a [u8]>,
    /// A further argument, which may be large.
    pub(super) value: Option<&'a Bytes>,
}

impl<'a> KeyCommand<'a> {
    pub(super) fn new(name: &'static str, arguments: &[&'a [u8]]) -> Self {
        Self { name, arguments: arguments.to_vec(), value: None }
    }

    /// The same command with a value as its last argument.
    pub(super) fn with(self, value: &'a Bytes) -> Self {
        Self { value: Some(value), ..self }
    }

    fn push_to(&self, batch: &mut Commands) {
        match self.value {
            Some(value) => batch.push_value(self.name, &self.arguments, value),
            None => batch.push(self.name, &self.arguments),
        }
    }

    /// The key that determines the node.
    pub(super) fn key(&self) -> &'a [u8] {
        let index = if self.name == "EVAL" { 2 } else { 0 };
        self.arguments.get(index).copied().unwrap_or_default()
    }
}

/// One Redis.
pub(super) struct RedisNode {
    pub(super) id: NodeNumber,
    pub(super) dialer: Arc<Dialer>,
    pub(super) health: Arc<Health>,
    workers: PerWorker<Worker>,
}

/// The connections of one worker. Writes have their own batches, so that a slow write holds up no read.
#[derive(Debug)]
struct Worker {
    connections: Arc<ConnectionPool>,
    reads: Batches,
    writes: Batches,
}

impl RedisNode {
    /// A node. It connects on first use.
    pub(super) fn new(id: NodeNumber, dialer: Dialer, bounds: Bounds) -> Self {
        let health = Arc::new(Health::new(dialer.place.to_string()));
        let dialer = Arc::new(dialer);
        let workers = PerWorker::new(|_| {
            let connections = Arc::new(ConnectionPool::new(&dialer, bounds, &health));
            let (reads, writes) = (Batches::new(connections.clone()), Batches::new(connections.clone()));
            Worker { connections, reads, writes }
        });
        Self { id, dialer, health, workers }
    }

    /// Waits until a connection of the calling worker can take commands.
    pub(super) async fn connect(&self) -> Result<(), StoreError> {
        self.workers.own().connections.connect().await
    }

    /// Sends a read in one batch with those of other requests.
    pub(super) async fn read(
        &self,
        name: &'static str,
        arguments: &[&[u8]],
    ) -> Result<RedisReply, StoreError> {
        self.allowed()?;
        // A batch dies only if the runtime that ran it ends.
        for _ in 0..2 {
            let part = self.workers.own().reads.read(name, arguments);
            if let Some([outcome]) = part.outcomes().await {
                return outcome.clone();
            }
        }
        Err(unanswered())
    }

    /// Sends commands in one batch with those of other requests. Returns their outcomes.
    pub(super) async fn write(&self, commands: &[&KeyCommand<'_>]) -> Outcomes {
        let count = commands.len();
        if let Err(error) = self.allowed() {
            return vec![Err(error); count];
        }
        let part = self.workers.own().writes.join(|batch| {
            let first = batch.len();
            commands.iter().for_each(|command| command.push_to(batch));
            (first, count)
        });
        part.outcomes().await.map_or_else(|| vec![Err(unanswered()); count], <[_]>::to_vec)
    }

    /// Sends ASKING and then one command, in a batch with those of other requests. The node may have the key already.
    pub(super) async fn write_asking(&self, command: &KeyCommand<'_>) -> Result<RedisReply, StoreError> {
        let asking = KeyCommand::new("ASKING", &[]);
        match &mut self.write(&[&asking, command]).await[..] {
            // Without ASKING, the node would redirect the command to the other side.
            [Ok(refused @ RedisReply::Error(_)), _] => Ok(refused.clone()),
            [_, outcome] => outcome.clone(),
            _ => Err(unanswered()),
        }
    }

    /// Sends commands on a connection of their own.
    pub(super) async fn ask(&self, commands: &Commands) -> Outcomes {
        self.workers.own().connections.ask(commands).await
    }

    /// Whether it answers, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        !self.health.breaker.is_open()
    }

    /// Its address, if that never changes.
    pub(super) fn place(&self) -> Option<&NodeAddress> {
        match &self.dialer.place {
            Whereabouts::At(address) => Some(address),
            Whereabouts::Master(_) => None,
        }
    }

    /// Its address, in words for an operator.
    pub(super) fn address(&self) -> String {
        self.dialer.place.to_string()
    }

    fn allowed(&self) -> Result<(), StoreError> {
        match self.health.breaker.allows(Instant::now()) {
            true => Ok(()),
            false => {
                Err(StoreError::Unreachable("it has just failed and is skipped for a moment".to_owned()))
            }
        }
    }
}

pub(super) fn unanswered() -> StoreError {
    StoreError::Unreachable("it sent no reply of use".to_owned())
}

impl fmt::Debug for RedisNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNode").field("address", &self.address()).finish_non_exhaustive()
    }
}
