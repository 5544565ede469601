//! Requests that found their page, known again by their words: what they ask for is not worked out again.
//!
//! The way is the same but for its ends: the words are compared and not parsed, and the head of the answer is put together
//! here and not by hyper. All that lies between (lookup, freshness, refresh) is done for each request, and what is not
//! answered here goes the ordinary way, with what was found.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use server::{Answer, Ordinary, PerWorker, Recalled, is_one_head};
use tokio::time::Instant;
use tracing::debug;

use super::{Lookup, Proxy, Wanted, now};
use crate::key::Page;
use crate::store::Store;

/// For each worker, in bytes: some thousands of requests.
const LIMIT: u64 = 8 << 20;

/// Requests by their words. Each worker has its own: to count references to one that all share would cost more.
#[derive(Debug)]
pub(super) struct Requests(PerWorker<Mutex<Cache<Bytes, Arc<Asked>, ByBytes>>>);

/// A request that found its page.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) words: Bytes,
    pub(super) request: Parts,
    pub(super) page: Page,
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<Bytes, Arc<Asked>> for ByBytes {
    fn weight(&self, words: &Bytes, asked: &Arc<Asked>) -> u64 {
        /// About what the cache itself keeps, and a map of headers for each line.
        const OVERHEAD: usize = 256;
        const LINE: usize = 64;
        let key = asked.page.key.as_bytes().len();
        (2 * words.len() + key + asked.request.headers.len() * LINE + size_of::<Asked>() + OVERHEAD) as u64
    }
}

/// How a request has begun.
#[derive(Clone)]
pub(super) enum Begun {
    /// In words that are not known.
    Words(Bytes),
    /// In known ones: when it was looked up, and what was found.
    Looked(Instant, Lookup),
    Apart,
}

impl Begun {
    /// Takes it out of a request.
    pub(super) fn take(request: &mut Parts) -> Self {
        request.extensions.remove().unwrap_or(Self::Apart)
    }

    /// Has a request go on in the ordinary way.
    fn ordinary(self, words: Bytes) -> Ordinary {
        let mut extensions = Extensions::new();
        extensions.insert(self);
        Ordinary { words, extensions }
    }
}

/// Whether nothing sets a request apart from others in the same words, as far as its connection is concerned.
pub(super) fn is_plain(request: &Parts) -> bool {
    let headers = &request.headers;
    let keeps = |value: &[u8]| value.eq_ignore_ascii_case(b"keep-alive");
    request.method == Method::GET
        && request.version == Version::HTTP_11
        && headers.get_all(CONNECTION).iter().all(|value| keeps(value.as_bytes()))
        && [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].iter().all(|name| !headers.contains_key(name))
}

impl Requests {
    pub(super) fn new() -> Self {
        /// Only the size of the first table.
        const TYPICAL: usize = 1024;
        Self(PerWorker::new(|_| Mutex::new(Cache::with_weighter(TYPICAL, LIMIT, ByBytes))))
    }

    /// The request in these words, or how one goes on that is not known.
    pub(super) fn get(&self, words: &[u8]) -> Result<Arc<Asked>, Ordinary> {
        let requests = self.0.own().lock().unwrap_or_else(PoisonError::into_inner);
        requests.get(words).cloned().ok_or_else(|| {
            let (words, is_one) = (Bytes::copy_from_slice(words), is_one_head(words));
            if is_one { Begun::Words(words.clone()) } else { Begun::Apart }.ordinary(words)
        })
    }

    pub(super) fn remember(&self, asked: Asked) {
        let mut requests = self.0.own().lock().unwrap_or_else(PoisonError::into_inner);
        requests.insert(asked.words.clone(), Arc::new(asked));
    }
}

impl<S: Store> Proxy<S> {
    /// Answers a request with its page, if it is known and that may be served at once.
    pub(super) fn again(self: &Arc<Self>, words: &[u8], peer: SocketAddr, asked: Instant) -> Recalled<'_> {
        if self.trusted.contains(peer.ip()) {
            // What it says of others is for itself alone.
            return Recalled::Ordinary(Begun::Apart.ordinary(Bytes::copy_from_slice(words)));
        }
        let known = match self.requests.get(words) {
            Ok(known) => known,
            Err(ordinary) => return Recalled::Ordinary(ordinary),
        };
        match self.near_page(&known.page, &known.request, asked) {
            Some(lookup) => match self.answer(&known, lookup, peer, asked) {
                Ok(answer) => Recalled::Answer(answer),
                Err(ordinary) => Recalled::Ordinary(ordinary),
            },
            // In a box, which an idle connection has not.
            None => Recalled::Later(Box::pin(async move {
                let lookup = self.stored_page(&known.page, &known.request, asked).await;
                self.answer(&known, lookup, peer, asked)
            })),
        }
    }

    /// The answer to a known request for which this was found, or how it goes on.
    fn answer(
        self: &Arc<Self>,
        known: &Asked,
        lookup: Lookup,
        peer: SocketAddr,
        asked: Instant,
    ) -> Result<Answer, Ordinary> {
        let Asked { words, request, page } = known;
        if let Lookup::Hit(ready, source, _) = &lookup
            && ready.head.status == StatusCode::OK
        {
            let (now, (miss, marker)) = (now(), lookup.parts());
            if let Some(hit) = self.may_serve(ready, Wanted { page, request, peer, miss, marker, asked }, now)
            {
                debug!(request = %request.uri, "answered again");
                return Ok(ready.answer(now, hit, *source));
            }
        }
        Err(Begun::Looked(asked, lookup).ordinary(words.clone()))
    }
}
