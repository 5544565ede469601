//! The connections under way, and their orderly end.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a connection on which nothing is asked is kept at the end: a request may be on its way to us.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// All connections of a server.
#[derive(Debug)]
pub(crate) struct Connections(watch::Sender<bool>);

/// The part of one connection in them.
#[derive(Debug)]
pub(crate) struct Place(watch::Receiver<bool>);

impl Connections {
    /// None so far.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// A place for one more.
    pub(crate) fn place(&self) -> Place {
        Place(self.0.subscribe())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.receiver_count()
    }

    /// Tells all of them to end, and waits until they have.
    pub(crate) async fn end(self) {
        self.0.send_replace(true);
        self.0.closed().await;
    }
}

impl Place {
    /// Serves a connection to its end. Told to end, it tells its client so with the next answer. A client that has just
    /// connected, or is about to ask, does not see its request fail: many a client sends none twice.
    pub(crate) async fn serve<A, R, B>(
        mut self,
        stream: TcpStream,
        http: &http1::Builder,
        answer: A,
    ) -> Result<(), hyper::Error>
    where
        A: Fn(Request<Incoming>) -> R,
        R: Future<Output = Response<B>>,
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    {
        let is_last = AtomicBool::new(false);
        let service = service_fn(|request| {
            let (answer, is_last) = (answer(request), &is_last);
            async move {
                let mut response = answer.await;
                if is_last.load(Ordering::Relaxed) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = &mut connection => return ended,
            () = self.told() => is_last.store(true, Ordering::Relaxed),
        }
        if let Ok(ended) = timeout(LAST_REQUEST, &mut connection).await {
            return ended;
        }
        // Closes it now if nothing is under way.
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    async fn told(&mut self) {
        // A server that is gone tells as well.
        let _ = self.0.wait_for(|told| *told).await;
    }
}
