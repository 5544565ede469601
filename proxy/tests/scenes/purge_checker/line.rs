//! A line from a proxy to Redis, which can be cut, held up, and led to another Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Cuts its connections when it is dropped.
pub(super) struct Line {
    address: SocketAddr,
    to: Arc<AtomicU16>,
    /// A bit for each connection, by its number modulo 64: whether nothing passes on it.
    held: watch::Sender<u64>,
    /// How often all connections were cut.
    cuts: watch::Sender<u32>,
    _connections: JoinSet<()>,
}

impl Line {
    /// A line to a port of this machine.
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, held, cuts) = (Arc::new(AtomicU16::new(port)), watch::Sender::new(0), watch::Sender::new(0));
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, to.clone(), held.subscribe(), cuts.subscribe()));
        Self { address, to, held, cuts, _connections: connections }
    }

    /// The URL of database 1 at the other end.
    pub(super) fn url(&self) -> String {
        format!("redis://{}/1", self.address)
    }

    /// Lets nothing pass on these connections until it is called again.
    pub(super) fn hold(&self, connections: u64) {
        self.held.send_replace(connections);
    }

    /// Cuts all connections. New ones go to this port.
    pub(super) fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(
    listener: TcpListener,
    to: Arc<AtomicU16>,
    held: watch::Receiver<u64>,
    cuts: watch::Receiver<u32>,
) {
    let mut connections = JoinSet::new();
    for number in 0_u32.. {
        let (near, _) = listener.accept().await.unwrap();
        let (mut cuts, held) = (cuts.clone(), held.clone());
        cuts.mark_unchanged();
        let port = to.load(Ordering::SeqCst);
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            let (near, far) = (near.into_split(), far.into_split());
            let bit = 1 << (number % 64);
            tokio::select! {
                () = carry(near.0, far.1, bit, held.clone()) => {}
                () = carry(far.0, near.1, bit, held) => {}
                _ = cuts.changed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Carries bytes until the connection ends.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, bit: u64, mut held: watch::Receiver<u64>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let passes = held.wait_for(|held| held & bit == 0).await.is_ok();
        if !passes || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
