//! A fill relays the origin's body to the client as it arrives, captures it, and puts it into the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::ext::ReasonPhrase;
use hyper::header::{ETAG, HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use server::Seldom;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::body::Client;
use super::capture::Capture;
use super::compress::CompressionPool;
use super::fills::FillEnd;
use crate::key::Key;
use crate::origin::{BodyError, Download};
use crate::page::entry::{Entry, Version};
use crate::page::etag::add_etag;
use crate::page::format::Format;
use crate::page::forms::Forms;
use crate::policy::Length;
use crate::purge::{PurgeNames, Stamp};
use crate::request::{Coding, receive};
use crate::store::{LogCopy, Store, Verdict, Write};

/// Where a page will be stored, and for how long.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) key: Key,
    pub(crate) format: Arc<Format>,
    /// The proof of the request that the page is stored for (see [`crate::key`]).
    pub(crate) proof: Bytes,
    /// The writes of its marker, which come before the page.
    pub(crate) markers: Vec<Write>,
    /// The page that it is a variant of, if headers select among variants.
    pub(crate) variants: Option<Key>,
    /// The key of its old place, where it must not be found any more.
    pub(crate) left: Option<Key>,
    pub(crate) notes: Notes,
    /// The stamp; `None` if purging is off.
    pub(crate) stamp: Option<Stamp>,
}

/// The metadata that is stored with a page.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    /// When it stops being fresh, in seconds since 1970.
    pub(crate) expires: u64,
    /// How long it is stored.
    pub(crate) keep: Duration,
    /// When it was made, in seconds since 1970, if that is known.
    pub(crate) born: Option<i64>,
    /// The version of a page of HTTP's policy.
    pub(crate) version: Option<Version>,
    /// How long the origin took to make it; zero unless the rule has `early_refresh`.
    pub(crate) cost: Duration,
    /// The headers that are left out of the stored page.
    pub(crate) without: Vec<HeaderName>,
}

impl Plan {
    /// Whether the page is selected by other headers or parameters than before.
    pub(crate) fn has_new_marker(&self) -> bool {
        self.markers.iter().any(|write| matches!(write, Write::Set(..)))
    }

    /// The entry of an answer.
    pub(crate) fn entry(&self, mut head: Parts, body: Bytes, forms: Forms) -> Entry {
        let Notes { expires, born, version, cost, without, .. } = &self.notes;
        receive::retain(&mut head.headers, |name| !without.contains(name));
        copy_values(&mut head.headers);
        Entry {
            status: head.status,
            headers: head.headers,
            reason: head.extensions.remove::<ReasonPhrase>().as_ref().and_then(copy_reason),
            body,
            forms,
            expires: Some(*expires),
            born: *born,
            version: *version,
            cost: *cost,
            proof: Some(self.proof.clone()),
            stamp: self.stamp.clone().map(Box::new),
        }
    }
}

/// Copies header values out of the connection's read buffer. A stored page would otherwise hold that whole buffer, which has
/// room for a body.
fn copy_values(headers: &mut HeaderMap) {
    let texts: Vec<&[u8]> = headers.values().map(HeaderValue::as_bytes).collect();
    let mut text = Bytes::from(texts.concat());
    for value in headers.values_mut() {
        if let Ok(copy) = HeaderValue::from_maybe_shared(text.split_to(value.len())) {
            *value = copy;
        }
    }
}

/// Copies the reason phrase, as [`copy_values`] copies values.
fn copy_reason(reason: &ReasonPhrase) -> Option<ReasonPhrase> {
    ReasonPhrase::try_from(reason.as_bytes()).ok()
}

impl FillOutcome {
    pub(crate) fn end(&self) -> FillEnd {
        match self {
            Self::Whole(_, end) => *end,
            Self::TooLarge => FillEnd::TooLarge,
            Self::NoRoom => FillEnd::NoRoom,
            Self::Broken => FillEnd::CutShort,
        }
    }
}

/// The outcome of a fill.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is matched where it is made, and not stored")]
pub(crate) enum FillOutcome {
    /// The complete page, and what became of it.
    Whole(Entry, FillEnd),
    /// Larger than the limit: relayed to the client, and not stored.
    TooLarge,
    /// Too many pages are being captured at the moment: relayed to the client, and not stored.
    NoRoom,
    /// The origin's body broke off, or the client of a page beyond the limit left.
    Broken,
}

/// A page that is being filled.
pub(crate) struct Filling<S> {
    /// `None` if the store cannot be reached.
    pub(crate) store: Option<S>,
    pub(crate) plan: Plan,
    pub(crate) log: Option<Arc<LogCopy>>,
    pub(crate) head: Parts,
    pub(crate) body: Download,
    pub(crate) length: Length,
    pub(crate) limit: u64,
    /// The codings in which the page is stored, besides the form in which it came.
    pub(crate) codings: Vec<Coding>,
    pub(crate) compressor: CompressionPool,
    pub(crate) client: Client,
    /// Whether the page gets Django's `ETag`.
    pub(crate) gets_etag: bool,
    /// The head of the answer waits at the other end until the page is complete, if it must.
    pub(crate) whole: Option<oneshot::Sender<WholePage>>,
    /// The faults of the origin, for the log.
    pub(crate) faults: Arc<Seldom>,
}

/// The facts that are known once a page is complete.
#[derive(Debug)]
pub(crate) struct WholePage {
    pub(crate) length: u64,
    /// The `ETag` that it was given.
    pub(crate) etag: Option<HeaderValue>,
}

/// Why a fill stopped before the page's end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("the origin: {0}")]
    Origin(#[from] BodyError),
    #[error("the client left")]
    Client,
}

