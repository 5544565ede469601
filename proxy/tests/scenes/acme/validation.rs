//! How an authority finds out that a name leads to the one that has ordered a certificate for it.

use std::net::SocketAddr;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::support::exchange;

/// RFC 8555 §8.3.
pub(super) async fn prove_by_http(
    name: &str,
    to: SocketAddr,
    token: &str,
    answer: &str,
) -> Result<(), String> {
    for method in ["GET", "HEAD"] {
        let close = "Connection: close\r\nAccept: */*";
        let request = format!(
            "{method} /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\n{close}\r\n\r\n"
        );
        let reply = exchange(to, request.as_bytes()).await;
        if reply.status() != 200 || method == "GET" && reply.text() != answer {
            return Err(format!("{} {}", reply.line, reply.text()));
        }
    }
    Ok(())
}

/// RFC 8737 §3.
pub(super) async fn prove_by_tls(name: &str, to: SocketAddr, answer: &str) -> Result<(), String> {
    let provider = Arc::new(default_provider());
    let any = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = config.dangerous().with_custom_certificate_verifier(any).with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
    let server_name = ServerName::try_from(name.to_owned()).unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(server_name, stream).await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    let session = stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    check(name, &session.peer_certificates().unwrap()[0], answer)?;
    // No request is served.
    let _ = stream.write_all(b"GET /p/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut served = Vec::new();
    let _ = stream.read_to_end(&mut served).await;
    assert!(served.is_empty(), "{served:?}");
    Ok(())
}

fn check(name: &str, certificate: &[u8], answer: &str) -> Result<(), String> {
    let (_, certificate) = parse_x509_certificate(certificate).unwrap();
    let names = certificate.subject_alternative_name().unwrap().expect("names").value.general_names.clone();
    let is_named = matches!(&names[..], [GeneralName::DNSName(only)] if *only == name);
    let mut extensions = certificate.extensions().iter();
    let identifier = extensions.find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    let identifier = identifier.ok_or("no identifier of ACME")?;
    let expected = [&[4, 32][..], digest(&SHA256, answer.as_bytes()).as_ref()].concat();
    match is_named && identifier.critical && identifier.value == expected {
        true => Ok(()),
        false => Err("another name or identifier".to_owned()),
    }
}

/// Takes each certificate, and checks that the server has its key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // rustls refuses to read a certificate with the identifier of ACME, which is critical.
        let (_, certificate) = parse_x509_certificate(certificate).unwrap();
        let key = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
