//! Mutual TLS with Terraform: a certificate made for this run, and one client that may connect.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use std::sync::Arc;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
        client::danger::HandshakeSignatureValid,
        crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem, pem::PemObject},
        server::danger::{ClientCertVerified, ClientCertVerifier},
    },
};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("reading the client certificate in PLUGIN_CLIENT_CERT")]
    ClientCertificate(#[source] pem::Error),
    #[error("making the server certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("setting up TLS")]
    Setup(#[from] rustls::Error),
}

/// Accepts TLS from one client, and what to tell that client about the server.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// The server's certificate as Terraform wants it: base64 without padding.
    pub(super) certificate: String,
}

impl Tls {
    /// Lets in whoever holds the private key of the certificate `client_pem`.
    pub(super) fn new(client_pem: &str) -> Result<Self, TlsError> {
        let client = CertificateDer::from_pem_slice(client_pem.as_bytes())
            .map_err(TlsError::ClientCertificate)?;
        let provider = aws_lc_rs::default_provider();
        let verifier = OnlyTerraform {
            certificate: client.into_owned(),
            algorithms: provider.signature_verification_algorithms,
        };
        let key = KeyPair::generate()?;
        let certificate = certificate_params()?.self_signed(&key)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate: STANDARD_NO_PAD.encode(certificate.der()),
        })
    }
}

/// Terraform trusts this very certificate, under the name `localhost`. So it need not be an authority,
/// and nobody who gets at the key can issue others with it.
fn certificate_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Accepts exactly one certificate, from whoever proves to hold its key.
///
/// The certificate is no secret: it stands in the environment of this process. So the signature of
/// the handshake is what counts. Terraform's key is ECDSA P-521.
#[derive(Debug)]
struct OnlyTerraform {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for OnlyTerraform {
    /// Empty: Go's TLS keeps its certificate to itself when it is not issued by one of these.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if *certificate == self.certificate {
            Ok(ClientCertVerified::assertion())
        } else {
            let refused = rustls::CertificateError::ApplicationVerificationFailure;
            Err(rustls::Error::InvalidCertificate(refused))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Not reached: only TLS 1.3 is offered.
        Err(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
