//! The connections of one worker, pooled by bb8.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bb8::{ErrorSink, ManageConnection, Pool, PooledConnection, QueueStrategy};
use bytes::Bytes;
use server::in_time;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::batch::RunCommands;
use super::connection::{Bounds, Connection, Replies};
use super::dialer::Dialer;
use super::health::Health;
use super::resp::{END, RedisReply, begin_command, write_command};
use crate::store::StoreError;

/// The connections of each worker. One is enough while Redis is quick, since requests share its batches. The others are for
/// commands that come while a large value takes its time.
const CONNECTIONS: u32 = 4;

/// bb8 connects in the background, so this may be longer than a request waits for the store.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// A value of at least this many bytes is sent without a copy.
const LARGE: usize = 4 << 10;

/// The memory for commands that is kept for later ones.
const KEPT: usize = 64 << 10;

/// Commands that go out together.
#[derive(Debug, Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    /// The large values, and their places between the bytes.
    values: Vec<(usize, Bytes)>,
    /// The name of each command, and where the command ends.
    commands: Vec<(&'static str, usize)>,
}

/// The outcome of a command. An error reply is one, too.
pub(super) type CommandOutcome = Result<RedisReply, StoreError>;

/// The outcomes of commands, in their order.
pub(super) type Outcomes = Vec<CommandOutcome>;

impl Commands {
    pub(super) fn push(&mut self, name: &'static str, arguments: &[&[u8]]) {
        write_command(&mut self.bytes, name, arguments);
        self.commands.push((name, self.bytes.len()));
    }

    /// Appends a command whose last argument is a value.
    pub(super) fn push_value(&mut self, name: &'static str, arguments: &[&[u8]], value: &Bytes) {
        begin_command(&mut self.bytes, name, arguments, value.len());
        match value.len() < LARGE {
            true => self.bytes.extend_from_slice(value),
            false => self.values.push((self.bytes.len(), value.clone())),
        }
        self.bytes.extend_from_slice(END);
        self.commands.push((name, self.bytes.len()));
    }

    /// Appends a command, unless the same one is already there. Returns its index.
    pub(super) fn share(&mut self, name: &'static str, arguments: &[&[u8]]) -> usize {
        self.push(name, arguments);
        let last = self.len() - 1;
        let same = (0..last).find(|index| self.command(*index) == self.command(last));
        if same.is_some() {
            self.bytes.truncate(self.start(last));
            self.commands.pop();
        }
        same.unwrap_or(last)
    }

    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Removes the commands. Keeps their memory, unless it is large.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.values.clear();
        self.commands.clear();
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.commands.iter().map(|(name, _)| *name)
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.commands[before].1)
    }

    fn command(&self, index: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.commands[index].1]
    }

    /// The commands from this index on, in pieces.
    fn from(&self, index: usize) -> SmallVec<[&[u8]; 1]> {
        let first = self.start(index);
        let (mut pieces, mut start) = (SmallVec::new(), first);
        for (at, value) in self.values.iter().filter(|(at, _)| *at > first) {
            pieces.extend([&self.bytes[start..*at], value]);
            start = *at;
        }
        pieces.push(&self.bytes[start..]);
        pieces
    }
}

/// The connections of one worker.
#[derive(Debug)]
pub(super) struct ConnectionPool {
    pool: Pool<Manager>,
    health: Arc<Health>,
    silence: Duration,
    /// When the last exchange ended.
    moved: Mutex<Instant>,
}

impl ConnectionPool {
    pub(super) fn new(dialer: &Arc<Dialer>, bounds: Bounds, health: &Arc<Health>) -> Self {
        let manager = Manager { dialer: dialer.clone(), bounds, health: health.clone() };
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            // The connection that was used last is the warmest one. The others are a reserve.
            .queue_strategy(QueueStrategy::Lifo)
            // A working connection is never closed for its age: every request that waited for its replacement would be a miss.
            .max_lifetime(None)
            .idle_timeout(None)
            // `checkout` has a deadline of its own.
            .connection_timeout(Duration::from_secs(3600))
            .retry_connection(false)
            // A ping before each command would double the round trips. `is_usable` costs nothing.
            .test_on_check_out(false)
            .error_sink(Box::new(ConnectFailures(health.clone())))
            .build_unchecked(manager);
        Self { pool, health: health.clone(), silence: bounds.silence, moved: Mutex::new(Instant::now()) }
    }

    /// Runs commands. An error reply is an outcome like any other.
    pub(super) async fn ask(&self, commands: &Commands) -> Outcomes {
        let mut replies = Replies::new();
        let fault = self.answer(commands, &mut replies).await.err();
        match &fault {
            Some(fault) => self.health.failed(fault),
            None => self.health.answers(),
        }
        let mut outcomes: Outcomes = replies.into_iter().map(Ok).collect();
        if let Some(fault) = fault {
            outcomes.resize(commands.len(), Err(fault));
        }
        outcomes
    }

