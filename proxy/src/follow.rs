//! Databases that are followed: each one notifies a channel of the pages that its changes make old, and those pages are
//! purged.
//!
//! * A notification comes when its transaction has committed. A page that was asked for before the commit is purged, too.
//! * While the connection is lost, changes are not heard of. Pages are then served only for the time of `on_loss`.
//! * When the connection is back, every page is purged before pages are served as usual, since the changes of that time are
//!   not known.

mod followed;
mod notification;
mod subscription;
mod tls;

use std::fmt;
use std::time::Duration;

use bb8_postgres::tokio_postgres;

pub(crate) use followed::{FollowState, Followed, Hearing};
pub(crate) use notification::Notification;
pub(crate) use subscription::{Subscription, Unheard};
pub(crate) use tls::{DatabaseTls, Trust};

/// A database to follow.
#[derive(Clone, PartialEq)]
pub struct Follow {
    /// How to connect to it.
    pub database: tokio_postgres::Config,
    /// Makes TLS of its connections.
    pub(crate) tls: DatabaseTls,
    /// The channel that it notifies.
    pub channel: String,
    /// How long pages are served while its changes are not heard of.
    pub on_loss: OnLoss,
}

/// How long pages are served while the connection is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnLoss {
    /// Pages are served for this time after the loss, or after they were stored if that is later.
    Serve(Duration),
    /// Pages are served as usual. Changes of that time are not purged afterwards.
    Ignore,
}

/// The database and the channel, without the user and the password.
impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use tokio_postgres::config::Host;
        let host = match self.database.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => String::new(),
        };
        let port = self.database.get_ports().first().copied().unwrap_or(5432);
        let name = self.database.get_dbname().or(self.database.get_user()).unwrap_or_default();
        write!(f, "{host}:{port}/{name}, channel {}", self.channel)
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, {:?}", self.on_loss)
    }
}
