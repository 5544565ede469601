//! A line from a proxy to Redis, which can be cut, held up, and led to another Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::lines::Names;

/// Cuts its connections when it is dropped.
pub(super) struct Line {
    address: SocketAddr,
    to: Arc<AtomicU16>,
    /// A bit for each connection, by its number modulo 64: whether nothing passes on it.
    held: watch::Sender<u64>,
    replies: watch::Sender<Replies>,
    /// How many replies wait.
    waiting: watch::Sender<usize>,
    /// How often all connections were cut.
    cuts: watch::Sender<u32>,
    /// How many connections were made.
    count: watch::Sender<usize>,
    _connections: JoinSet<()>,
}

/// Which pieces of what Redis says pass.
#[derive(Clone, Copy)]
enum Replies {
    All,
    /// So many on each connection, since it was held.
    Some(usize),
}

impl Line {
    /// A line to a port of this machine.
    pub(super) async fn to(port: u16) -> Self {
        Self::naming(port, Names::default()).await
    }

    /// The same, on which servers have other names.
    pub(super) async fn naming(port: u16, names: Names) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, held, cuts) = (Arc::new(AtomicU16::new(port)), watch::Sender::new(0), watch::Sender::new(0));
        let (replies, waiting) = (watch::Sender::new(Replies::All), watch::Sender::new(0));
        let gate = Gate { replies: replies.subscribe(), waiting: waiting.clone(), names };
        let (mut connections, count) = (JoinSet::new(), watch::Sender::new(0));
        let accepting = Accepting { to: to.clone(), held: held.subscribe(), gate, cuts: cuts.subscribe() };
        connections.spawn(accepting.run(listener, count.clone()));
        Self { address, to, held, replies, waiting, cuts, count, _connections: connections }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of database 1 at the other end.
    pub(super) fn url(&self) -> String {
        format!("redis://{}/1", self.address)
    }

    /// Whether new connections go to this port.
    pub(super) fn leads_to(&self, port: u16) -> bool {
        self.to.load(Ordering::SeqCst) == port
    }

    /// How many connections were made so far.
    pub(super) fn connections(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until so many connections were made.
    pub(super) async fn connected(&self, count: usize) {
        self.count.subscribe().wait_for(|made| *made >= count).await.unwrap();
    }

    /// Lets nothing pass on these connections until it is called again.
    pub(super) fn hold(&self, connections: u64) {
        self.held.send_replace(connections);
    }

    /// Lets nothing pass that Redis says from now on, and waits until it has said something.
    pub(super) async fn hold_replies(&self) {
        self.replies.send_replace(Replies::Some(0));
        self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.unwrap();
    }

    /// Lets one more piece of what Redis has said pass on each connection.
    pub(super) fn pass_a_reply(&self) {
        self.replies.send_modify(|replies| {
            if let Replies::Some(count) = replies {
                *count += 1;
            }
        });
    }

    /// Cuts all connections. New ones go to this port.
    pub(super) fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// Where replies wait, and get other names of servers.
#[derive(Clone)]
struct Gate {
    names: Names,
    replies: watch::Receiver<Replies>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// Waits until one more reply may pass on a connection on which so many have. Returns how many have then.
    async fn pass(&mut self, passed: usize) -> Option<usize> {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let may_pass = |replies: &Replies| match replies {
            Replies::All => true,
            Replies::Some(count) => passed < *count,
        };
        let replies = self.replies.wait_for(may_pass).await.map(|replies| *replies);
        self.waiting.send_modify(|waiting| *waiting -= 1);
        Some(match replies.ok()? {
            Replies::All => 0,
            Replies::Some(_) => passed + 1,
        })
    }
}

/// What the connections of a line are subject to.
struct Accepting {
    to: Arc<AtomicU16>,
    held: watch::Receiver<u64>,
    gate: Gate,
    cuts: watch::Receiver<u32>,
}

impl Accepting {
    async fn run(self, listener: TcpListener, count: watch::Sender<usize>) {
        let mut connections = JoinSet::new();
        for number in 0_u32.. {
            let (near, _) = listener.accept().await.unwrap();
            count.send_modify(|count| *count += 1);
            let (mut cuts, held, gate) = (self.cuts.clone(), self.held.clone(), self.gate.clone());
            cuts.mark_unchanged();
            let port = self.to.load(Ordering::SeqCst);
            connections.spawn(async move {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let (near, far) = (near.into_split(), far.into_split());
                let bit = 1 << (number % 64);
                tokio::select! {
                    () = carry(near.0, far.1, (bit, held.clone()), None) => {}
                    () = carry(far.0, near.1, (bit, held), Some(gate)) => {}
                    _ = cuts.changed() => {}
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

/// Carries bytes until the connection ends, through a gate if they are replies.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (bit, mut held): (u64, watch::Receiver<u64>),
    mut gate: Option<Gate>,
) {
    let (mut bytes, mut passed) = (vec![0; 16 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let passes = held.wait_for(|held| held & bit == 0).await.is_ok();
        if let Some(gate) = &mut gate {
            let Some(now) = gate.pass(passed).await else { return };
            passed = now;
            gate.names.rename(&mut bytes[..count]);
        }
        if !passes || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
