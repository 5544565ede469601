//! The lookup of a page in the store, and the effect of purges on a page that was found.
//!
//! Each hit from the store moves the future of its lookup a few times. So steps that few lookups take are boxed here.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use super::Proxy;
use crate::head_cache::Seen;
use crate::key::{Keys, PageId, VaryMarker};
use crate::near::{Kept, Ticket};
use crate::page::format::Base;
use crate::page::stored::StoredPage;
use crate::policy::Rule;
use crate::purge::url_of;
use crate::request::Question;
use crate::status::{Miss, Source};
use crate::store::{LogCopy, Store, StoreError, Values, Verdict};

/// The outcome of a lookup.
pub(super) enum Lookup {
    Hit(Found),
    /// The reason, and the marker under the page's key, if there is one.
    Miss(Miss, Option<Arc<VaryMarker>>),
}

/// A page that may answer the request, unless it is too stale.
pub(super) struct Found {
    pub(super) page: StoredPage,
    pub(super) source: Source,
    /// The marker under the page's key, if there is one.
    pub(super) marker: Option<Arc<VaryMarker>>,
    /// When a soft purge has ended it, in seconds since 1970.
    pub(super) ended: Option<u64>,
}

impl<S: Store> Proxy<S> {
    /// Looks for the page in the store.
    pub(super) async fn stored_page<V: Values>(
        &self,
        id: &PageId,
        rule: &Rule,
        question: &Question<'_>,
        began: Instant,
        values: &V,
    ) -> Lookup {
        let look = Look { proxy: self, rule, question, began, values };
        self.want_log(began);
        match look.page(id).await {
            Ok(lookup) => {
                let lookup = self.unpurged(lookup, began).await;
                if self.drops_for_django() {
                    Box::pin(self.drop_for_django(&lookup, id, rule, question)).await;
                }
                lookup
            }
            Err(error) => {
                debug!(key = %id.key(), %error, "not read");
                let miss = if error.is_outage() { Miss::Store } else { Miss::Unusable };
                Lookup::Miss(miss, None)
            }
        }
    }
}

/// The effect of purges on a page that was found.
impl<S: Store> Proxy<S> {
    /// A page of the near cache, if it certainly was not purged.
    pub(super) fn near_found(
        &self,
        page: StoredPage,
        marker: Option<Arc<VaryMarker>>,
        began: Instant,
    ) -> Option<Found> {
        let ended = match &self.log {
            None => None,
            Some(log) if !log.is_certain(began) => return None,
            Some(log) => match verdict(log, &page) {
                Verdict::Valid => None,
                // The look into the store deletes the page for Django.
                Verdict::Stale(_) if self.drops_for_django() => return None,
                Verdict::Stale(ended) => Some(ended),
                Verdict::Purged | Verdict::Ahead => return None,
            },
        };
        Some(Found { page, source: Source::Near, marker, ended })
    }

    /// Has the log read while the store is asked, unless the copy is recent enough.
    fn want_log(&self, began: Instant) {
        if let Some(log) = self.log.as_ref().filter(|log| !log.is_certain(began)) {
            log.want();
        }
    }

    /// Makes a miss of a page that was purged. If the log cannot be read, the result is that of a store that cannot be
    /// reached.
    async fn unpurged(&self, lookup: Lookup, began: Instant) -> Lookup {
        let Some(log) = &self.log else { return lookup };
        let deadline = began + self.log_patience;
        let (found, is_known) = match lookup {
            Lookup::Hit(found) => {
                let is_known =
                    |log: &LogCopy| log.is_certain(began) && verdict(log, &found.page) != Verdict::Ahead;
                let is_known = is_known(log) || log.until(deadline, is_known).await;
                (found, is_known)
            }
            Lookup::Miss(miss, marker) => {
                let is_known =
                    log.is_certain(began) || log.until(deadline, |log| log.is_certain(began)).await;
                return Lookup::Miss(if is_known { miss } else { Miss::Store }, marker);
            }
        };
        match verdict(log, &found.page) {
            _ if !is_known => Lookup::Miss(Miss::Store, found.marker),
            Verdict::Valid => Lookup::Hit(found),
            Verdict::Stale(ended) => Lookup::Hit(Found { ended: Some(ended), ..found }),
            Verdict::Purged | Verdict::Ahead => Lookup::Miss(Miss::Purged, found.marker),
        }
    }

