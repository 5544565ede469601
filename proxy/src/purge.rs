//! Purges: the pages that they name, how they are written into the purge log, and the marks of a page by which they find it.
//!
//! The purge log is a list of purges in the store. Each page has a [`Stamp`]: the place in the log up to which the proxy had
//! read before it asked the origin for the page. A purge behind that place that names the page is newer than the page,
//! whatever was being filled, awaited or validated at the time.

mod notice;
mod order;
mod position;
mod record;
mod stamp;
mod tags;
mod target;

pub(crate) use notice::{Notice, Unfollowed};
pub(crate) use order::{Misread, PurgeOrder, is_order};
pub use position::PurgeId;
pub(crate) use position::{Epoch, Position};
pub(crate) use record::LogEntry;
pub use record::{LoggedPurge, Purge};
pub(crate) use stamp::{PurgeNames, Since, Stamp};
pub(crate) use tags::{Tags, invalidated_groups};
pub use target::{Target, TargetKind};
pub(crate) use target::{encoded, host_of, url_of};
