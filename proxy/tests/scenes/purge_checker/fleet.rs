//! Proxies over one Redis, each with a line of its own to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy::RedisStore;
use tokio::sync::RwLock;

use super::Kind;
use super::disturber::Fault;
use super::line::Line;
use super::tampered::{Broken, Tampered};
use crate::backend::Backend;
use crate::support::Scene;

pub(super) const PROXIES: usize = 3;

pub(super) struct Fleet {
    pub(super) kind: Kind,
    pub(super) redis: RwLock<Backend>,
    pub(super) lines: Vec<Line>,
    /// Those that came, for who looks for the cause of a stale page.
    pub(super) faults: Mutex<Vec<Fault>>,
    /// Held by each purge that is under way.
    pub(super) purging: RwLock<()>,
    /// By proxy. A proxy that was replaced ends when nobody uses it any more.
    members: Vec<Mutex<Arc<Member>>>,
    origin: SocketAddr,
    broken: Broken,
}

/// A proxy, and its store.
pub(super) struct Member {
    pub(super) scene: Scene,
    pub(super) store: Tampered,
}

impl Fleet {
    pub(super) async fn start(mut redis: Backend, kind: Kind, origin: SocketAddr, broken: Broken) -> Self {
        let port = redis.servers()[0].port();
        let (mut lines, mut members) = (Vec::new(), Vec::new());
        for _ in 0..PROXIES {
            let line = Line::to(port).await;
            // Sentinels and nodes of a cluster name addresses themselves.
            let url = if matches!(redis, Backend::Alone(_)) { line.url() } else { redis.url() };
            members.push(Mutex::new(member(&url, kind, true, origin, broken).await));
            lines.push(line);
        }
        let (redis, purging) = (RwLock::new(redis), RwLock::default());
        Self { kind, redis, lines, faults: Mutex::default(), purging, members, origin, broken }
    }

    pub(super) fn member(&self, number: usize) -> Arc<Member> {
        self.members[number].lock().unwrap().clone()
    }

    /// Replaces a proxy by a new one.
    pub(super) async fn restart(&self, number: usize) {
        let new = self.another(number, true).await;
        *self.members[number].lock().unwrap() = new;
    }

    /// One more proxy on the line of this one.
    pub(super) async fn another(&self, number: usize, purges: bool) -> Arc<Member> {
        let url = match &*self.redis.read().await {
            Backend::Alone(_) => self.lines[number].url(),
            others => others.url(),
        };
        member(&url, self.kind, purges, self.origin, self.broken).await
    }
}

async fn member(url: &str, kind: Kind, purges: bool, origin: SocketAddr, broken: Broken) -> Arc<Member> {
    let store = RedisStore::new(url, Duration::from_millis(50), 1 << 20).unwrap();
    let store = Tampered::new(store, url, broken);
    let scene = Scene::with(origin, store.clone(), &kind.settings(purges)).await;
    Arc::new(Member { scene, store })
}
