//! Properties of the readers, for any bytes. `fuzz/` looks for bytes that violate them, and the tests here replay its corpus.

mod entrance;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use hyper::body::{Body as _, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri, Version};
use tokio::runtime::{Builder, Runtime};

use crate::http1::exchange::http;
use crate::http1::head::RequestHead;
use crate::http1::scan::{HeadFault, Heads};
use crate::http1::target::HiddenBytes;
use crate::limits::ClientLimits;
use crate::{ClientDeadlines, Clients};
pub use entrance::{frames, hello, proxied};

const LIMITS: ClientLimits =
    ClientLimits { request_line: 64, head: 512, headers: 8, connections: 1, connections_per_address: 0 };

/// Heads end, or are refused, in the same way however their bytes are split. Bytes that count as one head are one request. The
/// first byte says how many bytes come together.
pub fn heads(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    assert_eq!(taken(bytes, usize::from(size).max(1)), taken(bytes, bytes.len().max(1)));
}

fn taken(bytes: &[u8], size: usize) -> Result<(u64, bool), HeadFault> {
    let mut heads = Heads::new(LIMITS, HiddenBytes::default());
    bytes
        .to_vec()
        .chunks_mut(size)
        .try_for_each(|piece| heads.take(piece))
        .map_err(|(_, refusal)| refusal)?;
    Ok((heads.ended(), heads.is_within()))
}

/// hyper reads every head that the front reads as one request, the same one, without a body, and keeps the connection open.
/// The limits of hyper's requests hold for the front's.
pub fn front(bytes: &[u8]) {
    let clients = Clients { deadlines: ClientDeadlines::default(), limits: ClientLimits::default() };
    for limits in [LIMITS, clients.limits] {
        if RequestHead::read(bytes, &limits).is_some() {
            let (mut heads, mut seen) = (Heads::new(limits, HiddenBytes::default()), bytes.to_vec());
            assert_eq!(heads.take(&mut seen), Ok(()));
            assert_eq!(seen, bytes);
            assert_eq!((heads.ended(), heads.is_within()), (1, false));
        }
    }
    if let Some(head) = RequestHead::read(bytes, &clients.limits) {
        let [request, next] = read_by_hyper(bytes, &clients);
        assert_same(&head, &request);
        assert_eq!(next.uri(), NEXT_TARGET);
    }
}

/// A request that follows the head under test.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n";
const NEXT_TARGET: &str = "/next";

thread_local! {
    /// hyper's timers are set on it, and never ring: nothing runs on it.
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// The two requests that hyper reads from a head and the one behind it.
fn read_by_hyper(bytes: &[u8], clients: &Clients) -> [Request<Incoming>; 2] {
    RUNTIME.with(|runtime| {
        let _entered = runtime.enter();
        let requests = RefCell::new(Vec::new());
        let service = service_fn(|request| {
            requests.borrow_mut().push(request);
            ready(Ok::<_, Infallible>(Response::new(String::new())))
        });
        let wire = Wire { unread: [bytes, NEXT].concat(), written: Vec::new() };
        let mut connection = http(clients).serve_connection(wire, service);
        let polled = Pin::new(&mut connection).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "{polled:?}");
        let parts = connection.into_parts();
        assert!(parts.io.unread.is_empty() && parts.read_buf.is_empty());
        assert_eq!(parts.io.written.windows(4).filter(|four| four == b"\r\n\r\n").count(), 2);
        requests.take().try_into().expect("two requests")
    })
}

fn assert_same(head: &RequestHead<'_>, request: &Request<Incoming>) {
    let target = head.target();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    assert_eq!((head.method(), Version::HTTP_11), (request.method(), request.version()));
    assert_eq!((path, query), (request.uri().path(), request.uri().query()));
    assert_eq!(target.parse::<Uri>().ok().as_ref(), Some(request.uri()));
    assert_eq!(target, request.uri().to_string());
    assert_eq!(head.lines().count(), request.headers().len());
    for name in request.headers().keys() {
        let values = request.headers().get_all(name).iter().map(|value| value.as_bytes());
        assert!(head.values(name.as_str()).eq(values), "{name}");
    }
    // An upgrade would leave its extension here.
    assert!(request.body().is_end_stream() && request.extensions().is_empty());
}

/// A connection in memory. Its client has sent everything, and stays connected.
struct Wire {
    unread: Vec<u8>,
    written: Vec<u8>,
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Poll::Pending;
        }
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn replay(target: &str, property: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = fs::read_dir(folder).unwrap();
        assert!(files.map(|file| property(&fs::read(file.unwrap().path()).unwrap())).count() > 0);
    }

    #[test]
    fn the_fuzzing_corpus_violates_no_property() {
        replay("heads", heads);
        replay("front", front);
        replay("proxied", proxied);
        replay("hello", hello);
        replay("frames", frames);
    }

    #[test]
    fn the_front_reads_what_browsers_send() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/front");
        for browser in ["seed-chromium", "seed-firefox", "seed-curl", "seed-safari"] {
            let bytes = fs::read(folder.join(browser)).unwrap();
            assert!(RequestHead::read(&bytes, &ClientLimits::default()).is_some(), "{browser}");
        }
    }
}
