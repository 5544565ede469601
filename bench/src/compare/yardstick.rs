//! Yardsticks: servers that only answer, to show how far a cache is from the limit.
//!
//! `raw` reads until a request's blank line and writes a prepared buffer, which shows the cost of tokio and the kernel.
//! `hyper` answers the same from memory, which adds the cost of HTTP. Both run one runtime on each core, as the proxy does.
//!
//! `hyper` is also the origin of the caches: it answers any path, its pages below `/varies` vary, one has validators, and it
//! counts requests.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_RANGES, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use server::Workers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(10);

/// The kind of yardstick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Raw,
    Hyper,
}

/// Serves a body of this many bytes until the process is ended.
pub(crate) fn serve(kind: Kind, listen: SocketAddr, size: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(accept(kind, listen, size))
}

async fn accept(kind: Kind, listen: SocketAddr, size: usize) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let workers = Workers::one_a_core()?;
    println!("yardstick listening on http://{}", listener.local_addr()?);
    let body = Bytes::from(vec![b'x'; size]);
    let origin = Arc::new(Origin { body: body.clone(), requests: AtomicU64::new(0) });
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n");
    let answer = Bytes::from([head.as_bytes(), &body].concat());
    loop {
        // A connection that ends before it is accepted does not end the server. A lack of file descriptors lasts.
        let Ok(stream) = listener.accept().await.and_then(|(stream, _)| stream.into_std()) else {
            sleep(PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (answer, origin) = (answer.clone(), origin.clone());
        workers.next().spawn(async move {
            let stream = TcpStream::from_std(stream)?;
            match kind {
                Kind::Raw => raw(stream, &answer).await,
                Kind::Hyper => hyper(stream, origin).await,
            }
        });
    }
}

async fn raw(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    while stream.read_buf(&mut buffer).await? > 0 {
        if buffer.ends_with(b"\r\n\r\n") {
            stream.write_all(answer).await?;
            buffer.clear();
        }
    }
    Ok(())
}

async fn hyper(stream: TcpStream, origin: Arc<Origin>) -> io::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        std::future::ready(Ok::<_, Infallible>(origin.answer(request.uri().path())))
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}

/// The path of a page with validators, of which nginx gives parts, too.
pub(crate) const VALIDATED: &str = "/page-validated";

/// The path where `hyper` answers with the number of its requests.
pub(crate) const COUNT: &str = "/count";

#[derive(Debug)]
struct Origin {
    body: Bytes,
    requests: AtomicU64,
}

impl Origin {
    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        if path == COUNT {
            return Response::new(Full::from(self.requests.load(Ordering::Relaxed).to_string()));
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(Full::new(self.body.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if path.starts_with("/varies") {
            headers.insert(VARY, HeaderValue::from_static("Accept, Cookie"));
        }
        if path == VALIDATED {
            headers.insert(ETAG, HeaderValue::from_static("\"page\""));
            headers.insert(LAST_MODIFIED, HeaderValue::from_static("Sun, 22 Nov 2026 20:09:06 GMT"));
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_counts_its_requests_and_marks_pages_that_vary() {
        let origin = Origin { body: Bytes::from_static(b"page"), requests: AtomicU64::new(0) };
        let vary = |path| origin.answer(path).headers().get(VARY).cloned();
        assert_eq!([vary("/page"), vary("/pages/7"), vary("/pass")], [None, None, None]);
        assert_eq!(
            [vary("/varies"), vary("/varies/7")],
            [const { Some(HeaderValue::from_static("Accept, Cookie")) }; 2]
        );
        assert_eq!(vary(COUNT), None);
        assert_eq!(origin.requests.into_inner(), 5);
    }
}
