//! A host's end of a plugin's TLS, which OpenTofu and Terraform ask every provider for (go-plugin's `AutoMTLS`): each side
//! makes a certificate, shows it to the other beforehand, and takes no other.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
};

/// The one host of this run.
static HOST: LazyLock<Result<Host>> = LazyLock::new(Host::new);

/// A host's certificate, on a curve as hosts choose it.
pub(crate) struct Host {
    /// What a host hands to a provider in `PLUGIN_CLIENT_CERT`.
    pub(crate) pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Host {
    pub(crate) fn get() -> Result<&'static Self> {
        HOST.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    fn new() -> Result<Self> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512)?;
        let mut params = CertificateParams::new(["localhost".to_owned()])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?.der().clone();
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(&certificate)
        );
        Ok(Self { pem, certificate, key: key.serialize_der() })
    }

    /// Connects to a provider by what its handshake line says: the socket and, in base64, the certificate.
    pub(crate) fn connect(&self, line: &str) -> Result<StreamOwned<ClientConnection, UnixStream>> {
        let fields: Vec<&str> = line.trim_end().split('|').collect();
        let ["1", "6", "unix", socket, "grpc", certificate, ..] = fields[..] else {
            bail!("{line:?} is no handshake with TLS");
        };
        let server = CertificateDer::from(STANDARD_NO_PAD.decode(certificate.trim_end_matches('='))?);
        let crypto = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(PinnedServer { certificate: server, crypto: Arc::clone(&crypto) });
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let mut config = ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(vec![self.certificate.clone()], key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        let stream = UnixStream::connect(socket).with_context(|| format!("connecting to {socket}"))?;
        Ok(StreamOwned::new(tls, stream))
    }
}

/// Takes the one certificate that the provider announced, which calls itself an authority, as the usual verifier does not.
#[derive(Debug)]
struct PinnedServer {
    certificate: CertificateDer<'static>,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
