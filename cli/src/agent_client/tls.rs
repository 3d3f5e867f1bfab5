//! How a client trusts the token endpoint: the chain ends in the trust domain's own authorities and the certificate is
//! the server's SVID, `spiffe://<trust domain>/spire/server`. Host names decide nothing, so a server behind any address
//! or load balancer is the same server. The verifier itself is the house's (`proto-tls`).

use super::identity::Identity;
use proto_tls::{Expected, SvidVerifier};
use proto_types::id::parse_spiffe_id;
use rustls::{
    ClientConfig, Error,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor, pem::PemObject},
};
use std::sync::Arc;
use webpki::anchor_from_trusted_cert;

/// Accepts one SPIFFE ID under the given authorities.
#[derive(Debug)]
pub(super) struct ServerIdentity {
    verifier: Arc<SvidVerifier>,
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
        let server =
            parse_spiffe_id(&format!("spiffe://{trust_domain}/spire/server")).map_err(|_| TrustError::TrustDomain)?;
        let anchors: Vec<TrustAnchor<'static>> = CertificateDer::pem_slice_iter(ca_pem.as_bytes())
            .filter_map(Result::ok)
            .filter_map(|der| anchor_from_trusted_cert(&der).ok().map(|anchor| anchor.to_owned()))
            .collect();
        if anchors.is_empty() {
            return Err(TrustError::NoAuthority);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let expected = Expected::Exactly(server);
        let verifier = SvidVerifier::new(Arc::new(Arc::new(anchors)), expected, true, provider.clone());
        Ok(Self { verifier: Arc::new(verifier), provider })
    }

    /// TLS 1.3 as the task: the certificate on the connection is what binds every token asked for over it.
    pub(super) fn client_config(&self, identity: &Identity) -> Result<Arc<ClientConfig>, TrustError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.expose().clone()));
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TrustError::Own)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_client_auth_cert(identity.chain.clone(), key)
            .map_err(TrustError::Own)?;
        // A resumed session would skip the chain check after the authorities changed.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
