//! The state of a program at one moment, as operators see it.

use std::sync::Arc;
use std::time::SystemTime;

use server::ClientTotals;
use tokio::time::Instant;

use crate::acme::NameState;
use crate::reload::LoadedSettings;
use crate::way::Report;

/// The facts of the program, and the report of its proxy.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) report: Report,
    pub(super) clients: ClientTotals,
    /// The file of each certificate of the listeners, or its name if it was issued, and when the certificate expires, in seconds
    /// since 1970.
    pub(super) certificates: Vec<(String, i64)>,
    /// The state of each name whose certificate an authority issues.
    pub(super) issued: Vec<NameState>,
    pub(super) started: Started,
    pub(super) settings: Arc<LoadedSettings>,
    pub(super) is_last_reload_good: bool,
    /// Lines of the access log that could not be written.
    pub(super) log_lines_dropped: u64,
}

/// When the program started, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    pub(super) at: Instant,
    pub(super) time: SystemTime,
}

impl View {
    pub(super) const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    /// The revision of the source; empty if the build was not told.
    pub(super) const REVISION: &'static str = env!("CACHEPAGE_REVISION");
}
