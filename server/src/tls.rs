//! TLS towards clients: the certificates, by the name that a client asks for, and the handshake.

mod issued;

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{Acceptor, ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{interval, timeout};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tracing::{info, warn};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

pub use issued::{ChallengeProof, FoundProof, IssuedCertificates, NamedCertificate, Validity};

use issued::{VALIDATION, validated_name};

/// HTTP/2, if the client speaks it.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How often the change times of the files are checked.
const LOOK: Duration = Duration::from_secs(60);

/// The most handshakes of a listener at a time. Clients that begin a handshake and do not end it take no place from
/// connections that are served.
const HANDSHAKES: usize = 4096;

/// The files of a certificate chain and of its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by the certificates that sign it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The certificates of a listener. New ones replace old ones while it serves; existing connections keep theirs.
#[derive(Debug)]
pub struct Certificates {
    loaded: RwLock<Arc<Loaded>>,
    /// The certificates that an authority issues, for names that no file has.
    issued: Option<Arc<IssuedCertificates>>,
}

/// Certificates as they were read.
#[derive(Debug)]
struct Loaded {
    files: Vec<CertificateFiles>,
    /// When each file was last changed, before it was read.
    changed: Vec<Option<SystemTime>>,
    keys: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads the files. The error has the faults of all of them.
    pub fn load(files: Vec<CertificateFiles>) -> Result<Self, Vec<String>> {
        Loaded::read(files).map(|loaded| Self { loaded: RwLock::new(Arc::new(loaded)), issued: None })
    }

    /// Adds the certificates that an authority issues.
    #[must_use]
    pub fn and(self, issued: Option<Arc<IssuedCertificates>>) -> Self {
        Self { issued, ..self }
    }

    /// Whether an authority issues some of them.
    pub fn are_issued(&self) -> bool {
        self.issued.is_some()
    }

    /// Replaces these certificates by those of `other`.
    pub fn replace(&self, other: &Self) {
        let loaded = other.loaded();
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }

    /// Reads the files anew if one of them has changed. If a file has a fault, the certificates stay as they are.
    pub fn refresh(&self) {
        let now = self.loaded();
        if changed(&now.files) == now.changed {
            return;
        }
        match Loaded::read(now.files.clone()) {
            Ok(loaded) => {
                let mut shown = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
                // A reload may have replaced them meanwhile.
                if Arc::ptr_eq(&shown, &now) {
                    info!(certificates = loaded.keys.len(), "certificates replaced");
                    *shown = Arc::new(loaded);
                }
            }
            Err(faults) => warn!(faults = faults.join("; "), "certificates kept: the new ones have faults"),
        }
    }

    /// Checks from time to time whether the files have changed.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            self.refresh();
        }
    }

    /// The file of each certificate, or its name if it was issued, and when the certificate expires, in seconds since 1970.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        let loaded = self.loaded();
        let files = loaded.files.iter().map(|pair| pair.cert.display().to_string());
        // A certificate that clients cannot read either has no known end.
        let of_files = files.zip(&loaded.keys).filter_map(|(file, key)| Some((file, expiry(key)?)));
        of_files.chain(self.issued.iter().flat_map(|issued| issued.expiries())).collect()
    }

    /// Why clients refuse certificates at this time, in seconds since 1970.
    pub fn flaws(&self, now: i64) -> Vec<String> {
        let loaded = self.loaded();
        let pairs = loaded.files.iter().zip(&loaded.keys);
        pairs.filter_map(|(pair, key)| Some(format!("{} {}", pair.cert.display(), flaw(key, now)?))).collect()
    }

    fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    /// The first certificate for the name. A client that names no server gets the first certificate of all. Other names are
    /// refused, and so is an authority that validates a name without a proof.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let issued = self.issued.as_ref();
        if let Some(issued) = issued
            && hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == VALIDATION))
        {
            return issued.proof(&hello);
        }
        let loaded = self.loaded();
        let Some(name) = hello.server_name() else {
            return loaded.keys.first().cloned().or_else(|| issued?.first());
        };
        let of_name = ServerName::try_from(name).ok()?;
        let of_files = loaded.keys.iter().find(|key| is_for(key, &of_name)).cloned();
        of_files.or_else(|| issued?.certificate(&name.to_ascii_lowercase()))
    }
}

/// Whether a certificate is for a name, as clients would check it.
fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    certificate.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// When a certificate expires, in seconds since 1970.
fn expiry(key: &CertifiedKey) -> Option<i64> {
    Some(parsed(key)?.validity().not_after.timestamp())
}

