//! A link of 100 Mbit/s between the proxy and Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// In bytes a second.
const SPEED: f64 = 12.5e6;

/// Starts the link to a port of this machine, and returns its address.
pub(crate) async fn link_to(port: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // All connections share each direction of the link.
        let directions = [(), ()].map(|()| Arc::new(Mutex::new(Instant::now())));
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near.0, far.1, directions[0].clone()));
            tokio::spawn(carry(far.0, near.1, directions[1].clone()));
        }
    });
    address
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, free: Arc<Mutex<Instant>>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let arrives = {
            let mut free = free.lock().await;
            *free = Instant::now().max(*free) + Duration::from_secs_f64(count as f64 / SPEED);
            *free
        };
        tokio::time::sleep_until(arrives).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
