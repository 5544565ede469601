//! A Redis Cluster: each command goes to the node that has its key, and follows the key when it moves.
//!
//! A redirect is an answer, and costs no more time than the deadline of the operation leaves. A node that is gone costs
//! the pages of its slots and nothing else: each node has its own connections, batches and breaker.

use std::pin::pin;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use server::in_time;
use tokio::sync::{Notify, SetOnce};
use tokio::time::Instant;

use super::address::NodeAddress;
use super::connection::Bounds;
use super::dialer::{Dialer, Login, Whereabouts};
use super::node::{KeyCommand, RedisNode, unanswered};
use super::pool::{CommandOutcome, Outcomes};
use super::resp::{FoundValues, RedisReply, Unread};
use super::slots::{Map, Range, Redirect, slot};
use super::tracking::FeedSettings;
use crate::store::breaker::Breaker;
use crate::store::feed::Listeners;
use crate::store::{Listener, NodeNumber, StoreError};

/// How many redirects are followed for a key that moves meanwhile.
pub(super) const HOPS: usize = 4;

/// How long a node without slots is kept after it was last asked for a key that moves to it.
const KEPT: Duration = Duration::from_secs(10);

/// The nodes of a cluster, as far as they are known.
pub(super) struct Cluster {
    map: ArcSwap<Map>,
    /// The addresses in the settings.
    pub(super) seeds: Vec<NodeAddress>,
    pub(super) login: Arc<Login>,
    bounds: Bounds,
    pub(super) listeners: Arc<Listeners>,
    /// Nodes that have no slots yet, and when each was last asked. Locked while the map is replaced.
    strangers: Mutex<Vec<(Arc<RedisNode>, Instant)>>,
    /// Notified when something suggests that the map has changed.
    pub(super) wanted: Notify,
    /// Set when the first map has come.
    loaded: SetOnce<()>,
    /// The breaker that keeps requests from waiting while no map comes.
    absence: Breaker,
    /// The changes to report.
    pub(super) followed: OnceLock<FeedSettings>,
    next_id: AtomicU16,
}

impl Cluster {
    /// A cluster whose map is not known yet.
    pub(super) fn new(
        seeds: Vec<NodeAddress>,
        login: Login,
        bounds: Bounds,
        listeners: Arc<Listeners>,
    ) -> Self {
        Self {
            map: ArcSwap::from_pointee(Map::empty()),
            seeds,
            login: Arc::new(login),
            bounds,
            listeners,
            strangers: Mutex::default(),
            wanted: Notify::new(),
            loaded: SetOnce::new(),
            absence: Breaker::default(),
            followed: OnceLock::new(),
            next_id: AtomicU16::new(0),
        }
    }

    /// Starts to report changes.
    pub(super) fn follow(&self, feed: FeedSettings) {
        // A store is followed once.
        let _ = self.followed.set(feed);
        self.wanted.notify_one();
    }

    /// Waits for the first map, and for a connection of the calling worker to each node.
    pub(super) async fn connect(&self) -> Result<(), StoreError> {
        self.loaded.wait().await;
        let map = self.map();
        join_all(map.nodes().iter().map(|node| node.connect())).await.into_iter().collect()
    }

    /// Sends a read to the node that has its keys. Keys on several nodes are read at once.
    pub(super) async fn read(&self, name: &'static str, arguments: &[&[u8]]) -> CommandOutcome {
        if name != "MGET" {
            return self.read_one(name, arguments).await;
        }
        if arguments.windows(2).any(|pair| slot(pair[0]) != slot(pair[1])) {
            return self.read_each(arguments).await;
        }
        match self.read_one(name, arguments).await {
            // The slot of the keys is moving, and each key may be on either side.
            Ok(RedisReply::Error(error)) if error.starts_with("TRYAGAIN") => self.read_each(arguments).await,
            other => other,
        }
    }

    async fn read_one(&self, name: &'static str, arguments: &[&[u8]]) -> CommandOutcome {
        let deadline = Instant::now() + self.bounds.silence;
        let node = self.owner(arguments.first().copied().unwrap_or_default()).await?;
        let outcome = node.read(name, arguments).await;
        self.settle(&node, outcome, deadline, || KeyCommand::new(name, arguments)).await
    }

