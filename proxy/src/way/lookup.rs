//! Where a page is looked for: near, then in the store.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use tokio::time::Instant;
use tracing::debug;

use super::Proxy;
use crate::config::Config;
use crate::head_cache::Seen;
use crate::key::{Marker, Page};
use crate::near::{Kept, Near, Ticket};
use crate::page::entry::Ready;
use crate::page::format::Base;
use crate::policy::Coalesce;
use crate::status::{Miss, Source};
use crate::store::{Store, StoreError};

/// What the store holds for a request.
#[derive(Clone)]
pub(super) enum Lookup {
    /// And the page's marker, if it has one, in both cases.
    Hit(Ready, Source, Option<Arc<Marker>>),
    Miss(Miss, Option<Arc<Marker>>),
}

impl Lookup {
    /// Why the page is to be had from the origin, if it is, and its marker.
    pub(super) fn parts(&self) -> (Miss, Option<&Arc<Marker>>) {
        match self {
            Self::Hit(_, _, marker) => (Miss::Stale, marker.as_ref()),
            Self::Miss(miss, marker) => (*miss, marker.as_ref()),
        }
    }
}

impl<S: Store> Proxy<S> {
    /// Looks for the page near, then in the store.
    pub(super) async fn lookup(&self, page: &Page, request: &Parts, asked: Instant) -> Lookup {
        match self.near_page(page, request, asked) {
            Some(lookup) => lookup,
            None => self.stored_page(page, request, asked).await,
        }
    }

    /// Looks for the page in the store.
    pub(super) async fn stored_page(&self, page: &Page, request: &Parts, asked: Instant) -> Lookup {
        match self.try_lookup(page, request, asked).await {
            Ok(lookup) => lookup,
            Err(error) => {
                debug!(key = %page.key, %error, "not read");
                let miss = if error.is_outage() { Miss::Store } else { Miss::Unusable };
                Lookup::Miss(miss, None)
            }
        }
    }

    /// A hit near, if there is one.
    pub(super) fn near_page(&self, page: &Page, request: &Parts, asked: Instant) -> Option<Lookup> {
        let near = self.near.as_ref()?;
        let hit = |page: &Page, ready: Ready, marker| {
            page.serves(ready.proved(), request).then_some(Lookup::Hit(ready, Source::Near, marker))
        };
        let marker = match near.get(&page.key, asked)? {
            Kept::Page(ready) => return hit(page, ready, None),
            Kept::Marker(marker) => marker,
        };
        let variant = page.variant(&marker, &request.headers);
        match near.get(&variant.key, asked)? {
            Kept::Page(ready) => hit(&variant, ready, Some(marker)),
            Kept::Marker(_) => None,
        }
    }

    /// Reads the page, or the marker of its variants and the variant: both in one round trip if the marker is known.
    async fn try_lookup(&self, page: &Page, request: &Parts, asked: Instant) -> Result<Lookup, StoreError> {
        let ticket = self.ticket(page, asked);
        let seen = self.known.get(&page.key);
        let guess = match &seen {
            Some(Seen::Marker(marker)) => Some((marker, page.variant(marker, &request.headers))),
            _ => None,
        };
        let (base, guessed) = match &guess {
            None => self.store.get([&page.key]).await.map(|[base]| (base, None))?,
            Some((_, variant)) => {
                let ticket = self.ticket(variant, asked);
                let [base, value] = self.store.get([&page.key, &variant.key]).await?;
                (base, Some((value, ticket)))
            }
        };
        let Some(base) = base else { return Ok(Lookup::Miss(Miss::Uri, None)) };
        if let Some(ready) = known_page(seen.as_ref(), &base) {
            return Ok(self.serve(page, Some(ready), request, None, ticket).await);
        }
        let marker = match self.format.base(&base) {
            Base::Marker(marker) => Arc::new(marker),
            Base::Page(entry) => {
                let ready = self.known.remember_page(&page.key, &base, entry, &self.format);
                return Ok(self.serve(page, Some(ready), request, None, ticket).await);
            }
            Base::Unusable => return Ok(Lookup::Miss(Miss::Unusable, None)),
        };
        self.keep(page, || Kept::Marker(marker.clone()), ticket).await;
        let is_guess = guess.as_ref().is_some_and(|(guess, _)| **guess == marker);
        let variant = page.variant(&marker, &request.headers);
        let (value, ticket) = match guessed.filter(|_| is_guess) {
            Some(read) => read,
            None => {
                self.known.remember_marker(page.key.clone(), marker.clone());
                let ticket = self.ticket(&variant, asked);
                self.store.get([&variant.key]).await.map(|[value]| (value, ticket))?
            }
        };
        let Some(value) = value else { return Ok(Lookup::Miss(Miss::Vary, Some(marker))) };
        let ready = self.variant_page(&variant, &value);
        Ok(self.serve(&variant, ready, request, Some(marker), ticket).await)
    }

    fn variant_page(&self, variant: &Page, value: &Bytes) -> Option<Ready> {
        known_page(self.known.get(&variant.key).as_ref(), value).or_else(|| {
            let mut entry = self.format.decode(value)?;
            variant.complete(&mut entry);
            Some(self.known.remember_page(&variant.key, value, entry, &self.format))
        })
    }

    /// A stored page as a hit, if it can be read, was stored for this very request, and may go to this client.
    async fn serve(
        &self,
        page: &Page,
        ready: Option<Ready>,
        request: &Parts,
        marker: Option<Arc<Marker>>,
        ticket: Option<Ticket>,
    ) -> Lookup {
        match ready.filter(|ready| page.serves(ready.proved(), request)) {
            Some(ready) => {
                self.keep(page, || Kept::Page(ready.clone()), ticket).await;
                Lookup::Hit(ready, Source::Store, marker)
            }
            None => Lookup::Miss(Miss::Unusable, marker),
        }
    }

    fn ticket(&self, page: &Page, asked: Instant) -> Option<Ticket> {
        self.near.as_ref()?.ticket(&page.key, asked)
    }

    /// Keeps near what was read, for as long as the store says that it has it: what the value itself says of that came
    /// from another's clock, and may have been changed by hand.
    async fn keep(&self, page: &Page, kept: impl FnOnce() -> Kept, ticket: Option<Ticket>) {
        let (Some(near), Some(ticket)) = (&self.near, ticket) else { return };
        let before = Instant::now();
        if let Ok(Some(ttl)) = self.store.ttl(&page.key).await {
            near.keep(&page.key, kept(), before + ttl, ticket);
        }
    }
}

/// Hears of the store's changes, if there is any use for that; with the near cache, if there is to be one.
pub(super) fn follow<S: Store>(store: &S, config: &Config) -> Option<Arc<Near>> {
    let in_fleet = config.rules.iter().any(|rule| rule.coalesce == Coalesce::Fleet);
    (in_fleet || config.near.is_some()).then(|| store.follow(&config.keys.prefix(), config.near))?
}

/// The page of a value whose head is the last seen.
fn known_page(seen: Option<&Seen>, value: &Bytes) -> Option<Ready> {
    match seen {
        Some(Seen::Head(text)) => text.page(value),
        _ => None,
    }
}
