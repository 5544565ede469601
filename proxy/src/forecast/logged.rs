//! A request, as a line of an access log describes it.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

use super::{combined, json};

/// A request in a log.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Logged<'a> {
    pub(super) time: Timestamp,
    /// The client's address or name.
    pub(super) client: Cow<'a, str>,
    pub(super) method: Cow<'a, str>,
    /// The Host; empty if the log does not have it.
    pub(super) host: Cow<'a, str>,
    /// Path and query.
    pub(super) target: Cow<'a, str>,
    pub(super) status: u16,
    /// The length of the body.
    pub(super) bytes: u64,
    /// How long the origin took for the answer, if the origin made it and the log has the time.
    pub(super) cost: Option<Duration>,
    /// Whether the line shows that the answer is for one visitor.
    pub(super) is_personal: bool,
}

impl<'a> Logged<'a> {
    /// Reads a line: JSON if it begins with a brace, combined otherwise. `None` if it is no line of an access log.
    pub(super) fn of(line: &'a str) -> Option<Self> {
        if line.starts_with('{') { json::logged(line) } else { combined::logged(line) }
    }

    /// The path, without the query.
    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    /// Whether a cache could have kept the answer: it is whole and good. A 304 says that the client has the page.
    pub(super) fn is_page(&self) -> bool {
        matches!(self.status, 200 | 304)
    }
}

/// The path and query of a request target, which may be a whole URL.
pub(super) fn path_and_query(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let (_, rest) = target.split_once("://")?;
    Some(rest.find('/').map_or("/", |at| &rest[at..]))
}

/// A host without the usual ports, as clients send it.
pub(super) fn without_usual_port(host: &str) -> &str {
    host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).unwrap_or(host)
}
