//! One address for several proxies.

use std::io;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// After a failed accept: a lack of file descriptors lasts.
const PAUSE: Duration = Duration::from_millis(10);

/// Gives each connection to the next proxy. Ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Listens on this port, and passes connections to the proxies on these ports.
    pub(crate) async fn start(port: u16, proxies: Vec<u16>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(Self { port, task: tokio::spawn(balance(listener, proxies)) })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn balance(listener: TcpListener, proxies: Vec<u16>) {
    let mut connections = JoinSet::new();
    for proxy in proxies.into_iter().cycle() {
        match listener.accept().await {
            Ok((client, _)) => drop(connections.spawn(relay(client, proxy))),
            Err(_) => sleep(PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// An error ends both sides, as the end of the connection does.
async fn relay(mut client: TcpStream, proxy: u16) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", proxy)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