/// The certificate itself, if it can be read.
fn parsed(key: &CertifiedKey) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(key.cert.first()?).ok().map(|(_, certificate)| certificate)
}

/// Why clients refuse a certificate, if they do.
fn flaw(key: &CertifiedKey, now: i64) -> Option<String> {
    let certificate = parsed(key)?;
    let validity = certificate.validity();
    match certificate.subject_alternative_name() {
        _ if validity.not_after.timestamp() < now => Some(format!("has expired on {}", validity.not_after)),
        _ if validity.not_before.timestamp() > now => {
            Some(format!("is valid from {} on", validity.not_before))
        }
        Ok(None) => Some("names no host: it has no subjectAltName".to_owned()),
        _ => None,
    }
}

impl Loaded {
    fn read(files: Vec<CertificateFiles>) -> Result<Self, Vec<String>> {
        let changed = changed(&files);
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        for pair in &files {
            match certified(pair) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(Self { files, changed, keys }) } else { Err(faults) }
    }
}

fn changed(files: &[CertificateFiles]) -> Vec<Option<SystemTime>> {
    let paths = files.iter().flat_map(|pair| [&pair.cert, &pair.key]);
    paths.map(|path| fs::metadata(path).and_then(|file| file.modified()).ok()).collect()
}

fn certified(files: &CertificateFiles) -> Result<CertifiedKey, String> {
    let CertificateFiles { cert, key } = files;
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| format!("{} cannot be read: {error}", cert.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate in PEM", cert.display()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("{} holds no key in PEM: {error}", key.display()))?;
    CertifiedKey::from_der(chain, secret, &default_provider())
        .map_err(|error| format!("{} and {}: {error}", cert.display(), key.display()))
}

/// Makes TLS of the connections of a listener.
#[derive(Clone)]
pub(crate) struct Handshakes {
    acceptor: TlsAcceptor,
    issued: Option<Arc<IssuedCertificates>>,
    places: Arc<Semaphore>,
}

impl Handshakes {
    /// Creates the state for these certificates.
    pub(crate) fn new(certificates: Arc<Certificates>) -> io::Result<Self> {
        let issued = certificates.issued.clone();
        let acceptor = TlsAcceptor::from(Arc::new(Self::config(certificates)?));
        Ok(Self { acceptor, issued, places: Arc::new(Semaphore::new(HANDSHAKES)) })
    }

    /// TLS as this server speaks it.
    pub(crate) fn config(certificates: Arc<Certificates>) -> io::Result<ServerConfig> {
        let validates = certificates.are_issued().then_some(VALIDATION);
        let protocols = PROTOCOLS.into_iter().chain(validates);
        let mut config = Self::showing(certificates, protocols)?;
        config.ticketer = Ticketer::new().map_err(io::Error::other)?;
        Ok(config)
    }

    fn showing(
        certificates: Arc<dyn ResolvesServerCert>,
        protocols: impl Iterator<Item = &'static [u8]>,
    ) -> io::Result<ServerConfig> {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        // Early data stays off, which is the default: an attacker could send it again.
        let mut config = config.with_no_client_auth().with_cert_resolver(certificates);
        config.alpn_protocols = protocols.map(<[u8]>::to_vec).collect();
        Ok(config)
    }

    /// Makes TLS of a connection within this time, if a place for a handshake is free.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        patience: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let _place =
            self.places.try_acquire().map_err(|_| io::Error::other("too many handshakes at once"))?;
        match self.issued.as_ref().filter(|issued| issued.is_shared()) {
            Some(issued) => timeout(patience, self.accept_in_fleet(issued, stream)).await?,
            None => timeout(patience, self.acceptor.accept(stream)).await?,
        }
    }

    /// The same where the authority may ask for a proof that another process has given.
    async fn accept_in_fleet(
        &self,
        issued: &IssuedCertificates,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = validated_name(&begun.client_hello());
        let proof = match name {
            Some(name) => issued.proof_elsewhere(name).await,
            None => None,
        };
        let config = match proof {
            Some(proof) => Arc::new(Self::showing(proof.resolver(), [VALIDATION].into_iter())?),
            None => self.acceptor.config().clone(),
        };
        begun.into_stream(config).await
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshakes")
    }
}

/// Whether the client speaks HTTP/2 on this connection.
pub(crate) fn speaks_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0])
}

/// Whether the client is an authority that only validates a name, and sends no request.
pub(crate) fn is_validation(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(VALIDATION)
}
