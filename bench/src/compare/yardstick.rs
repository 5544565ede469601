//! Yardsticks: servers that do nothing but answer, to know how far from the bare limit a cache is.
//!
//! `raw` reads until a request's blank line and writes a prepared buffer: what tokio and the kernel cost. `hyper` answers
//! the same from memory: what HTTP costs on top. Both run as the proxy does, a runtime a core.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use server::Workers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What answers.
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
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n");
    let answer = Bytes::from([head.as_bytes(), &body].concat());
    loop {
        // One that is gone before it was accepted ends nothing but itself.
        let Ok(stream) = listener.accept().await.and_then(|(stream, _)| stream.into_std()) else { continue };
        let _ = stream.set_nodelay(true);
        let (answer, body) = (answer.clone(), body.clone());
        workers.next().spawn(async move {
            let stream = TcpStream::from_std(stream)?;
            match kind {
                Kind::Raw => raw(stream, &answer).await,
                Kind::Hyper => hyper(stream, body).await,
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

async fn hyper(stream: TcpStream, body: Bytes) -> io::Result<()> {
    let service = service_fn(|_: Request<hyper::body::Incoming>| {
        let mut response = Response::new(Full::new(body.clone()));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}
