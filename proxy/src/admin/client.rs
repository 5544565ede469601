//! Asks the admin listener of the running proxy.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::client::exchange;
use crate::config::{Admin, AdminAddress};

/// No answer of the listener takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// No answer of the listener is longer.
const LARGEST: usize = 16 << 20;

/// Posts a body to a path of the admin listener that the settings name. Returns its answer.
pub async fn post(admin: &Admin, path: &str, body: String) -> Result<(StatusCode, String), String> {
    let away = |error: std::io::Error| format!("cannot ask the proxy at {}: {error}", admin.listen);
    let request = request(admin, path, body)?;
    let asked = async {
        match &admin.listen {
            AdminAddress::Tcp(address) => {
                Ok(exchange(TcpStream::connect(address).await.map_err(away)?, request, LARGEST).await)
            }
            AdminAddress::Unix(file) => {
                Ok(exchange(UnixStream::connect(file).await.map_err(away)?, request, LARGEST).await)
            }
        }
    };
    let silent =
        |_| Err(format!("the proxy at {} gives no answer within {} s", admin.listen, PATIENCE.as_secs()));
    let answer = timeout(PATIENCE, asked).await.unwrap_or_else(silent)?;
    let answer = answer.map_err(|error| format!("the connection to {} broke: {error}", admin.listen))?;
    Ok((answer.status(), String::from_utf8_lossy(answer.body()).into_owned()))
}

fn request(admin: &Admin, path: &str, body: String) -> Result<Request<Full<Bytes>>, String> {
    let host = match &admin.listen {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(_) => "localhost".to_owned(),
    };
    let mut request = Request::post(path).header(HOST, host);
    if let Some(token) = &admin.token {
        request = request.header(AUTHORIZATION, token.credentials());
    }
    request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())
}