    /// Reads each key by itself, all at once.
    async fn read_each(&self, keys: &[&[u8]]) -> CommandOutcome {
        let reads = keys.iter().map(|key| self.read_one("GET", std::slice::from_ref(key)));
        let mut values = FoundValues::new();
        for (index, reply) in join_all(reads).await.into_iter().enumerate() {
            match reply? {
                RedisReply::Values(found) => values.extend(found),
                RedisReply::Unread(Unread::TooLong { length, .. }) => {
                    return Ok(RedisReply::Unread(Unread::TooLong { index, length }));
                }
                other => return Ok(other),
            }
        }
        Ok(RedisReply::Values(values))
    }

    /// Sends each command to the node that has its key, those of a node in one round trip. Returns their outcomes.
    pub(super) async fn write(&self, commands: &[&KeyCommand<'_>]) -> Outcomes {
        let deadline = Instant::now() + self.bounds.silence;
        let owners = join_all(commands.iter().map(|command| self.owner(command.key()))).await;
        let mut groups = Vec::<(Arc<RedisNode>, Vec<usize>)>::new();
        for (index, owner) in owners.iter().enumerate() {
            let Ok(owner) = owner else { continue };
            match groups.iter_mut().find(|(node, _)| Arc::ptr_eq(node, owner)) {
                Some((_, indices)) => indices.push(index),
                None => groups.push((owner.clone(), vec![index])),
            }
        }
        let sent = groups.iter().map(|(node, indices)| async move {
            node.write(&indices.iter().map(|index| commands[*index]).collect::<Vec<_>>()).await
        });
        // A command without a known node keeps that error as its outcome.
        let mut outcomes: Outcomes =
            owners.into_iter().map(|owner| owner.map(|_| RedisReply::Status)).collect();
        for ((node, indices), replies) in groups.iter().zip(join_all(sent).await) {
            for (&index, reply) in indices.iter().zip(replies) {
                outcomes[index] = self.settle(node, reply, deadline, || commands[index].clone()).await;
            }
        }
        outcomes
    }

    /// The final outcome of a command that a node has answered: its reply or, after redirects, that of another node.
    async fn settle<'a>(
        &self,
        node: &RedisNode,
        outcome: CommandOutcome,
        deadline: Instant,
        command: impl FnOnce() -> KeyCommand<'a>,
    ) -> CommandOutcome {
        let Some(redirect) = self.redirect(node, &outcome) else { return outcome };
        let followed = in_time(deadline, Box::pin(self.chase(command(), redirect))).await;
        followed.unwrap_or(Err(StoreError::Deadline(self.bounds.silence)))
    }

    /// Whether an outcome is a redirect. If the outcome suggests another map, asks for it.
    fn redirect(&self, node: &RedisNode, outcome: &CommandOutcome) -> Option<Redirect> {
        let (redirect, is_strange) = match outcome {
            Ok(RedisReply::Error(error)) => {
                let redirect = node.place().and_then(|address| Redirect::of(error, address));
                let is_strange = redirect.is_some() || error.starts_with("CLUSTERDOWN");
                (redirect, is_strange)
            }
            Ok(_) => (None, false),
            Err(error) => (None, error.is_outage()),
        };
        if is_strange {
            self.wanted.notify_one();
        }
        redirect
    }

    /// Sends a command to the nodes that redirects name.
    async fn chase(&self, command: KeyCommand<'_>, mut redirect: Redirect) -> CommandOutcome {
        for _ in 0..HOPS {
            let (node, outcome) = match &redirect {
                Redirect::Moved(slot, address) => {
                    let node = self.moved(*slot, address);
                    let outcome = node.write(&[&command]).await.pop();
                    (node, outcome.unwrap_or_else(|| Err(unanswered())))
                }
                Redirect::Ask(address) => {
                    // The redirect may lead to a node whose changes are not followed.
                    self.listeners.changed(command.key());
                    let node = self.stranger(address);
                    let outcome = node.write_asking(&command).await;
                    (node, outcome)
                }
                Redirect::TryAgain => {
                    return Ok(RedisReply::Error("TRYAGAIN the slot of the keys moves".to_owned()));
                }
            };
            match self.redirect(&node, &outcome) {
                None => return outcome,
                Some(next) => redirect = next,
            }
        }
        Err(circular())
    }

