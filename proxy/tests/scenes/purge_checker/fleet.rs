//! Proxies over one store, each with lines of its own to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy::RedisStore;
use tokio::sync::{RwLock, broadcast};

use super::Kind;
use super::database::Database;
use super::disturber::Fault;
use super::lines::Lines;
use super::tampered::{Appended, Broken, Tampered};
use crate::backend::Backend;
use crate::support::Scene;

pub(super) const PROXIES: usize = 3;

/// How long a proxy serves a page that may have changed while it does not hear the database.
pub(super) const ON_LOSS: Duration = Duration::from_millis(200);

pub(super) struct Fleet {
    pub(super) kind: Kind,
    pub(super) store: RwLock<Backend>,
    pub(super) lines: Vec<Lines>,
    /// Those that can come.
    pub(super) possible: Vec<Fault>,
    /// Those that came, for who looks for the cause of a stale page.
    pub(super) faults: Mutex<Vec<Fault>>,
    /// Held by each purge that is under way.
    pub(super) purging: RwLock<()>,
    /// By proxy. A proxy that was replaced ends when nobody uses it any more.
    members: Vec<Mutex<Arc<Member>>>,
    maker: Maker,
    /// The purges of all proxies.
    pub(super) appended: broadcast::Sender<Appended>,
    pub(super) database: Option<Arc<Database>>,
}

/// Makes proxies.
struct Maker {
    kind: Kind,
    origin: SocketAddr,
    broken: Broken,
    /// The table of the settings for the database, if there is one.
    follow: String,
    appended: broadcast::Sender<Appended>,
}

/// A proxy, and its store.
pub(super) struct Member {
    pub(super) scene: Scene,
    pub(super) store: Tampered,
}

impl Fleet {
    pub(super) async fn start(
        mut store: Backend,
        kind: Kind,
        origin: SocketAddr,
        broken: Broken,
        database: Option<Arc<Database>>,
    ) -> Self {
        let follow = database.as_ref().map(|database| database.settings(ON_LOSS)).unwrap_or_default();
        let appended = broadcast::Sender::new(1024);
        let maker = Maker { kind, origin, broken, follow, appended: appended.clone() };
        let possible = Fault::possible(&store, kind);
        let (mut lines, mut members) = (Vec::new(), Vec::new());
        for _ in 0..PROXIES {
            let own = Lines::to(&mut store).await;
            members.push(Mutex::new(maker.member(&own.url, true).await));
            lines.push(own);
        }
        Self {
            kind,
            store: RwLock::new(store),
            lines,
            possible,
            faults: Mutex::default(),
            purging: RwLock::default(),
            members,
            maker,
            appended,
            database,
        }
    }

    pub(super) fn member(&self, number: usize) -> Arc<Member> {
        self.members[number].lock().unwrap().clone()
    }

    /// Replaces a proxy by a new one.
    pub(super) async fn restart(&self, number: usize) {
        let new = self.another(number, true).await;
        *self.members[number].lock().unwrap() = new;
    }

    /// One more proxy on the lines of this one.
    pub(super) async fn another(&self, number: usize, purges: bool) -> Arc<Member> {
        self.maker.member(&self.lines[number].url, purges).await
    }
}

impl Maker {
    async fn member(&self, url: &str, purges: bool) -> Arc<Member> {
        let store = RedisStore::new(url, Duration::from_millis(50), 1 << 20).unwrap();
        let store = Tampered::new(store, url, self.broken).telling(self.appended.clone());
        let follow = if purges { &self.follow } else { "" };
        let settings = self.kind.settings(purges) + follow;
        let scene = Scene::with(self.origin, store.clone(), &settings).await;
        Arc::new(Member { scene, store })
    }
}
