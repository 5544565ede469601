//! Fetches purged pages anew that clients have recently asked for, before the next client asks.

use std::sync::Arc;
use std::time::Duration;

use server::Peer;
use tokio::time::{Instant, sleep};

use super::decide::Decision;
use super::{InForce, Proxy};
use crate::config::Config;
use crate::policy::Disposition;
use crate::request::Question;
use crate::request::receive::receive;
use crate::status::Miss;
use crate::store::Store;
use crate::traffic::RecentPages;

/// How often the purge log is checked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Pages that were not asked for during this time are left alone.
const RECENT: Duration = Duration::from_secs(60);

/// The pause after each fetch: at most 20 pages a second.
const PAUSE: Duration = Duration::from_millis(50);

/// The sample of the pages that may have to be fetched, if a rule wants that.
pub(super) fn recent(config: &Config) -> Option<Arc<RecentPages>> {
    let wants = config.rules.iter().any(|rule| rule.refresh_on_purge);
    wants.then(|| Arc::new(RecentPages::new(Instant::now())))
}

impl<S: Store> InForce<S> {
    /// Fetches pages of the settings in force when they are purged, until it is dropped.
    pub async fn refresh_purged(self: Arc<Self>) {
        let mut known = self.proxy().generation();
        loop {
            sleep(LOOK_EVERY).await;
            let proxy = self.proxy();
            let generation = proxy.generation();
            if std::mem::replace(&mut known, generation) == generation {
                continue;
            }
            let urls = proxy.recent.as_ref().map(|recent| recent.urls(RECENT, Instant::now()));
            for url in urls.unwrap_or_default() {
                if self.proxy().refresh_if_purged(&url).await {
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

impl<S: Store> Proxy<S> {
    /// Fetches a page in the background, if it was purged and its rule wants that. Another proxy may have been quicker.
    async fn refresh_if_purged(self: &Arc<Self>, url: &str) -> bool {
        let peer = Peer { is_tls: self.gets_tls(url), ..Peer::LOCAL };
        let Ok(mut request) = self.request(url, &[]) else { return false };
        if receive(&mut request, peer, true, &self.site).is_err() {
            return false;
        }
        self.normalise(&mut request, peer);
        let question = Question::of_parts(&request, peer);
        match self.policy.rules().disposition(&question) {
            Disposition::Lookup(rule, _) if rule.refresh_on_purge => {}
            _ => return false,
        }
        match self.decide(&question, Instant::now(), &self.store).await {
            Decision::Fetch(wanted) if wanted.miss == Miss::Purged => {
                self.fetch_aside(&wanted, &request, peer);
                true
            }
            _ => false,
        }
    }
}
