//! A fill: the origin's body goes to the client as it comes, and is captured on the way into the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::ext::ReasonPhrase;
use hyper::http::response::Parts;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::body::{Body, BodyError, Filled, Piece, Relay};
use crate::entry::{Entry, unix_seconds};
use crate::format::Format;
use crate::key::Key;
use crate::policy::Length;
use crate::status::{CacheStatus, Fill, Miss};
use crate::store::{Store, Write};
use crate::upstream::Fetched;

/// Where a page will be stored, and for how long.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) key: Key,
    pub(crate) format: Arc<Format>,
    /// That the page was stored for this very request (see [`crate::key`]).
    pub(crate) proof: Bytes,
    /// What goes before the page: its marker, new or extended.
    pub(crate) marker: Option<Write>,
    pub(crate) lifetime: Lifetime,
}

/// How long a page is stored, from when on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) ttl: Duration,
    pub(crate) now: SystemTime,
}

impl Lifetime {
    fn end(self) -> u64 {
        unix_seconds(self.now).saturating_add(self.ttl.as_secs())
    }
}

/// Answers with the origin's page while a task stores it. The client's last piece waits for the store, so that who
/// has seen the page's end and asks again gets a hit.
pub(crate) fn fill<S: Store>(
    store: S,
    plan: Plan,
    fetched: Fetched,
    miss: Miss,
    limit: u64,
) -> Response<Body> {
    let (promise, length) = match fetched.length {
        Length::Known(length) => (Fill::Stored, Some(length)),
        Length::Chunked | Length::UntilClose => (Fill::Streamed, None),
    };
    let (pieces, filled) = Filled::new(length);
    let mut response = Response::from_parts(fetched.head.clone(), Body::Filled(filled));
    CacheStatus::Miss(miss, promise).apply(response.headers_mut());
    let capture = Some(BytesMut::with_capacity(usize::try_from(length.unwrap_or(0)).unwrap_or(0)));
    let filling =
        Filling { store, plan, head: fetched.head, body: fetched.body, length, capture, limit, pieces };
    tokio::spawn(filling.run());
    response
}

struct Filling<S> {
    store: S,
    plan: Plan,
    head: Parts,
    body: Relay,
    length: Option<u64>,
    /// What has come so far; `None` once it is more than the limit.
    capture: Option<BytesMut>,
    limit: u64,
    pieces: mpsc::Sender<Piece>,
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
    async fn run(mut self) {
        match self.pump().await {
            // The client's end is dropped without its `End`: it sees a broken transfer.
            Err(Stopped::Origin(error)) => {
                warn!(key = %self.plan.key, %error, stored = false, "origin broke off")
            }
            Err(Stopped::Client) => debug!(key = %self.plan.key, stored = false, "client left"),
            Ok(last) => {
                if let Some(body) = self.capture.take() {
                    self.store(body.freeze()).await;
                }
                for piece in last.map(Piece::Data).into_iter().chain([Piece::End]) {
                    // A client that left now has its page stored all the same.
                    let _ = self.pieces.send(piece).await;
                }
            }
        }
    }

    /// Hands on piece after piece. Gives back the last one, if the announced length tells that it is the last.
    async fn pump(&mut self) -> Result<Option<Bytes>, Stopped> {
        let mut left = self.length;
        if left == Some(0) {
            return Ok(None);
        }
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            self.capture(&data);
            left = left.map(|left| left.saturating_sub(data.len() as u64));
            if left == Some(0) {
                return Ok(Some(data));
            }
            self.pieces.send(Piece::Data(data)).await.map_err(|_| Stopped::Client)?;
        }
        Ok(None)
    }

    fn capture(&mut self, data: &Bytes) {
        let Some(capture) = &mut self.capture else { return };
        if (capture.len() + data.len()) as u64 > self.limit {
            debug!(key = %self.plan.key, stored = false, "larger than max_entry");
            self.capture = None;
        } else {
            capture.extend_from_slice(data);
        }
    }

    /// Puts the page. Within the store's deadline in any case, and a failure is only a page not stored.
    async fn store(&mut self, body: Bytes) {
        let Plan { key, format, proof, marker, lifetime } = &mut self.plan;
        let entry = Entry {
            status: self.head.status,
            headers: std::mem::take(&mut self.head.headers),
            reason: self.head.extensions.remove::<ReasonPhrase>(),
            body,
            expires: Some(lifetime.end()),
            proof: Some(proof.clone()),
        };
        let Some(value) = format.encode(&entry) else {
            return debug!(%key, stored = false, "the format cannot hold it");
        };
        let writes = marker.take().into_iter().chain([Write::Set(key.clone(), value)]).collect();
        match self.store.put(writes, lifetime.ttl).await {
            Ok(()) => debug!(%key, stored = true, "filled"),
            Err(error) => warn!(%key, %error, stored = false, "page not stored"),
        }
    }
}
