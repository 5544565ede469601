//! Certificates that an authority issues while the server serves, and the certificates that prove to it that a name is ours.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tracing::warn;

use super::{is_for, parsed};

/// The protocol of a connection by which an authority validates a name (RFC 8737). No request comes over it.
pub(super) const VALIDATION: &[u8] = b"acme-tls/1";

/// The certificates that an authority issues, one for each name. All listeners that show them share them.
#[derive(Debug)]
pub struct IssuedCertificates {
    names: BTreeMap<String, IssuedName>,
    elsewhere: OnceLock<Elsewhere>,
}

/// A certificate that answers a challenge for a name, with its key.
#[derive(Clone, Debug)]
pub struct ChallengeProof(Arc<CertifiedKey>);

/// A proof that comes later, if there is one.
pub type FoundProof = Pin<Box<dyn Future<Output = Option<ChallengeProof>> + Send>>;

/// Finds the proof of a name that another process has given: the authority may connect to any of a fleet.
struct Elsewhere(Box<dyn Fn(String) -> FoundProof + Send + Sync>);

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

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
        let (chain, secret) = read_pem(pem)?;
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

impl ChallengeProof {
    /// Reads a certificate with its key from PEM.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let (chain, secret) = read_pem(pem)?;
        let key = default_provider().key_provider.load_private_key(secret).map_err(|error| error.to_string());
        // Its key is not compared: rustls does not read a certificate with the extension that a proof must have.
        Ok(Self(Arc::new(CertifiedKey::new(chain, key?))))
    }

    /// Shows this proof and no certificate.
    pub(super) fn resolver(self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.0))
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
        let names = names.into_iter().map(|name| (name, empty())).collect();
        Self { names, elsewhere: OnceLock::new() }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Shows this certificate from now on. Existing connections keep the old one.
    pub fn replace(&self, name: &str, certificate: NamedCertificate) {
        if let Some(issued) = self.names.get(name) {
            issued.certificate.store(Some(certificate.key));
        }
    }

    /// Shows this proof to the authority that validates the name.
    pub fn prove(&self, name: &str, proof: ChallengeProof) {
        if let Some(issued) = self.names.get(name) {
            issued.proof.store(Some(proof.0));
        }
    }

    /// From now on looks for the proofs that are not given here by this function. Only the first call has an effect.
    pub fn look_elsewhere(&self, find: impl Fn(String) -> FoundProof + Send + Sync + 'static) {
        let _ = self.elsewhere.set(Elsewhere(Box::new(find)));
    }

    /// Refuses connections that validate the name.
    pub fn end_proof(&self, name: &str) {
        if let Some(issued) = self.names.get(name) {
            issued.proof.store(None);
        }
    }

    /// Each name that has a certificate, and when the certificate ends.
    pub(super) fn expiries(&self) -> impl Iterator<Item = (String, i64)> {
        self.names.iter().filter_map(|(name, issued)| {
            let key = issued.certificate.load_full()?;
            Some((name.clone(), parsed(&key)?.validity().not_after.timestamp()))
        })
    }

    /// The certificate for a name. The log says once that there is none yet.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let issued = self.names.get(name)?;
        let key = issued.certificate.load_full();
        if key.is_none() {
            issued.is_missed.call_once(|| warn!(name, "clients are refused: no certificate was issued yet"));
        }
        key
    }

    /// The first certificate of all names, for clients that name no server.
    pub(super) fn first(&self) -> Option<Arc<CertifiedKey>> {
        self.names.values().find_map(|issued| issued.certificate.load_full())
    }

    /// The proof, for a client that asks for the validation protocol only.
    pub(super) fn proof(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.names.get(&validated_name(hello)?)?.proof.load_full()
    }

    /// Whether proofs may be found elsewhere.
    pub(super) fn is_shared(&self) -> bool {
        self.elsewhere.get().is_some()
    }

    /// The proof for an authority, if another process has given it.
    pub(super) async fn proof_elsewhere(&self, name: String) -> Option<ChallengeProof> {
        let issued = self.names.get(&name)?;
        match (self.elsewhere.get(), issued.proof.load_full()) {
            (Some(Elsewhere(find)), None) => find(name).await,
            _ => None,
        }
    }
}

/// The name that a client wants to be validated, if it asks for that alone.
pub(super) fn validated_name(hello: &ClientHello<'_>) -> Option<String> {
    let mut protocols = hello.alpn()?;
    let is_alone = protocols.next() == Some(VALIDATION) && protocols.next().is_none();
    is_alone.then(|| hello.server_name().map(str::to_ascii_lowercase)).flatten()
}

fn read_pem(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("no certificate in PEM: {error}"))?;
    let secret = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("no key in PEM: {error}"))?;
    Ok((chain, secret))
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
