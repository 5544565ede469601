//! Tunnels: a scripted origin behind a Unix socket or TLS, a client that speaks TLS, and the certificates of both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

/// Who signs the certificates of a test. Its files are removed at the end.
pub(crate) struct Authority {
    pub(crate) folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The time that clients check certificates by.
#[allow(clippy::disallowed_methods, reason = "clients have no other clock")]
pub(crate) fn today() -> SystemTime {
    SystemTime::now()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate that has the name of its issuer for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "Authority of the tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    /// The file of its own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names, in files that are called by the first.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_as(names[0], names, |_| {})
    }

    /// A certificate for these names, in files that are called so, changed before it is signed.
    pub(crate) fn issue_as(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let [cert_file, key_file] =
            ["crt", "key"].map(|kind| self.folder.path().join(format!("{file}.{kind}")));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        Pair { cert: cert_file, key: key_file }
    }

    /// Signs what a request for a certificate (PKCS #10) asks for, if it is for this name: from now on for 90 days. In PEM.
    pub(crate) fn sign(&self, name: &str, request: &[u8]) -> String {
        const LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
        let (_, request) = X509CertificationRequest::from_der(request).unwrap();
        let key =
            RequestedKey(request.certification_request_info.subject_pki.subject_public_key.data.to_vec());
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (today().into(), (today() + LIFE).into());
        params.signed_by(&key, &self.issuer).unwrap().pem()
    }

    /// A TLS connection to a server, which must show a certificate for this name. An address sends no name.
    pub(crate) async fn connect(
        &self,
        name: &str,
        protocols: &[&str],
        to: SocketAddr,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.shake_hands(name, protocols, TcpStream::connect(to).await?).await
    }

    /// The same on a connection that is made already.
    pub(crate) async fn shake_hands(
        &self,
        name: &str,
        protocols: &[&str],
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(self.roots()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|&protocol| protocol.into()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// An address whose connections are led on to a server by TLS.
    pub(crate) async fn leading_to(self: &Arc<Self>, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, authority) = (listener.local_addr().unwrap(), self.clone());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let authority = authority.clone();
                tokio::spawn(async move {
                    let mut server = authority.connect("127.0.0.1", &["http/1.1"], to).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        address
    }

    /// What clients trust.
    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        Arc::new(roots)
    }
}

/// The key in a request for a certificate.
struct RequestedKey(Vec<u8>);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Leads connections to a Unix socket on to a server.
pub(crate) fn unix(path: &Path, to: SocketAddr) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(lead(stream, to));
        }
    });
}

/// Leads TLS connections on to a server. Clients must show a certificate of this authority, if one is given.
pub(crate) async fn tls(pair: &Pair, clients_of: Option<&Authority>, to: SocketAddr) -> SocketAddr {
    let acceptor = acceptor(pair, clients_of);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    lead(stream, to).await;
                }
            });
        }
    });
    address
}

pub(crate) fn acceptor(pair: &Pair, clients_of: Option<&Authority>) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = match clients_of {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let provider = Arc::new(default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&pair.cert).unwrap()];
    let config = config.with_single_cert(chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap()).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn lead(mut stream: impl AsyncRead + AsyncWrite + Unpin, to: SocketAddr) {
    if let Ok(mut origin) = TcpStream::connect(to).await {
        let _ = copy_bidirectional(&mut stream, &mut origin).await;
    }
}
