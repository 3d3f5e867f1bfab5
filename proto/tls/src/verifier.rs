//! The verifier of both directions. Session resumption must be off wherever it is used: a resumed session would skip
//! the chain check after the bundle changed (invariant 13).

use crate::{
    signing::{self, SigningError},
    svid::Svid,
};
use proto_types::{Clock, SpiffeId, TrustDomain};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    time_provider::TimeProvider,
};
use std::{fmt, sync::Arc, time::Duration};
use webpki::{EndEntityCert, KeyUsage};

/// Longest chain a peer may send besides its leaf: bounded before any arithmetic.
const MAX_INTERMEDIATES: usize = 4;

/// The CA certificates of this moment, ready to verify with.
pub trait Anchors: Send + Sync {
    fn anchors(&self) -> Arc<Vec<TrustAnchor<'static>>>;
}

impl Anchors for Arc<Vec<TrustAnchor<'static>>> {
    fn anchors(&self) -> Arc<Vec<TrustAnchor<'static>>> {
        self.clone()
    }
}

/// Who the peer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Any member of the trust domain.
    Member(TrustDomain),
    /// Exactly this one.
    Exactly(SpiffeId),
}

impl Expected {
    fn admits(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Member(td) => id.trust_domain() == td,
            Self::Exactly(wanted) => id == wanted,
        }
    }
}

/// What is wrong with what a peer sends behind its leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("a chain has at most 4 certificates besides its leaf, this one has {0}")]
    TooLong(usize),
    #[error("certificate {index} behind the leaf: {why}")]
    Signing { index: usize, why: SigningError },
}

/// Verifies a peer's X509-SVID, as a server's or as a client's certificate.
pub struct SvidVerifier {
    anchors: Arc<dyn Anchors>,
    expected: Expected,
    mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl SvidVerifier {
    /// `mandatory`: as a verifier of clients, refuse who brings no certificate.
    pub fn new(anchors: Arc<dyn Anchors>, expected: Expected, mandatory: bool, provider: Arc<CryptoProvider>) -> Self {
        Self { anchors, expected, mandatory, provider }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        if intermediates.len() > MAX_INTERMEDIATES {
            return Err(other(ChainError::TooLong(intermediates.len())).into());
        }
        let svid = Svid::read(leaf).map_err(other)?;
        for (index, der) in intermediates.iter().enumerate() {
            signing::check(der, svid.id.trust_domain()).map_err(|why| other(ChainError::Signing { index, why }))?;
        }
        let cert = EndEntityCert::try_from(leaf).map_err(reason)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let anchors = self.anchors.anchors();
        cert.verify_for_usage(algorithms, &anchors, intermediates, now, usage, None, None).map_err(reason)?;
        if self.expected.admits(&svid.id) { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }
}

/// In the words TLS has for it, so that a log tells an expired certificate from a foreign one, and by how much.
fn reason(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::BadDer => CertificateError::BadEncoding,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        why => other(why),
    }
}

/// What TLS has no word for.
fn other(why: impl std::error::Error + Send + Sync + 'static) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(why)))
}

impl fmt::Debug for SvidVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SvidVerifier({:?})", self.expected)
    }
}

/// The signatures of a handshake, by the provider's algorithms.
macro_rules! handshake_signatures {
    ($provider:tt) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.$provider.signature_verification_algorithms)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.$provider.signature_verification_algorithms)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for SvidVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, intermediates, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }
    handshake_signatures!(provider);
}

impl ClientCertVerifier for SvidVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }
    handshake_signatures!(provider);
}

/// Believes whoever answers: for the first bundle of a node that was configured so, and for nothing else.
pub struct DangerAnyone(pub Arc<CryptoProvider>);

impl fmt::Debug for DangerAnyone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DangerAnyone")
    }
}

impl ServerCertVerifier for DangerAnyone {
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
    handshake_signatures!(0);
}

/// The house's clock, as TLS asks for it: tests own expiry too.
pub struct HouseTime(pub Arc<dyn Clock>);

impl fmt::Debug for HouseTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HouseTime")
    }
}

impl TimeProvider for HouseTime {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.0.now().as_millis()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}
