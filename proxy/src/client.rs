//! An HTTP client of one request: it takes a stream, and the connection ends with the answer.

use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use hyper::client::conn::http1::handshake;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Sends a request over a stream, and reads its answer, whose body has at most `largest` bytes. The caller bounds the time.
pub(crate) async fn exchange<S, B>(
    stream: S,
    request: Request<B>,
    largest: usize,
) -> Result<Response<Bytes>, BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(innermost)?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let (head, body) = sender.send_request(request).await.map_err(innermost)?.into_parts();
    let body = Limited::new(body, largest).collect().await;
    let body = body.map_err(|error| format!("its body breaks: {}", innermost(error)))?.to_bytes();
    Ok(Response::from_parts(head, body))
}

/// The text of the error that caused this one: the outer ones only say that there is one.
fn innermost(error: impl Into<BoxError>) -> String {
    let error = error.into();
    let mut cause: &(dyn Error + 'static) = &*error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
