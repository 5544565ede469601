//! Asks the admin listener of the proxy that runs here.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{Admin, AdminAddress};

/// Longer than any answer of the listener takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Posts a body to a path of the admin listener that the settings name. Returns its answer.
pub async fn post(admin: &Admin, path: &str, body: String) -> Result<(StatusCode, String), String> {
    let away = |error: std::io::Error| format!("cannot ask the proxy at {}: {error}", admin.listen);
    let asked = async {
        match &admin.listen {
            AdminAddress::Tcp(address) => {
                exchange(TcpStream::connect(address).await.map_err(away)?, admin, path, body).await
            }
            AdminAddress::Unix(file) => {
                exchange(UnixStream::connect(file).await.map_err(away)?, admin, path, body).await
            }
        }
    };
    let silent =
        |_| Err(format!("the proxy at {} gives no answer within {} s", admin.listen, PATIENCE.as_secs()));
    timeout(PATIENCE, asked).await.unwrap_or_else(silent)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    admin: &Admin,
    path: &str,
    body: String,
) -> Result<(StatusCode, String), String> {
    let broken = |error: hyper::Error| format!("the connection to {} broke: {error}", admin.listen);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its fault comes with the answer, too.
    tokio::spawn(async { drop(connection.await) });
    let host = match &admin.listen {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(_) => "localhost".to_owned(),
    };
    let mut request = Request::post(path).header(HOST, host);
    if let Some(token) = &admin.token {
        request = request.header(AUTHORIZATION, token.credentials());
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
