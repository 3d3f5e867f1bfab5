//! Who the agent is now: its own SVID, in the forms that TLS and the disk want.
//!
//! One value, replaced as a whole; the TLS side reads it at each handshake.

use crate::{
    disk::KeyedChain,
    keys::public_point,
    x509::{SvidError, X509Svid},
};
use arc_swap::ArcSwapOption;
use rustls::{
    SignatureScheme, client::ResolvesClientCert, crypto::aws_lc_rs::sign::any_ecdsa_type, sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{fmt, sync::Arc};

/// The agent's SVID, ready for use.
pub struct Identity {
    pub svid: X509Svid,
    pub reattestable: bool,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    pub fn new(svid: X509Svid, reattestable: bool) -> Result<Self, SvidError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.key.expose().clone()));
        let key = any_ecdsa_type(&der).map_err(|_| SvidError::OtherKey)?;
        let chain = svid.chain.iter().cloned().map(CertificateDer::from).collect();
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, key)), svid, reattestable })
    }

    /// From what was written down.
    pub fn restore(kept: &KeyedChain, reattestable: bool) -> Result<Self, SvidError> {
        let public = public_point(&kept.key).map_err(|_| SvidError::OtherKey)?;
        Self::new(X509Svid::check(kept.chain.clone(), kept.key.clone(), &public)?, reattestable)
    }

    pub fn keep(&self) -> KeyedChain {
        KeyedChain { chain: self.svid.chain.clone(), key: self.svid.key.clone() }
    }
}

/// Presents the newest identity, or none before attestation.
#[derive(Clone, Default)]
pub struct CurrentIdentity(Arc<ArcSwapOption<Identity>>);

impl CurrentIdentity {
    pub fn get(&self) -> Option<Arc<Identity>> {
        self.0.load_full()
    }
    pub fn set(&self, identity: Option<Arc<Identity>>) {
        self.0.store(identity);
    }
}

impl fmt::Debug for CurrentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentIdentity")
    }
}

impl ResolvesClientCert for CurrentIdentity {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let identity = self.0.load_full()?;
        schemes.contains(&SignatureScheme::ECDSA_NISTP256_SHA256).then(|| identity.certified.clone())
    }
    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}
