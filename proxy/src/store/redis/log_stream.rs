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
    control: ControlConnection,
    reader: Option<LogReader>,
}

impl LogStream {
    pub(super) fn new(node: &Arc<RedisNode>, refusals: &Arc<Refusals>) -> Self {
        Self { node: node.clone(), refusals: refusals.clone(), here: None, there: None }
    }

    /// Reads new entries of the log. The owner of the slot is always asked first, since only its redirect is true at this
    /// moment. `control` is the connection of the stream.
    pub(super) async fn read(&mut self, log: &Arc<LogCopy>, control: &ControlConnection) -> Result<(), Lost> {
        match read(&mut self.here, log, control, &self.refusals, false).await {
            Err(lost) => match self.redirect(&lost) {
                Some(Redirect::Ask(address)) => self.read_there(log, address).await,
                _ => Err(lost),
            },
            Ok(()) => {
                self.there = None;
                Ok(())
            }
        }
    }

    /// The redirect in an error of this node.
    pub(super) fn redirect(&self, lost: &Lost) -> Option<Redirect> {
        match lost {
            Lost::Redis(error) => Redirect::of_error(error, self.node.place()?),
            _ => None,
        }
    }

    async fn read_there(&mut self, log: &Arc<LogCopy>, address: NodeAddress) -> Result<(), Lost> {
        let there = match self.there.take().filter(|there| there.address == address) {
            Some(there) => self.there.insert(there),
            None => {
                let control = ControlConnection::to(&address, &self.node.dialer.login).await?;
                self.there.insert(OtherSide { address, control, reader: None })
            }
        };
        read(&mut there.reader, log, &there.control, &self.refusals, true).await
    }
}

/// Reads on with a reader, or makes one.
async fn read(
    reader: &mut Option<LogReader>,
    log: &Arc<LogCopy>,
    control: &ControlConnection,
    refusals: &Arc<Refusals>,
    is_asking: bool,
) -> Result<(), Lost> {
    if let Some(reader) = reader {
        return answered(reader.read()).await;
    }
    let begun = async {
        LogReader::begin(log, LogConnection::begin(control.connection(), refusals, is_asking).await?).await
    };
    *reader = answered(begun).await?;
    Ok(())
}
