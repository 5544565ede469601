//! TLS to a database, with its certificate checked as PostgreSQL's own clients check it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The name of the protocol in ALPN, for connections that begin with TLS (`sslnegotiation=direct`).
const PROTOCOL: &[u8] = b"postgresql";

/// The certificates that a database may show.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trust {
    /// Any certificate: nobody can listen in, but another server can take the place of the database.
    Any,
    /// Certificates that these authorities have signed, for any name.
    Signed(Vec<TrustAnchor<'static>>),
    /// Certificates that these authorities have signed, for the host of the database.
    Named(Vec<TrustAnchor<'static>>),
}

/// Makes TLS of connections to a database, if the database has TLS and the mode in its URL wants it.
#[derive(Clone)]
pub(crate) struct DatabaseTls {
    trust: Trust,
    pub(super) connector: MakeRustlsConnect,
}

impl DatabaseTls {
    pub(crate) fn new(trust: Trust) -> Result<Self, String> {
        let verifier = Verifier::new(&trust).map_err(|error| error.to_string())?;
        let config = ClientConfig::builder_with_provider(verifier.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { trust, connector: MakeRustlsConnect::new(config) })
    }
}

impl PartialEq for DatabaseTls {
    fn eq(&self, other: &Self) -> bool {
        self.trust == other.trust
    }
}

/// Checks certificates by a [`Trust`].
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` if any certificate is accepted.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
}

impl Verifier {
    fn new(trust: &Trust) -> Result<Self, rustls::client::VerifierBuilderError> {
        let provider = Arc::new(ring::default_provider());
        let authorities = match trust {
            Trust::Any => None,
            Trust::Signed(roots) | Trust::Named(roots) => {
                let roots = Arc::new(RootCertStore { roots: roots.clone() });
                Some(WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?)
            }
        };
        Ok(Self { provider, authorities, checks_name: matches!(trust, Trust::Named(_)) })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(certificate, others, name, ocsp, now) {
            // rustls checks the name last, so everything else is in order.
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if !self.checks_name =>
            {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
