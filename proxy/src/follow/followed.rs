//! Whether the databases are heard at the moment, and which pages may be served while one is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Follow, OnLoss};

/// The databases of the settings in force.
#[derive(Clone, Debug)]
pub(crate) struct Followed(Box<[Arc<Hearing>]>);

/// A database, and whether its changes are heard of.
#[derive(Debug)]
pub(crate) struct Hearing {
    pub(crate) follow: Follow,
    /// When the connection was lost, in milliseconds since 1970; [`HEARD`] while it is not.
    lost: AtomicU64,
    losses: AtomicU64,
    notifications: AtomicU64,
}

/// The state of a database, for operators.
#[derive(Clone, Debug)]
pub(crate) struct FollowState {
    /// The database and its channel.
    pub(crate) database: String,
    /// When the connection was lost, if it is; 1970 before the first connection.
    pub(crate) lost: Option<SystemTime>,
    /// How often the connection was lost.
    pub(crate) losses: u64,
    /// The notifications that have come.
    pub(crate) notifications: u64,
}

/// The value of `lost` while changes are heard of.
const HEARD: u64 = u64::MAX;

impl Followed {
    /// Databases that this process connects to. Until the first connection, nobody knows since when changes are missing.
    pub(crate) fn new(follows: &[Follow]) -> Self {
        Self(follows.iter().map(|follow| Arc::new(Hearing::new(follow, 0))).collect())
    }

    /// Databases that another process follows: `explain` shows what that process serves while it hears them.
    pub(crate) fn elsewhere(follows: &[Follow]) -> Self {
        Self(follows.iter().map(|follow| Arc::new(Hearing::new(follow, HEARD))).collect())
    }

    /// The databases of other settings. Databases that were followed before keep their state.
    pub(crate) fn with(&self, follows: &[Follow]) -> Self {
        let known = |follow: &Follow| self.0.iter().find(|hearing| hearing.follow == *follow).cloned();
        let hearing = |follow| known(follow).unwrap_or_else(|| Arc::new(Hearing::new(follow, 0)));
        Self(follows.iter().map(hearing).collect())
    }

    /// Each database.
    pub(crate) fn all(&self) -> &[Arc<Hearing>] {
        &self.0
    }

    /// The state of each database.
    pub(crate) fn states(&self) -> Vec<FollowState> {
        self.0.iter().map(|hearing| hearing.state()).collect()
    }

    /// Whether a page may be served at `now`. Asks when the page was stored only while a connection is lost.
    pub(crate) fn may_serve(&self, stored: impl Fn() -> SystemTime, now: SystemTime) -> bool {
        self.0.iter().all(|hearing| hearing.may_serve(&stored, now))
    }
}

impl Hearing {
    fn new(follow: &Follow, lost: u64) -> Self {
        let (losses, notifications) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { follow: follow.clone(), lost: AtomicU64::new(lost), losses, notifications }
    }

    /// Notes that changes of the database have not been heard of since then.
    pub(crate) fn lose(&self, since: SystemTime) {
        let millis = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.lost.store(millis.try_into().unwrap_or(HEARD - 1), Ordering::SeqCst);
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that changes of the database are heard of.
    pub(crate) fn hear(&self) {
        self.lost.store(HEARD, Ordering::SeqCst);
    }

    /// Whether the changes of the database are heard of.
    pub(crate) fn is_heard(&self) -> bool {
        self.lost.load(Ordering::SeqCst) == HEARD
    }

    /// Counts notifications.
    pub(crate) fn count(&self, notifications: usize) {
        self.notifications.fetch_add(notifications as u64, Ordering::Relaxed);
    }

    fn state(&self) -> FollowState {
        let lost = self.lost.load(Ordering::SeqCst);
        FollowState {
            database: self.follow.to_string(),
            lost: (lost != HEARD).then(|| UNIX_EPOCH + Duration::from_millis(lost)),
            losses: self.losses.load(Ordering::Relaxed),
            notifications: self.notifications.load(Ordering::Relaxed),
        }
    }

    fn may_serve(&self, stored: impl Fn() -> SystemTime, now: SystemTime) -> bool {
        match (self.lost.load(Ordering::SeqCst), self.follow.on_loss) {
            (HEARD, _) | (_, OnLoss::Ignore) => true,
            (lost, OnLoss::Serve(time)) => {
                let lost = UNIX_EPOCH + Duration::from_millis(lost);
                now < lost.max(stored()) + time
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DatabaseTls, Trust};
    use super::*;

    fn follow(on_loss: OnLoss) -> Follow {
        let (database, tls) = ("postgres://h/d".parse().unwrap(), DatabaseTls::new(Trust::Any).unwrap());
        Follow { database, tls, channel: "c".to_owned(), on_loss }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_page_is_served_for_a_while_after_the_loss_or_after_it_was_stored() {
        let minute = OnLoss::Serve(Duration::from_secs(60));
        for (on_loss, lost, stored, now, expected) in [
            (minute, Some(at(1000)), at(500), at(1059), true),
            (minute, Some(at(1000)), at(500), at(1060), false),
            (minute, Some(at(1000)), at(1030), at(1089), true),
            (minute, Some(at(1000)), at(1030), at(1090), false),
            // Before the first connection.
            (minute, None, at(500), at(559), true),
            (minute, None, at(500), at(560), false),
            (OnLoss::Serve(Duration::ZERO), Some(at(1000)), at(1000), at(1000), false),
            (OnLoss::Ignore, Some(at(1000)), at(500), at(9000), true),
        ] {
            let followed = Followed::new(&[follow(OnLoss::Ignore), follow(on_loss)]);
            let hearing = &followed.all()[1];
            if let Some(lost) = lost {
                hearing.hear();
                assert!(hearing.is_heard() && followed.may_serve(|| panic!("the page is not asked"), now));
                hearing.lose(lost);
            }
            assert!(!hearing.is_heard());
            assert_eq!(followed.may_serve(|| stored, now), expected, "{on_loss:?} {stored:?} {now:?}");
        }
    }

    #[test]
    fn databases_that_stay_in_the_settings_stay_connected() {
        let (one, other) = (follow(OnLoss::Ignore), follow(OnLoss::Serve(Duration::ZERO)));
        let before = Followed::new(std::slice::from_ref(&one));
        before.all()[0].hear();
        let after = before.with(&[other, one]);
        assert!(!after.all()[0].is_heard());
        assert!(Arc::ptr_eq(&after.all()[1], &before.all()[0]));
    }
}
