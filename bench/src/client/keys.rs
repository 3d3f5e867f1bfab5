//! Keys and certificate requests, made before anything is measured.

use anyhow::Result;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

/// A P-256 key.
pub struct Key {
    /// PKCS#8, DER.
    pub pkcs8: Vec<u8>,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
}

impl Key {
    pub fn generate() -> Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&pair)?.der().to_vec();
        Ok(Self { pkcs8: pair.serialize_der(), csr })
    }
}