    /// Deletes a purged page in a cache that Django shares. Django does not read the log, and would answer the next request of
    /// the proxy with the old page.
    async fn drop_for_django(&self, lookup: &Lookup, id: &PageId, rule: &Rule, question: &Question<'_>) {
        let marker = match lookup {
            Lookup::Miss(Miss::Purged, marker) => marker,
            Lookup::Hit(Found { ended: Some(_), marker, .. }) => marker,
            Lookup::Miss(..) | Lookup::Hit(_) => return,
        };
        let key = id.selected(marker.as_deref(), question, rule).key();
        if let Err(error) = self.store.delete(&[key]).await {
            debug!(%error, "a purged page is left to Django");
        }
    }

    /// Whether purged pages are deleted for a Django that shares the cache.
    fn drops_for_django(&self) -> bool {
        self.writes && matches!(self.keys, Keys::Django(_))
    }
}

fn verdict(log: &LogCopy, page: &StoredPage) -> Verdict {
    log.verdict(page.valid_at(), page.stamp(), || page.names())
}

/// One lookup in the store.
struct Look<'a, S, V> {
    proxy: &'a Proxy<S>,
    rule: &'a Rule,
    question: &'a Question<'a>,
    began: Instant,
    values: &'a V,
}

/// A variant that was read, and the marker that has selected it.
struct ReadVariant {
    marker: Arc<VaryMarker>,
    variant: PageId,
    value: Option<Bytes>,
    ticket: Option<Ticket>,
}

