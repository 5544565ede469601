//! TLS to Redis, whose nodes may have many names.

use std::io;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::tls::{TlsClient, TlsFiles};

/// How the proxy verifies a node, and the certificate that it shows.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    client: TlsClient,
    /// Whether the certificate must have the name in the settings, instead of that of the host.
    has_name: bool,
}

impl Tls {
    /// TLS with these files. `server_name` is the name that certificates must have, if it is not that of the host.
    pub(super) fn new(files: TlsFiles<'_>, server_name: Option<&str>) -> Result<Self, String> {
        let client = TlsClient::new(server_name.unwrap_or("localhost"), files, &[])?;
        Ok(Self { client, has_name: server_name.is_some() })
    }

    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        match self.has_name {
            true => self.client.connect(stream).await,
            false => self.client.named(host)?.connect(stream).await,
        }
    }
}
