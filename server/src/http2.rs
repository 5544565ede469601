//! A connection that speaks HTTP/2. hyper reads and writes it, and gives each request to the handler, which decides on it like
//! on any other.
//!
//! A client can open a stream and reset it again at almost no cost (Rapid Reset). So a reset request keeps its place until the
//! handler has answered it, and resets are counted. `streams` says how much a client may do, `frames` counts small frames;
//! hyper and h2 bound the rest.

mod begun;
mod frames;
mod streams;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use hyper::body::Incoming;
use hyper::header::{COOKIE, HeaderMap};
use hyper::server::conn::http2::{self, Connection};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tracing::debug;

use crate::http1::connection::Start;
use crate::http1::scan::HeadFault;
use crate::limits::Admitted;
use crate::peer::Peer;
use crate::refused::Refused;
use crate::stopping::Stopping;
use crate::{Clients, Handler};
use begun::BegunStreams;
use frames::CountedFrames;
use streams::{OpenStream, Over, StreamBody, Streams};

/// The most requests of a connection at a time. Browsers suffer below 64.
const STREAMS: u32 = 100;

/// The bytes of a body that a client may send before its request has read any: of one stream, and of all streams.
const STREAM_WINDOW: u32 = 64 << 10;
const WINDOW: u32 = 1 << 20;

/// The bytes of an answer that may wait for the client, for each stream.
const SEND_BUFFER: usize = 256 << 10;

/// Limits for streams that were reset before the server looked at them, and for streams that the server itself had to reset.
const PENDING_RESETS: usize = 20;
const LOCAL_RESETS: usize = 200;

/// How often a silent client is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(10);

/// The time for the last frame and the end of TLS.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The error of a request whose stream is reset.
type StreamError = Box<dyn std::error::Error + Send + Sync>;

/// Serves a connection to its end.
pub(crate) async fn serve<I, H>(mut stream: I, start: Start<H>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let Start { peer, handler, mut clients, mut stopping, mut admitted } = start;
    // These hold until the end: HTTP/2 tells a client its limits at the beginning.
    let clients = clients.now().clone();
    let streams = Arc::new(Streams::new(STREAMS as usize));
    let service = service_fn(|request| {
        let (handler, clients, streams) = (handler.clone(), clients.clone(), streams.clone());
        answer(handler, request, peer, clients, streams)
    });
    let counted = TokioIo::new(CountedFrames::new(&mut stream, streams.clone()));
    let begun = BegunStreams::default();
    let connection = http(&clients, begun.clone()).serve_connection(counted, service);
    let place = (&begun, &*streams, &mut admitted);
    let ended = until_end(connection, Connection::graceful_shutdown, place, &mut stopping, &clients).await;
    debug!(%peer, ?ended, "HTTP/2 connection ended");
    let last_word = async {
        if let Err(reason) = ended {
            stream.write_all(&goaway(reason)).await?;
        }
        stream.shutdown().await
    };
    // A client that has gone, or does not read, hears nothing.
    let _ = timeout(LAST_WORD, last_word).await;
}

/// hyper, as it reads what comes from clients.
fn http(clients: &Clients, begun: BegunStreams) -> http2::Builder<BegunStreams> {
    let mut http = http2::Builder::new(begun);
    http.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
    http.max_concurrent_streams(STREAMS);
    http.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(WINDOW);
    http.max_send_buf_size(SEND_BUFFER);
    http.max_header_list_size(u32::try_from(clients.limits.head).unwrap_or(u32::MAX));
    http.max_pending_accept_reset_streams(PENDING_RESETS).max_local_error_reset_streams(LOCAL_RESETS);
    http
}

/// Runs until the connection has ended. An error is the reason why this server ends it.
async fn until_end<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    (begun, streams, admitted): (&BegunStreams, &Streams, &mut Admitted),
    stopping: &mut Stopping,
    clients: &Clients,
) -> Result<(), Reason> {
    let mut connection = pin!(connection);
    let deadlines = &clients.deadlines;
    tokio::select! {
        _ = told(connection.as_mut(), begun, streams, admitted) => return Ok(()),
        () = poll_fn(|cx| stopping.poll(cx)) => {}
        over = streams.over(deadlines.idle, deadlines.write) => match over {
            Over::Idle => streams.touch(),
            Over::Flood | Over::Stalled => return Err(Reason::ENHANCE_YOUR_CALM),
        },
    }
    // Requests under way go on, and requests that are still on their way are answered.
    shut_down(connection.as_mut());
    tokio::select! {
        _ = told(connection, begun, streams, admitted) => Ok(()),
        over = streams.over(deadlines.write, deadlines.write) => match over {
            Over::Idle => Err(Reason::NO_ERROR),
            Over::Flood | Over::Stalled => Err(Reason::ENHANCE_YOUR_CALM),
        },
    }
}

/// Runs a connection to its end. It counts as active as long as it has a stream. A stream that ends wakes it, so that it sends
/// the end.
async fn told<C: Future>(
    mut connection: Pin<&mut C>,
    begun: &BegunStreams,
    streams: &Streams,
    admitted: &mut Admitted,
) -> C::Output {
    poll_fn(|cx| {
        let mut ended = connection.as_mut().poll(cx);
        // The connection sends the answers of all streams that were begun at once with few calls.
        while begun.run(cx) && ended.is_pending() {
            ended = connection.as_mut().poll(cx);
        }
        admitted.set_active(streams.is_open());
        ended
    })
    .await
}

/// Answers the request of a stream. An error resets it.
async fn answer<H: Handler>(
    handler: Arc<H>,
    request: Request<Incoming>,
    peer: Peer,
    clients: Arc<Clients>,
    streams: Arc<Streams>,
) -> Result<Response<StreamBody<H::Body, H::Record>>, StreamError> {
    let stream = OpenStream::begin(&streams);
    if let Some(fault) = beyond(&request, &clients) {
        let refused = Refused::from(fault);
        handler.refused(refused, 0, peer);
        stream.end();
        return Err(h2::Error::from(Reason::ENHANCE_YOUR_CALM).into());
    }
    let is_head = *request.method() == Method::HEAD;
    let place = streams.place().await;
    let handled = async move {
        let answer = handler.handle(request, peer, None).await;
        drop(place);
        answer
    };
    let (response, record) = on_its_own(handled).await?;
    Ok(response.map(|body| StreamBody::new(body, record, stream, is_head)))
}

/// The limit that a head exceeds, if there is one.
fn beyond(request: &Request<Incoming>, clients: &Clients) -> Option<HeadFault> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    match () {
        () if target > clients.limits.request_line => Some(HeadFault::TargetTooLong),
        () if lines(request.headers()) > clients.limits.headers => Some(HeadFault::TooMany),
        () => None,
    }
}

/// The number of header lines. A client may have split the line of its cookies (RFC 9113 §8.2.3).
fn lines(headers: &HeaderMap) -> usize {
    headers.len() - headers.get_all(COOKIE).iter().count().saturating_sub(1)
}

/// The output of a future that runs to its end even if this one is dropped. A future that is ready at once needs no task.
async fn on_its_own<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, StreamError> {
    let mut future = Box::pin(future);
    match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Ok(tokio::spawn(future).await?),
    }
}

/// The frame that ends a connection, for a reason that hyper cannot give.
fn goaway(reason: Reason) -> [u8; 17] {
    const HEAD: [u8; 13] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    let mut frame = [0; 17];
    frame[..HEAD.len()].copy_from_slice(&HEAD);
    frame[HEAD.len()..].copy_from_slice(&u32::from(reason).to_be_bytes());
    frame
}