impl<S: Store, V: Values> Look<'_, S, V> {
    /// Reads the page. If there is none, reads the page for all queries with the same selecting parameters.
    async fn page(&self, id: &PageId) -> Result<Lookup, StoreError> {
        match self.page_under(id).await? {
            Lookup::Miss(Miss::Uri, None) => match id.of_path(self.rule) {
                Some(of_path) => Box::pin(async move { self.page_under(&of_path).await }).await,
                None => Ok(Lookup::Miss(Miss::Uri, None)),
            },
            found => Ok(found),
        }
    }

    /// Reads the page, or the marker of its variants and the variant. If the marker was seen before, both are read in one
    /// round trip.
    async fn page_under(&self, id: &PageId) -> Result<Lookup, StoreError> {
        let ticket = self.ticket(id);
        let seen = self.proxy.heads.get(id.key_text());
        let (base, mut guess) = self.base(id, seen.as_ref()).await?;
        let Some(base) = base else { return Ok(Lookup::Miss(Miss::Uri, None)) };
        match self.decoded(id, seen, &base) {
            Some(Kept::Page(page)) => Ok(self.found(id, Some(page), None, ticket).await),
            Some(Kept::Marker(marker)) => self.variant(id, marker, guess.as_mut(), ticket).await,
            None => Ok(Lookup::Miss(Miss::Unusable, None)),
        }
    }

    /// The page or marker in the value of a base key. `None` if the value is neither.
    fn decoded(&self, id: &PageId, seen: Option<Seen>, value: &Bytes) -> Option<Kept> {
        let heads = &self.proxy.heads;
        if let Some(seen) = seen {
            let page = seen.page(value).map(Kept::Page);
            if let Some(known) = page.or_else(|| seen.marker(value).map(Kept::Marker)) {
                return Some(known);
            }
        }
        match self.proxy.format.base(value) {
            Base::Marker(marker) => {
                let marker = Arc::new(marker);
                heads.keep_marker(id.key(), value, marker.clone());
                Some(Kept::Marker(marker))
            }
            Base::Page(entry) => {
                Some(Kept::Page(heads.keep_head(&id.key(), value, entry, &self.proxy.format)))
            }
            Base::Unusable => None,
        }
    }

    /// Reads the base key, and with it the variant that the last seen marker selects.
    async fn base(
        &self,
        id: &PageId,
        seen: Option<&Seen>,
    ) -> Result<(Option<Bytes>, Option<ReadVariant>), StoreError> {
        let Some(Seen::Marker(seen)) = seen else {
            return self.values.get([id.key_text()]).await.map(|[base]| (base, None));
        };
        let marker = &seen.marker;
        let variant = id.variant(marker, self.question, self.rule);
        let ticket = self.ticket(&variant);
        let [base, value] = self.values.get([id.key_text(), variant.key_text()]).await?;
        Ok((base, Some(ReadVariant { marker: marker.clone(), variant, value, ticket })))
    }

    /// The variant of a page whose marker was read. `guess` is the variant that the last seen marker selects.
    async fn variant(
        &self,
        id: &PageId,
        marker: Arc<VaryMarker>,
        guess: Option<&mut ReadVariant>,
        ticket: Option<Ticket>,
    ) -> Result<Lookup, StoreError> {
        self.keep(id, || Kept::Marker(marker.clone()), ticket).await;
        let mut read;
        let ReadVariant { variant, value, ticket, .. } = match guess.filter(|guess| guess.marker == marker) {
            Some(guess) => guess,
            None => {
                read = Box::pin(self.read_variant(id, marker.clone())).await?;
                &mut read
            }
        };
        let Some(value) = value.take() else {
            let miss = if marker.has_headers() { Miss::Vary } else { Miss::Uri };
            return Ok(Lookup::Miss(miss, Some(marker)));
        };
        let page = self.page_of_variant(variant, &value);
        Ok(self.found(variant, page, Some(marker), *ticket).await)
    }

    /// Reads the variant that a marker selects.
    async fn read_variant(
        &self,
        id: &PageId,
        marker: Arc<VaryMarker>,
    ) -> Result<Box<ReadVariant>, StoreError> {
        let variant = id.variant(&marker, self.question, self.rule);
        let ticket = self.ticket(&variant);
        let [value] = self.values.get([variant.key_text()]).await?;
        Ok(Box::new(ReadVariant { marker, variant, value, ticket }))
    }

    fn page_of_variant(&self, variant: &PageId, value: &Bytes) -> Option<StoredPage> {
        let seen = self.proxy.heads.get(variant.key_text());
        seen.and_then(|seen| seen.page(value)).or_else(|| {
            let mut entry = self.proxy.format.decode(value)?;
            // Django adds these headers on each hit. The proxy's own entries have them.
            if entry.proof.is_none() {
                variant.add_language(&mut entry.headers);
                if let Some(stamp) = &mut entry.stamp {
                    stamp.url = url_of(self.question).into();
                }
            }
            Some(self.proxy.heads.keep_head(&variant.key(), value, entry, &self.proxy.format))
        })
    }

    /// A hit, if the page can be decoded, was stored for this very request, and may be served to this client.
    async fn found(
        &self,
        id: &PageId,
        page: Option<StoredPage>,
        marker: Option<Arc<VaryMarker>>,
        ticket: Option<Ticket>,
    ) -> Lookup {
        let serves = |page: &StoredPage| id.serves(page.proof(), page.headers(), self.question, self.rule);
        match page.filter(serves) {
            Some(page) => {
                self.keep(id, || Kept::Page(page.clone()), ticket).await;
                Lookup::Hit(Found { page, source: Source::Store, marker, ended: None })
            }
            None => Lookup::Miss(Miss::Unusable, marker),
        }
    }

    fn ticket(&self, id: &PageId) -> Option<Ticket> {
        let node = || self.proxy.store.node_of(id.key_text());
        self.proxy.near.as_ref()?.ticket(id.key_text(), self.began, node)
    }

    /// Puts a page or marker that was read into the near cache, until the store's own entry ends. The expiry in the value does
    /// not count: it comes from another proxy's clock, and somebody may have changed the store's ttl by hand.
    async fn keep(&self, id: &PageId, kept: impl FnOnce() -> Kept, ticket: Option<Ticket>) {
        let (Some(near), Some(ticket)) = (&self.proxy.near, ticket) else { return };
        let before = Instant::now();
        if let Ok(Some(ttl)) = Box::pin(self.values.ttl(id.key_text())).await {
            near.keep(&id.key(), kept(), before + ttl, ticket);
        }
    }
}