    /// The node that has a key.
    pub(super) async fn owner(&self, key: &[u8]) -> Result<Arc<RedisNode>, StoreError> {
        let slot = slot(key);
        let now = Instant::now();
        if !self.loaded.initialized() && self.absence.allows(now) {
            match in_time(now + self.bounds.silence, pin!(self.loaded.wait())).await {
                Some(()) => self.absence.succeeded(),
                None => self.absence.failed(Instant::now(), rand::random()),
            }
        }
        self.map.load().owner(slot).cloned().ok_or_else(|| {
            self.wanted.notify_one();
            StoreError::Unreachable(format!("no known node of the cluster has slot {slot}"))
        })
    }

    /// The node that has a key in the map that is known now.
    pub(super) fn known_owner(&self, key: &[u8]) -> Option<Arc<RedisNode>> {
        self.map.load().owner(slot(key)).cloned()
    }

    pub(super) fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// The number of the node that has a key, for the feed of changes.
    pub(super) fn id_of(&self, key: &[u8]) -> NodeNumber {
        self.map.load().owner(slot(key)).map_or(NodeNumber(u16::MAX), |node| node.id)
    }

    /// Whether a slot has no node, or some node does not answer.
    pub(super) fn is_troubled(&self) -> bool {
        let map = self.map.load();
        !map.is_complete() || map.nodes().iter().any(|node| !node.is_up())
    }

    /// A key with this prefix in a slot of a node. `None` if the node has no slots.
    pub(super) fn key_on(&self, node: &Arc<RedisNode>, prefix: &[u8]) -> Option<Vec<u8>> {
        /// This many tries almost certainly find a key even for a node with one slot.
        const TRIES: u32 = 200_000;
        let map = self.map.load();
        let is_there = |key: &Vec<u8>| map.owner(slot(key)).is_some_and(|owner| Arc::ptr_eq(owner, node));
        (0..TRIES).map(|number| [prefix, number.to_string().as_bytes()].concat()).find(is_there)
    }

    /// Uses a new map.
    pub(super) fn learn(&self, ranges: &[Range]) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        strangers.retain(|(_, asked)| now - *asked < KEPT);
        let before = self.map();
        self.replace(&before, Map::of(ranges, |address| self.known(&before, &strangers, address)));
        drop(strangers);
        let _ = self.loaded.set(());
    }

    /// Notes that a slot has moved to another node. Returns that node.
    pub(super) fn moved(&self, slot: u16, address: &NodeAddress) -> Arc<RedisNode> {
        let strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.map();
        if let Some(owner) = before.owner(slot).filter(|owner| owner.place() == Some(address)) {
            return owner.clone();
        }
        let node = self.known(&before, &strangers, address);
        self.replace(&before, before.with(slot, address, |_| node.clone()));
        node
    }

    /// Replaces the map. Pages that were read from nodes that lose a slot leave the near cache. The map changes first, so that
    /// a caller who asks for a node later gets the new one.
    fn replace(&self, before: &Map, after: Map) {
        let losers = before.losers(&after);
        self.map.store(Arc::new(after));
        losers.iter().for_each(|loser| self.listeners.lost(loser.id));
    }

    /// A node that may have no slots yet.
    pub(super) fn stranger(&self, address: &NodeAddress) -> Arc<RedisNode> {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let node = self.known(&self.map(), &strangers, address);
        strangers.retain(|(stranger, _)| !Arc::ptr_eq(stranger, &node));
        strangers.push((node.clone(), Instant::now()));
        node
    }

    /// The node at an address. If none is known there, makes one.
    fn known(
        &self,
        map: &Map,
        strangers: &[(Arc<RedisNode>, Instant)],
        address: &NodeAddress,
    ) -> Arc<RedisNode> {
        let strangers = strangers.iter().map(|(node, _)| node);
        let mut known = map.nodes().iter().chain(strangers);
        known.find(|node| node.place() == Some(address)).cloned().unwrap_or_else(|| {
            let id = NodeNumber(self.next_id.fetch_add(1, Ordering::Relaxed) % NodeNumber::COUNT);
            let dialer = Dialer { place: Whereabouts::At(address.clone()), login: self.login.clone() };
            Arc::new(RedisNode::new(id, dialer, self.bounds))
        })
    }
}

pub(super) fn circular() -> StoreError {
    StoreError::Unreachable("the nodes of the cluster redirect to each other".to_owned())
}
