//! The purge log, as the stream of changes of one node reads it: from this node, or from the node that the log is moving to.

use std::sync::Arc;

use super::address::NodeAddress;
use super::control::{ControlConnection, Lost, answered};
use super::log::LogReader;
use super::log_connection::LogConnection;
use super::node::RedisNode;
use super::refusals::Refusals;
use super::slots::Redirect;
use crate::store::LogCopy;

/// The readers of the log on one stream.
pub(super) struct LogStream {
    node: Arc<RedisNode>,
    refusals: Arc<Refusals>,
    here: Option<LogReader>,
    there: Option<OtherSide>,
}

/// The node that the slot of the log is moving to, while the log is already there.
struct OtherSide {
    address: NodeAddress,
    /// Keeps the connection of the reader open.
    _control: ControlConnection,
    reader: LogReader,
}

/// Why the log was not read.
pub(super) struct UnreadLog {
    pub(super) lost: Lost,
    /// The redirect in the error of the node that was asked.
    pub(super) redirect: Option<Redirect>,
}

impl LogStream {
    pub(super) fn new(node: &Arc<RedisNode>, refusals: &Arc<Refusals>) -> Self {
        Self { node: node.clone(), refusals: refusals.clone(), here: None, there: None }
    }

    /// Reads new entries of the log. The owner of the slot is always asked first, since only its redirect is true at this
    /// moment. `control` is the connection of the stream.
    pub(super) async fn read(
        &mut self,
        log: &Arc<LogCopy>,
        control: &ControlConnection,
    ) -> Result<(), UnreadLog> {
        let other = match self.read_here(log, control).await {
            Err(UnreadLog { redirect: Some(Redirect::Ask(other)), .. }) => other,
            read => {
                self.there = None;
                return read;
            }
        };
        match self.read_there(log, other).await {
            // The log has moved back between the two questions.
            Err(UnreadLog { redirect: Some(_), .. }) => self.read_here(log, control).await,
            read => read,
        }
    }

    async fn read_here(&mut self, log: &Arc<LogCopy>, control: &ControlConnection) -> Result<(), UnreadLog> {
        let reader = self.here.get_or_insert_with(|| {
            LogReader::new(log, LogConnection::new(control.connection(), &self.refusals, false))
        });
        answered(reader.read()).await.map_err(|lost| UnreadLog::of(lost, self.node.place()))
    }

    async fn read_there(&mut self, log: &Arc<LogCopy>, address: NodeAddress) -> Result<(), UnreadLog> {
        let there = match self.there.take().filter(|there| there.address == address) {
            Some(there) => self.there.insert(there),
            None => {
                let opened = ControlConnection::to(&address, &self.node.dialer.login).await;
                let control = opened.map_err(|lost| UnreadLog { lost, redirect: None })?;
                let connection = LogConnection::new(control.connection(), &self.refusals, true);
                self.there.insert(OtherSide {
                    address,
                    _control: control,
                    reader: LogReader::new(log, connection),
                })
            }
        };
        answered(there.reader.read()).await.map_err(|lost| UnreadLog::of(lost, Some(&there.address)))
    }
}

impl UnreadLog {
    /// An error of the node at `asked`.
    fn of(lost: Lost, asked: Option<&NodeAddress>) -> Self {
        let redirect = match (&lost, asked) {
            (Lost::Redis(error), Some(asked)) => Redirect::of_error(error, asked),
            _ => None,
        };
        Self { lost, redirect }
    }
}
