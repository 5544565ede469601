//! TLS as a client: the authorities to trust, the certificate to show, and the name that the server must have.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The files of a TLS client. Each is empty if the setting is not given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlsFiles<'a> {
    /// The certificates to trust, in place of those that the system trusts.
    pub(crate) ca: &'a str,
    /// The certificate to show, followed by those that sign it.
    pub(crate) certificate: &'a str,
    /// The key of that certificate.
    pub(crate) key: &'a str,
}

/// Makes TLS of a connection to one server.
#[derive(Clone)]
pub(crate) struct TlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsClient {
    /// TLS to a server of this name or address. The server speaks one of these protocols (ALPN), if there are any.
    pub(crate) fn new(server: &str, files: TlsFiles<'_>, protocols: &[&[u8]]) -> Result<Self, String> {
        let name = ServerName::try_from(server.to_owned())
            .map_err(|_| format!("{server:?} is neither a name nor an address"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(files.ca)?);
        let mut config = match (files.certificate, files.key) {
            ("", "") => config.with_no_client_auth(),
            ("", _) | (_, "") => return Err("a certificate and a key belong together: give both".to_owned()),
            (certificate, key) => config
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| format!("{certificate} and {key}: {error}"))?,
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// The same client for a server of another name or address.
    pub(crate) fn named(&self, server: &str) -> io::Result<Self> {
        let name = ServerName::try_from(server.to_owned()).map_err(io::Error::other)?;
        Ok(Self { connector: self.connector.clone(), name })
    }

    /// Makes TLS of a connection.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsClient({:?})", self.name)
    }
}

/// The certificates to trust: those in a file, or those that the system trusts.
pub(crate) fn roots(file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match file {
        "" => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            match roots.is_empty() {
                true => Err(
                    "the system has no certificates to trust: install ca-certificates, or set SSL_CERT_FILE"
                        .to_owned(),
                ),
                false => Ok(roots),
            }
        }
        file => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("{file}: {error}"))?;
            }
            Ok(roots)
        }
    }
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(format!("{file} holds no certificate in PEM")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{file} cannot be read: {error}")),
    }
}

fn private_key(file: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("{file} holds no key in PEM: {error}"))
}
