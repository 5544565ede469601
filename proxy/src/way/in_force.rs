//! The proxy with the settings in force. A request takes it at its beginning, and keeps it to its end.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::{Request, Response};
use server::{Answer, Decided, Peer, Refused, RequestHead};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Proxy;
use super::answered::Answered;
use super::body::Body;
use super::decide::PendingLookup;
use super::plain::Early;
use crate::page::stored::PageBytes;
use crate::store::Store;

/// The proxy that new requests take. It is replaced as a whole, so that no request sees old settings beside new ones.
#[derive(Debug)]
pub struct InForce<S> {
    proxy: ArcSwap<Proxy<S>>,
    /// Signalled when the proxy was replaced.
    replaced: Notify,
}

impl<S> InForce<S> {
    /// Puts a proxy in force as the program starts.
    pub fn new(proxy: Proxy<S>) -> Self {
        Self { proxy: ArcSwap::from_pointee(proxy), replaced: Notify::new() }
    }

    /// The proxy that a new request takes now.
    pub fn proxy(&self) -> Arc<Proxy<S>> {
        self.proxy.load_full()
    }

    /// Completes once the proxy has been replaced since the last call.
    pub(super) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// Every request that begins from now on takes this proxy.
    pub(crate) fn replace(&self, proxy: Proxy<S>) {
        self.proxy.store(Arc::new(proxy));
        self.replaced.notify_one();
    }
}

impl<S: Store> server::Handler for InForce<S> {
    type Body = Body;
    type Page = PageBytes;
    type Lookup = (Arc<Proxy<S>>, PendingLookup);
    type Decision = (Arc<Proxy<S>>, Early);
    type Record = Answered;

    fn answer(self: &Arc<Self>, head: &RequestHead<'_>, peer: Peer, now: Instant) -> Decided<Self> {
        self.proxy.load().answer(head, peer, now)
    }

    fn look_up(
        self: &Arc<Self>,
        (proxy, lookup): &Self::Lookup,
        head: &RequestHead<'_>,
        peer: Peer,
    ) -> impl Future<Output = Result<Answer<PageBytes, Answered>, Self::Decision>> + Send {
        proxy.look_up(lookup, head, peer)
    }

    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        decision: Option<Self::Decision>,
    ) -> (Response<Body>, Answered) {
        let (proxy, early) = match decision {
            Some((proxy, early)) => (proxy, Some(early)),
            None => (self.proxy(), None),
        };
        // Boxed, since the future is large, and the server moves it.
        Box::pin(proxy.serve(request, peer, early)).await
    }

    fn refused(&self, refused: Refused, bytes: u64, peer: Peer) -> String {
        self.proxy.load().refused(refused, bytes, peer)
    }
}