    /// Sends commands that one connection left unanswered on another one, if Redis is not to blame: the connection was closed
    /// while it was idle, or a value was not read.
    async fn answer(&self, commands: &Commands, replies: &mut Replies) -> Result<(), StoreError> {
        let mut was_repeated = false;
        while replies.len() < commands.len() {
            let mut connection = self.checkout().await?;
            let (answered, was_used) = (replies.len(), connection.inner.was_used);
            let missing = commands.len() - answered;
            let exchange = connection.inner.exchange(&commands.from(answered), missing, replies).await;
            *self.moved() = Instant::now();
            match exchange {
                Ok(()) => {}
                Err(_) if matches!(replies[answered..].last(), Some(RedisReply::Unread(_))) => {}
                // Redis, or a balancer, closed the connection while the commands were being sent.
                Err(error) if was_used && replies.len() == answered && !was_repeated && is_closed(&error) => {
                    was_repeated = true;
                }
                Err(error) => return Err(self.fault(&error)),
            }
        }
        Ok(())
    }

    /// A connection that can take commands. While all connections are busy, silence counts from the last answer on any of
    /// them.
    async fn checkout(&self) -> Result<PooledConnection<'_, Manager>, StoreError> {
        let mut deadline = Instant::now() + self.silence;
        loop {
            // If bb8 cannot connect, its waiters go on waiting. This notification ends their wait.
            let mut connect_failed = pin!(self.health.connect_failed.notified());
            connect_failed.as_mut().enable();
            let mut getting = pin!(async {
                tokio::select! {
                    biased;
                    got = self.pool.get() => got.map_err(|error| StoreError::Unreachable(error.to_string())),
                    () = connect_failed => Err(StoreError::Unreachable("cannot connect".to_owned())),
                }
            });
            let mut connection = loop {
                if let Some(got) = in_time(deadline, &mut getting).await {
                    break got?;
                }
                let moved = *self.moved() + self.silence;
                if moved <= deadline {
                    return Err(StoreError::Deadline(self.silence));
                }
                deadline = moved;
            };
            if connection.inner.is_usable() && connection.generation == self.health.generation() {
                return Ok(connection);
            }
            // bb8 asks the manager whether to keep the connection.
            connection.is_discarded = true;
        }
    }

    /// Waits until a connection can take commands.
    pub(super) async fn connect(&self) -> Result<(), StoreError> {
        self.checkout().await.map(drop)
    }

    fn moved(&self) -> MutexGuard<'_, Instant> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, error: &io::Error) -> StoreError {
        match error.kind() {
            ErrorKind::TimedOut => StoreError::Deadline(self.silence),
            _ => StoreError::Unreachable(error.to_string()),
        }
    }
}

impl RunCommands for ConnectionPool {
    async fn run(&self, commands: &Commands) -> Outcomes {
        let outcomes = self.ask(commands).await;
        for outcome in &outcomes {
            if let Ok(RedisReply::Error(text)) = outcome {
                self.health.refused(text);
            }
        }
        outcomes
    }
}

fn is_closed(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}

/// Makes connections for bb8, and tells it which ones are broken (bb8-redis never does).
#[derive(Debug)]
pub(super) struct Manager {
    dialer: Arc<Dialer>,
    bounds: Bounds,
    health: Arc<Health>,
}

/// A connection in the pool.
pub(super) struct Pooled {
    inner: Connection,
    generation: u32,
    is_discarded: bool,
}

impl ManageConnection for Manager {
    type Connection = Pooled;
    type Error = StoreError;

    async fn connect(&self) -> Result<Pooled, StoreError> {
        let generation = self.health.generation();
        let deadline = Instant::now() + CONNECT_DEADLINE;
        match in_time(deadline, Connection::open(&self.dialer, self.bounds)).await {
            Some(Ok(inner)) => Ok(Pooled { inner, generation, is_discarded: false }),
            Some(Err(error)) => Err(StoreError::Unreachable(error.to_string())),
            None => Err(StoreError::Deadline(CONNECT_DEADLINE)),
        }
    }

    async fn is_valid(&self, _: &mut Pooled) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut Pooled) -> bool {
        connection.is_discarded || connection.inner.is_broken()
    }
}

#[derive(Debug)]
struct ConnectFailures(Arc<Health>);

impl ErrorSink<StoreError> for ConnectFailures {
    fn sink(&self, error: StoreError) {
        self.0.cannot_connect(&error);
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<StoreError>> {
        Box::new(Self(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_value_is_sent_from_where_it_is() {
        let large = Bytes::from(vec![b'x'; LARGE]);
        let mut commands = Commands::default();
        commands.push("GET", &[b"a"]);
        commands.push_value("SET", &[b"a"], &large);
        commands.push_value("SET", &[b"b"], &Bytes::from_static(b"small"));
        let expected = [
            "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
            &format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${LARGE}\r\n{}\r\n", "x".repeat(LARGE)),
            "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$5\r\nsmall\r\n",
        ];
        for index in 0..3 {
            assert_eq!(commands.from(index).concat(), expected[index..].concat().as_bytes());
        }
        assert_eq!(commands.from(0)[1].as_ptr(), large.as_ptr());
        commands.clear();
        assert!(large.is_unique());
    }
}
