//! The connections under way, and their orderly end.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// A client that has connected sends its request at once. One that has sent nothing by then has only connected.
const FIRST_BYTES: Duration = Duration::from_secs(1);

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
    /// Serves a connection to its end. Told to end, it answers what was asked and closes.
    ///
    /// * A connection on which no request has come yet is given a moment: its client has just connected and would see its
    ///   first request fail, which is not sent again as one on an old connection is.
    /// * What has come is read before the order to end is heard.
    pub(crate) async fn serve<S, B>(
        mut self,
        stream: TcpStream,
        http: &http1::Builder,
        service: S,
        first: Duration,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    {
        self.first_bytes(&stream, first).await?;
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = &mut connection => return Ok(ended?),
            () = self.told() => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }

    async fn first_bytes(&mut self, stream: &TcpStream, deadline: Duration) -> io::Result<()> {
        tokio::select! {
            biased;
            readable = timeout(deadline, stream.readable()) => return readable?,
            () = self.told() => {}
        }
        timeout(deadline.min(FIRST_BYTES), stream.readable()).await?
    }

    async fn told(&mut self) {
        // A server that is gone has told everybody before.
        let _ = self.0.wait_for(|told| *told).await;
    }
}
