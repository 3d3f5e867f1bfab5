//! How a client trusts the token endpoint: the chain ends in the trust domain's own authorities and the certificate is
//! the server's SVID, `spiffe://<trust domain>/spire/server`. Host names decide nothing, so a server behind any address
//! or load balancer is the same server.

use super::identity::Identity;
use proto_types::id::{SpiffeId, parse_spiffe_id};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, TrustAnchor, UnixTime, pem::PemObject},
};
use std::sync::Arc;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Accepts one SPIFFE ID under the given authorities.
#[derive(Debug)]
pub(super) struct ServerIdentity {
    anchors: Vec<TrustAnchor<'static>>,
    expected: SpiffeId,
    provider: Arc<CryptoProvider>,
}

/// What in the agent's information about the server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("`ca_pem` holds no certificate that can be trusted")]
    NoAuthority,
    #[error("`trust_domain` is not the name of a trust domain")]
    TrustDomain,
    #[error("the task's key and certificate do not belong together: {0}")]
    Own(#[source] Error),
}

impl ServerIdentity {
    pub(super) fn new(ca_pem: &str, trust_domain: &str) -> Result<Self, TrustError> {
        let expected =
            parse_spiffe_id(&format!("spiffe://{trust_domain}/spire/server")).map_err(|_| TrustError::TrustDomain)?;
        let anchors: Vec<_> = CertificateDer::pem_slice_iter(ca_pem.as_bytes())
            .filter_map(Result::ok)
            .filter_map(|der| anchor_from_trusted_cert(&der).ok().map(|anchor| anchor.to_owned()))
            .collect();
        if anchors.is_empty() {
            return Err(TrustError::NoAuthority);
        }
        Ok(Self { anchors, expected, provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()) })
    }

    /// TLS 1.3 as the task: the certificate on the connection is what binds every token asked for over it.
    pub(super) fn client_config(self: &Arc<Self>, identity: &Identity) -> Result<Arc<ClientConfig>, TrustError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.expose().clone()));
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TrustError::Own)?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_client_auth_cert(identity.chain.clone(), key)
            .map_err(TrustError::Own)?;
        // A resumed session would skip the chain check after the authorities changed.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ServerCertVerifier for ServerIdentity {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
        certificate
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &self.anchors,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(|why| match why {
                webpki::Error::CertExpired { .. } => CertificateError::Expired,
                webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
                _ => CertificateError::UnknownIssuer,
            })?;
        match spiffe::cert::spiffe_id_from_der(leaf) {
            Ok(id) if id == self.expected => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