impl<S: Store> Filling<S> {
    /// Relays the page to the client and puts it into the store. If the client leaves, the page is still stored. The
    /// client gets the last part after the store has answered, so that its next request for the page is a hit.
    pub(crate) async fn run(mut self: Box<Self>, capture: Capture) -> FillOutcome {
        let mut capture = Ok(capture);
        let last = match self.pump(&mut capture).await {
            Ok(last) => last,
            Err(stopped) => {
                match stopped {
                    // The client's end is dropped without `End`, so the client sees that the transfer broke.
                    Stopped::Origin(error) => {
                        if let Some(left_out) = self.faults.turn("broke-off") {
                            warn!(key = %self.plan.key, %error, stored = false, left_out, "origin broke off");
                        }
                    }
                    Stopped::Client => debug!(key = %self.plan.key, stored = false, "client left"),
                }
                return FillOutcome::Broken;
            }
        };
        let filled = match capture {
            Ok(capture) => {
                let (body, _place) = capture.whole();
                self.complete(&body);
                let Self { store, plan, log, head, limit, codings, compressor, .. } = *self;
                let forms = compressor.forms(codings, &body, limit).await;
                let entry = plan.entry(head, body, forms);
                let (entry, end) = plan.store(entry, store, log).await;
                FillOutcome::Whole(entry, end)
            }
            Err(not_captured) => not_captured,
        };
        if let Some(data) = last {
            self.client.send(data).await;
        }
        self.client.end();
        filled
    }

    /// Relays the body, except the last part if the announced length shows which part is the last. Returns that part.
    async fn pump(&mut self, capture: &mut Result<Capture, FillOutcome>) -> Result<Option<Bytes>, Stopped> {
        let mut left = self.length.known();
        if left == Some(0) {
            return Ok(None);
        }
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if let Ok(captured) = capture
                && let Some(outcome) = self.end_of_capture(captured, &data)
            {
                debug!(key = %self.plan.key, stored = false, ?outcome, "not captured");
                // The head must not wait for the end of a page that does not fit into the client's window.
                self.whole = None;
                *capture = Err(outcome);
            }
            if capture.as_ref().is_ok_and(|captured| captured.len() > self.client.window()) {
                // The rest comes only as fast as the client reads, so the head must not wait for it.
                self.whole = None;
            }
            left = left.map(|left| left.saturating_sub(data.len() as u64));
            if left == Some(0) {
                return Ok(Some(data));
            }
            if !self.client.send(data).await && capture.is_err() {
                return Err(Stopped::Client);
            }
        }
        Ok(None)
    }

    /// Adds the page's `ETag`, and tells the client's side that the page is complete.
    fn complete(&mut self, body: &[u8]) {
        let headers = &mut self.head.headers;
        if self.gets_etag {
            add_etag(headers, body);
        }
        if let Some(whole) = self.whole.take() {
            let etag = headers.get(ETAG).filter(|_| self.gets_etag).cloned();
            // If this fails, the client has left.
            let _ = whole.send(WholePage { length: body.len() as u64, etag });
        }
    }

    /// Captures data. Returns the outcome of the fill if the page cannot be stored any more.
    fn end_of_capture(&self, capture: &mut Capture, data: &Bytes) -> Option<FillOutcome> {
        if capture.len() + data.len() as u64 > self.limit {
            return Some(FillOutcome::TooLarge);
        }
        (!capture.add(data)).then_some(FillOutcome::NoRoom)
    }
}

impl Plan {
    /// Puts the page into the store, within the store's deadline. If that fails, the page is not stored, and nothing else
    /// happens.
    async fn store<S: Store>(
        self,
        entry: Entry,
        store: Option<S>,
        log: Option<Arc<LogCopy>>,
    ) -> (Entry, FillEnd) {
        let Self { key, format, markers, left, notes, .. } = self;
        let Some(store) = store else { return (entry, FillEnd::Failed) };
        if log.is_some_and(|log| is_purged(&log, &entry)) {
            debug!(%key, stored = false, "purged meanwhile");
            return (entry, FillEnd::Purged);
        }
        // From here on the page is in memory only once: the captured body is dropped, or becomes the value.
        let (value, entry) = format.encode_in_place(entry);
        let Some(value) = value else {
            debug!(%key, stored = false, "the format cannot hold it");
            return (entry, FillEnd::Failed);
        };
        let writes = markers.into_iter().chain([Write::Set(key.clone(), value)]).collect();
        let has_left = match left {
            Some(left) => store.delete(&[left]).await,
            None => Ok(()),
        };
        let stored = match has_left {
            Ok(()) => store.put(writes, notes.keep).await,
            failed => failed,
        };
        match stored {
            Ok(()) => {
                debug!(%key, stored = true, "filled");
                (entry, FillEnd::Stored)
            }
            // The store itself warns once of an outage, and once of each kind of refusal.
            Err(error) => {
                debug!(%key, %error, stored = false, "page not stored");
                (entry, FillEnd::Failed)
            }
        }
    }
}

/// Whether a page may have been purged while it was on its way. In the store it would only take the place of a newer page.
pub(super) fn is_purged(log: &LogCopy, entry: &Entry) -> bool {
    // This process made its stamp. While a lost log is read anew, the copy may be behind the stamp.
    log.judge(entry.stamp.as_deref(), || PurgeNames::of(&entry.headers)) != Verdict::Valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_values_are_equal_and_do_not_hold_the_buffer_that_was_read() {
        let buffer = Bytes::from(b"nameletter and a long body".to_vec());
        let mut headers = HeaderMap::new();
        for (name, range) in [("a", 0..4), ("a", 4..10), ("b", 0..0)] {
            let value = HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        let before = headers.clone();
        copy_values(&mut headers);
        assert_eq!(headers, before);
        drop(before);
        assert!(buffer.is_unique());
    }
}
