//! The connections of operators, on a thread of their own.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use server::{Seldom, granted_files};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::warn;

use super::AdminServer;
use crate::config::{Admin, AdminAddress};
use crate::store::Store;

/// The most connections at a time. A further one closes the oldest idle connection.
const CONNECTIONS: usize = 1000;

/// Operators get this part of the files that may be open, since clients need the most.
const PART_OF_FILES: usize = 8;

/// The time for the head of a request, and between two requests.
const HEAD: Duration = Duration::from_secs(5);

/// The largest head.
const HEAD_BYTES: usize = 32 << 10;

/// How long to wait when no connection can be accepted, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The taken address, before connections are accepted.
#[derive(Debug)]
pub struct AdminPort {
    listener: UnservedSocket,
    at: AdminAddress,
}

/// A socket that is not registered with a runtime yet.
#[derive(Debug)]
enum UnservedSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

enum AdminSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listener that accepts connections. Dropping it ends that.
pub struct RunningAdmin<S> {
    server: Arc<AdminServer<S>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminPort {
    /// Listens on the address. The error says why that is not possible, and which flag names another address.
    pub fn bind(admin: &Admin) -> Result<Self, String> {
        const FLAG: &str = "--admin (PROXY_ADMIN)";
        let fault = |error: io::Error| format!("cannot listen on {}: {error}", admin.listen);
        let (listener, at) = match &admin.listen {
            AdminAddress::Tcp(address) => {
                let (listener, address) = server::bind(*address, FLAG)?;
                (listener.into_std().map(UnservedSocket::Tcp), AdminAddress::Tcp(address))
            }
            AdminAddress::Unix(path) => {
                let listener = server::bind_file(path, FLAG)?;
                (listener.into_std().map(UnservedSocket::Unix), AdminAddress::Unix(path.clone()))
            }
        };
        Ok(Self { listener: listener.map_err(fault)?, at })
    }

    /// Where it is.
    pub fn address(&self) -> &AdminAddress {
        &self.at
    }

    /// Accepts connections on a thread of its own.
    pub fn serve<S: Store>(self, admin: AdminServer<S>) -> io::Result<RunningAdmin<S>> {
        let server = Arc::new(admin);
        let admin = server.clone();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let listener = {
            let _context = runtime.enter();
            match self.listener {
                UnservedSocket::Tcp(listener) => AdminSocket::Tcp(TcpListener::from_std(listener)?),
                UnservedSocket::Unix(listener) => AdminSocket::Unix(UnixListener::from_std(listener)?),
            }
        };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(&listener, &admin) => (),
                    // The sender is dropped to stop the thread.
                    _ = stopped => (),
                }
            });
        })?;
        Ok(RunningAdmin { server, stop: Some(stop), thread: Some(thread) })
    }
}

impl<S: Store> RunningAdmin<S> {
    /// From now on `/readyz` says that the proxy drains.
    pub fn drain(&self) {
        self.server.drain();
    }
}

impl<S> Drop for RunningAdmin<S> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has logged it.
            let _ = thread.join();
        }
    }
}

async fn accept<S: Store>(listener: &AdminSocket, admin: &Arc<AdminServer<S>>) {
    let (mut connections, faults) = (Visits::new(), Seldom::new());
    loop {
        let accepted = match listener {
            AdminSocket::Tcp(listener) => {
                listener.accept().await.map(|(stream, _)| connections.start(stream, admin))
            }
            AdminSocket::Unix(listener) => {
                listener.accept().await.map(|(stream, _)| connections.start(stream, admin))
            }
        };
        if let Err(error) = accepted {
            if let Some(left_out) = faults.turn("accept") {
                warn!(%error, left_out, "cannot accept a connection of an operator");
            }
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// The connections that are open. Dropping it closes them.
struct Visits {
    most: usize,
    tasks: JoinSet<()>,
    /// In the order of their arrival.
    open: VecDeque<Visit>,
}

struct Visit {
    task: AbortHandle,
    /// Whether a request is being answered.
    is_busy: Arc<AtomicBool>,
}

impl Visits {
    fn new() -> Self {
        let most = granted_files().map_or(CONNECTIONS, |files| CONNECTIONS.min(files / PART_OF_FILES));
        Self { most: most.max(1), tasks: JoinSet::new(), open: VecDeque::new() }
    }

    fn start<S: Store>(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        admin: &Arc<AdminServer<S>>,
    ) {
        while self.tasks.try_join_next().is_some() {}
        if self.open.len() >= self.most && !self.make_room() {
            return;
        }
        let is_busy = Arc::new(AtomicBool::new(false));
        let task = self.tasks.spawn(converse(stream, admin.clone(), is_busy.clone()));
        self.open.push_back(Visit { task, is_busy });
    }

    /// Forgets the connections that have ended. If none has ended, closes the oldest idle one. Returns whether there is room.
    fn make_room(&mut self) -> bool {
        self.open.retain(|connection| !connection.task.is_finished());
        if self.open.len() < self.most {
            return true;
        }
        let idle = self.open.iter().position(|connection| !connection.is_busy.load(Ordering::Relaxed));
        let Some(oldest) = idle.and_then(|at| self.open.remove(at)) else { return false };
        oldest.task.abort();
        true
    }
}

async fn converse<S: Store>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    admin: Arc<AdminServer<S>>,
    is_busy: Arc<AtomicBool>,
) {
    let service = service_fn(|request| async {
        is_busy.store(true, Ordering::Relaxed);
        let response = admin.answer(request).await;
        is_busy.store(false, Ordering::Relaxed);
        response
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    // A slow client, or one that breaks off, is no fault of the proxy.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
