//! The accept loop: a task a connection, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::config::Deadlines;
use crate::proxy::Proxy;
use crate::store::Store;

/// How long to wait when no connection can be accepted, mostly for want of file descriptors: some close meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until `shutdown` completes, then lets requests under way finish within their deadline.
pub async fn serve<S: Store>(
    listener: TcpListener,
    proxy: Arc<Proxy<S>>,
    deadlines: Deadlines,
    shutdown: impl Future<Output = ()>,
) {
    let connections = GracefulShutdown::new();
    let http = http(deadlines.client_head);
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => connect(stream, peer, &proxy, &http, &connections),
            Err(error) => pause(&error).await,
        }
    }
    drop(listener);
    drain(connections, deadlines.shutdown).await;
}

fn http(head_deadline: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Not pipeline_flush: it holds answers back while a next request is half there, and loses those to a bad head.
    http.timer(TokioTimer::new()).header_read_timeout(head_deadline).title_case_headers(true);
    http
}

fn connect<S: Store>(
    stream: TcpStream,
    peer: SocketAddr,
    proxy: &Arc<Proxy<S>>,
    http: &http1::Builder,
    connections: &GracefulShutdown,
) {
    // A small last piece must not wait for the acknowledgement of the one before; without it only speed is lost.
    let _ = stream.set_nodelay(true);
    let proxy = proxy.clone();
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.handle(request, peer).await) }
    });
    let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%peer, %error, "connection ended");
        }
    });
}

async fn pause(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

async fn drain(connections: GracefulShutdown, deadline: Duration) {
    let open = connections.count();
    if timeout(deadline, connections.shutdown()).await.is_err() {
        warn!(open, "ended with requests under way: the deadline for the end has passed");
    } else {
        info!("all requests are finished");
    }
}
