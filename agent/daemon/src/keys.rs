//! The agent's and the workloads' keys: P-256, made here, never sent anywhere but to the workload they belong to.
//!
//! A certificate request carries the public key and nothing else: the entry decides the rest.

use proto_types::Secret;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;

/// A key could not be made, or is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot be {what}")]
pub struct KeyError {
    what: &'static str,
}

impl KeyError {
    /// The thread that made keys went away with the agent.
    pub(crate) fn stopped() -> Self {
        Self { what: "made while the agent stops" }
    }
}

/// A fresh P-256 key, as unencrypted PKCS#8 DER, and its certificate request (PKCS#10 DER).
pub struct KeyRequest {
    pub key: Secret<Vec<u8>>,
    pub csr: Vec<u8>,
    /// The public point, uncompressed (65 bytes).
    pub public: Vec<u8>,
}

impl KeyRequest {
    /// Makes a key. The library draws from the operating system's randomness itself, as it must for key material.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError { what: "generated" })?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&pair).map_err(|_| KeyError { what: "put into a request" })?;
        Ok(Self {
            public: pair.public_key_raw().to_vec(),
            csr: csr.der().to_vec(),
            key: Secret::new(pair.serialize_der()),
        })
    }
}

/// The public point of a P-256 key (uncompressed, 65 bytes).
pub fn public_point(pkcs8: &Secret<Vec<u8>>) -> Result<Vec<u8>, KeyError> {
    let der = PrivatePkcs8KeyDer::from(pkcs8.expose().as_slice());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
    pair.map(|p| p.public_key_raw().to_vec()).map_err(|_| KeyError { what: "read" })
}
