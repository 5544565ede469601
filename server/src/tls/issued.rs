//! Certificates that an authority issues while the server serves, and the certificates that prove to it that a name is ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use tracing::warn;

use super::{is_for, parsed};

/// The protocol of a connection by which an authority validates a name (RFC 8737). No request comes over it.
pub(super) const VALIDATION: &[u8] = b"acme-tls/1";

/// The certificates that an authority issues, one for each name. All listeners that show them share them.
#[derive(Debug)]
pub struct IssuedCertificates(BTreeMap<String, IssuedName>);

/// The certificates that are shown for a name.
#[derive(Debug)]
struct IssuedName {
    certificate: ArcSwapOption<CertifiedKey>,
    /// The certificate that answers a challenge, while there is one.
    proof: ArcSwapOption<CertifiedKey>,
    /// Whether the log has said that a client was refused.
    is_missed: Once,
}

/// The time for which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its beginning.
    pub from: SystemTime,
    /// Its end.
    pub until: SystemTime,
}

/// A certificate that was read, and that is for the name it was read for.
#[derive(Clone, Debug)]
pub struct NamedCertificate {
    key: Arc<CertifiedKey>,
    /// When it is valid.
    pub validity: Validity,
}

impl NamedCertificate {
    /// Reads a certificate for this name, with those that it is signed by and with its key, from PEM.
    pub fn read(name: &str, pem: &[u8]) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("no certificate in PEM: {error}"))?;
        let secret = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("no key in PEM: {error}"))?;
        let key = CertifiedKey::from_der(chain, secret, &default_provider());
        let key = key.map_err(|error| error.to_string())?;
        let server_name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        if !is_for(&key, &server_name) {
            return Err(format!("the certificate is not for {name}"));
        }
        let validity = validity(&key).ok_or("the certificate has no end that can be read")?;
        Ok(Self { key: Arc::new(key), validity })
    }
}

impl IssuedCertificates {
    /// The state for these names, none of which has a certificate yet.
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        let empty = || IssuedName {
            certificate: ArcSwapOption::empty(),
            proof: ArcSwapOption::empty(),
            is_missed: Once::new(),
        };
        Self(names.into_iter().map(|name| (name, empty())).collect())
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Shows this certificate from now on. Existing connections keep the old one.
    pub fn replace(&self, name: &str, certificate: NamedCertificate) {
        if let Some(issued) = self.0.get(name) {
            issued.certificate.store(Some(certificate.key));
        }
    }

    /// Shows this certificate to the authority that validates the name.
    pub fn prove(
        &self,
        name: &str,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), String> {
        let key = default_provider().key_provider.load_private_key(key).map_err(|error| error.to_string())?;
        // Its key is not compared: rustls does not read a certificate with the extension that a proof must have.
        let proof = CertifiedKey::new(vec![certificate], key);
        if let Some(issued) = self.0.get(name) {
            issued.proof.store(Some(Arc::new(proof)));
        }
        Ok(())
    }

    /// Refuses connections that validate the name.
    pub fn end_proof(&self, name: &str) {
        if let Some(issued) = self.0.get(name) {
            issued.proof.store(None);
        }
    }

    /// Each name that has a certificate, and when the certificate ends.
    pub(super) fn expiries(&self) -> impl Iterator<Item = (String, i64)> {
        self.0.iter().filter_map(|(name, issued)| {
            let key = issued.certificate.load_full()?;
            Some((name.clone(), parsed(&key)?.validity().not_after.timestamp()))
        })
    }

    /// The certificate for a name. The log says once that there is none yet.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let issued = self.0.get(name)?;
        let key = issued.certificate.load_full();
        if key.is_none() {
            issued.is_missed.call_once(|| warn!(name, "clients are refused: no certificate was issued yet"));
        }
        key
    }

    /// The first certificate of all names, for clients that name no server.
    pub(super) fn first(&self) -> Option<Arc<CertifiedKey>> {
        self.0.values().find_map(|issued| issued.certificate.load_full())
    }

    /// The proof, for a client that asks for the validation protocol only.
    pub(super) fn proof(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_alone = hello.alpn()?.count() == 1;
        let issued = self.0.get(&hello.server_name()?.to_ascii_lowercase())?;
        issued.proof.load_full().filter(|_| is_alone)
    }
}

fn validity(key: &CertifiedKey) -> Option<Validity> {
    let certificate = parsed(key)?;
    let time = |seconds: i64| Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?));
    let validity = certificate.validity();
    Some(Validity {
        from: time(validity.not_before.timestamp())?,
        until: time(validity.not_after.timestamp())?,
    })
}
