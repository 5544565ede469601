//! An origin that takes some time, always gives the same page for a path, and can be killed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The time to make a page, like that of one or two queries.
const COST: Duration = Duration::from_millis(5);

/// A running origin. Dropping it kills it.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let task = tokio::spawn(async move {
            // The connections end together with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, counter.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, asked, task }
    }

    /// The number of requests so far.
    pub(crate) fn count(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Closes the port and all connections at once, even in the middle of an answer.
    pub(crate) async fn kill(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The body of the page at a path. `/size/LENGTH/…` and `/vary/LENGTH/…` have this length.
pub(crate) fn body(path: &str) -> Vec<u8> {
    let length = match path.split('/').collect::<Vec<_>>()[..] {
        ["", "size" | "vary", length, _] => length.parse().unwrap(),
        _ => 2000,
    };
    let line = format!("{path} says this. ").into_bytes();
    let mut body = line.repeat(length / line.len() + 1);
    body.truncate(length);
    body
}

async fn converse(mut stream: TcpStream, asked: Arc<AtomicUsize>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    loop {
        // The requests have no bodies.
        while !buffer.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        asked.fetch_add(1, Ordering::Relaxed);
        let head = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
        let path = head.split(' ').nth(1).unwrap();
        let body = body(path);
        // A page that may not be stored, so that whatever lies under its key stays there.
        let kind = match path {
            poison if poison.ends_with("poison") => "Set-Cookie: a=b\r\n",
            varying if varying.starts_with("/vary") => {
                "Content-Type: text/plain\r\nVary: Accept-Language\r\n"
            }
            _ => "Content-Type: text/plain\r\n",
        };
        tokio::time::sleep(COST).await;
        let mut answer =
            format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend(body);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}
