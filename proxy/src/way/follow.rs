//! Follows the databases of the settings: purges the pages that they notify, and notes when one is not heard.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{InForce, Proxy, now};
use crate::follow::{Follow, Hearing, Notification, OnLoss, Subscription, Unheard};
use crate::purge::{Purge, Target};
use crate::store::{Store, StoreError};

/// The pauses between attempts to connect. The first attempt after a loss is made at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that ends sooner does not count as success: the pauses go on growing.
const LASTING: Duration = Duration::from_secs(5);

/// The most targets of a purge in the log.
const TARGETS: usize = 1024;

/// Why a database is not followed any more.
#[derive(Debug, thiserror::Error)]
enum Silenced {
    #[error("{0}")]
    Unheard(#[from] Unheard),
    #[error("its changes cannot be purged: {0}")]
    Unpurged(#[from] StoreError),
}

impl<S: Store> InForce<S> {
    /// Follows the databases of the settings in force, until it is dropped.
    pub async fn follow_databases(self: Arc<Self>) {
        let mut tasks: Vec<(Arc<Hearing>, AbortOnDropHandle<()>)> = Vec::new();
        loop {
            let proxy = self.proxy();
            let wanted = proxy.followed.all();
            tasks.retain(|(hearing, _)| wanted.iter().any(|wanted| Arc::ptr_eq(wanted, hearing)));
            for hearing in wanted {
                if !tasks.iter().any(|(followed, _)| Arc::ptr_eq(followed, hearing)) {
                    let task = tokio::spawn(self.clone().follow(hearing.clone()));
                    tasks.push((hearing.clone(), AbortOnDropHandle::new(task)));
                }
            }
            drop(proxy);
            self.replaced().await;
        }
    }

    /// Connects again and again.
    async fn follow(self: Arc<Self>, hearing: Arc<Hearing>) {
        let follow = &hearing.follow;
        let purges_at_first = follow.on_loss != OnLoss::Ignore;
        let (mut pause, mut purges_all) = (Duration::ZERO, purges_at_first);
        loop {
            let mut alive = Instant::now();
            let began = alive;
            let Err(why) = self.hear(&hearing, purges_all, &mut alive).await;
            let was_heard = hearing.is_heard();
            if was_heard {
                hearing.lose(now() - alive.elapsed());
                warn!(database = %follow, %why, "the database is not followed any more: on_loss decides how long its pages are served");
            } else if let Some(left_out) = self.proxy().faults.turn("follow") {
                warn!(database = %follow, %why, left_out, "the database is not followed: no connection");
            }
            purges_all =
                purges_at_first || matches!(why, Silenced::Unpurged(_)) || (purges_all && !was_heard);
            pause = if was_heard && began.elapsed() > LASTING { Duration::ZERO } else { next(pause) };
            sleep(pause).await;
        }
    }

    /// Connects, and purges the pages of each notification. `alive` is when the database last showed that it is there.
    async fn hear(
        &self,
        hearing: &Hearing,
        purges_all: bool,
        alive: &mut Instant,
    ) -> Result<Infallible, Silenced> {
        let follow = &hearing.follow;
        let mut subscription = Subscription::open(follow).await?;
        *alive = subscription.alive();
        if purges_all {
            let all = Purge { targets: vec![Target::all()], is_soft: false, by: follow.to_string() };
            self.proxy().purge(all).await?;
        }
        hearing.hear();
        info!(database = %follow, "followed");
        loop {
            let notified = subscription.notified().await;
            *alive = subscription.alive();
            let (proxy, notified) = (self.proxy(), notified?);
            hearing.count(notified.len());
            for purge in proxy.notified_purges(&notified, follow) {
                proxy.purge(purge).await?;
            }
        }
    }
}

impl<S: Store> Proxy<S> {
    /// The purges for some payloads: each target once, with separate purges for hard and soft ones.
    fn notified_purges(&self, payloads: &[String], follow: &Follow) -> Vec<Purge> {
        let mut targets: [HashSet<Target>; 2] = Default::default();
        for payload in payloads {
            match Notification::of(payload).and_then(|notified| Some((self.named(&notified)?, notified.soft)))
            {
                Some((named, is_soft)) => targets[usize::from(is_soft)].extend(named),
                None => drop(targets[0].insert(Target::all())),
            }
        }
        let mut purges = Vec::new();
        for (is_soft, targets) in [false, true].into_iter().zip(targets) {
            let targets: Vec<_> = targets.into_iter().collect();
            let by = || follow.to_string();
            purges.extend(targets.chunks(TARGETS).map(|some| Purge {
                targets: some.to_vec(),
                is_soft,
                by: by(),
            }));
        }
        purges
    }

    /// The targets that a notification names; `None` if a name cannot be read.
    fn named(&self, notified: &Notification) -> Option<Vec<Target>> {
        let mut targets: Vec<_> = notified.tags.iter().map(|tag| Target::tag(tag.as_str())).collect();
        for url in &notified.urls {
            targets.extend(self.targets_of(url).ok()?);
        }
        for prefix in &notified.prefixes {
            targets.extend(Target::prefixes(prefix).ok()?);
        }
        Some(targets)
    }
}

/// The next pause after this one.
fn next(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut pause = Duration::ZERO;
        let pauses: Vec<_> = (0..8)
            .map(|_| {
                pause = next(pause);
                pause.as_millis()
            })
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
