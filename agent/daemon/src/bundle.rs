//! The trust bundle of the agent's trust domain: what verifies the server, and what workloads are given to verify their
//! peers with.
//!
//! Immutable once made; the newest one stands in an `ArcSwap`. Authorities that cannot be parsed are refused as a whole:
//! a bundle that is half understood would silently distrust.

use crate::disk::{base64, base64_list};
use proto_jose::{KeyPurpose, KeySet};
use proto_types::TrustDomain;
use proto_wire::spire::api::types as wire;
use rustls_pki_types::{CertificateDer, TrustAnchor, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Most authorities of one kind.
const MAX_AUTHORITIES: usize = 128;
/// The version of what is written down.
pub const VERSION: u8 = 1;

/// Why a bundle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("the bundle is of another trust domain than `{0}`")]
    OtherDomain(String),
    #[error("the bundle has no X.509 authority; nothing could be verified with it")]
    Empty,
    #[error("the bundle has {0} authorities of one kind, the limit is {MAX_AUTHORITIES}")]
    TooMany(usize),
    #[error("X.509 authority {0} of the bundle is not a certificate")]
    Certificate(usize),
    #[error("a JWT authority of the bundle is not a usable public key, or two have the same key id")]
    JwtKey,
    #[error("the PEM has no certificate, or one that cannot be read")]
    Pem,
}

/// One key that signs JWT-SVIDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtAuthority {
    pub key_id: String,
    /// SubjectPublicKeyInfo, DER.
    #[serde(with = "base64")]
    pub public_key: Vec<u8>,
}

/// What is written down of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleDoc {
    pub version: u8,
    pub trust_domain: String,
    pub sequence: u64,
    pub refresh_hint: i64,
    /// CA certificates, DER.
    #[serde(with = "base64_list")]
    pub x509: Vec<Vec<u8>>,
    pub jwt: Vec<JwtAuthority>,
}

/// A usable bundle.
pub struct TrustBundle {
    doc: BundleDoc,
    anchors: Arc<Vec<TrustAnchor<'static>>>,
    jwt_keys: KeySet,
    jwks: Vec<u8>,
    x509_der: Vec<u8>,
}

impl std::fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TrustBundle({} #{})", self.doc.trust_domain, self.doc.sequence)
    }
}

impl TrustBundle {
    /// Reads a bundle as it was written down, and makes what is derived from it.
    pub fn new(doc: BundleDoc, td: &TrustDomain) -> Result<Self, BundleError> {
        if doc.trust_domain != td.to_string() {
            return Err(BundleError::OtherDomain(td.to_string()));
        }
        if doc.x509.is_empty() {
            return Err(BundleError::Empty);
        }
        let most = doc.x509.len().max(doc.jwt.len());
        if most > MAX_AUTHORITIES {
            return Err(BundleError::TooMany(most));
        }
        let mut anchors = Vec::with_capacity(doc.x509.len());
        for (i, der) in doc.x509.iter().enumerate() {
            let der = CertificateDer::from(der.as_slice());
            let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| BundleError::Certificate(i))?;
            anchors.push(anchor.to_owned());
        }
        let spkis = || doc.jwt.iter().map(|k| (k.key_id.as_str(), k.public_key.as_slice()));
        let jwt_keys = KeySet::from_spkis(spkis()).map_err(|_| BundleError::JwtKey)?;
        let jwks = KeySet::document(spkis(), KeyPurpose::JwtSvid).map_err(|_| BundleError::JwtKey)?;
        let x509_der = doc.x509.concat();
        Ok(Self { anchors: Arc::new(anchors), jwt_keys, jwks: jwks.to_string().into_bytes(), x509_der, doc })
    }

    /// As the server sent it. A trust domain may be written with or without its scheme.
    pub fn from_wire(bundle: &wire::Bundle, td: &TrustDomain) -> Result<Self, BundleError> {
        let name = bundle.trust_domain.strip_prefix("spiffe://").unwrap_or(&bundle.trust_domain);
        let jwt = |k: &wire::JwtKey| JwtAuthority { key_id: k.key_id.clone(), public_key: k.public_key.clone() };
        let doc = BundleDoc {
            version: VERSION,
            trust_domain: name.into(),
            sequence: bundle.sequence_number,
            refresh_hint: bundle.refresh_hint,
            x509: bundle.x509_authorities.iter().map(|c| c.asn1.clone()).collect(),
            jwt: bundle.jwt_authorities.iter().map(jwt).collect(),
        };
        Self::new(doc, td)
    }

    /// From the certificates of a PEM file: what an operator hands a new node.
    pub fn from_pem(pem: &[u8], td: &TrustDomain) -> Result<Self, BundleError> {
        let certs = CertificateDer::pem_slice_iter(pem).map(|c| c.map(|c| c.to_vec()).map_err(|_| BundleError::Pem));
        let x509 = certs.collect::<Result<Vec<_>, _>>()?;
        if x509.is_empty() {
            return Err(BundleError::Pem);
        }
        let (trust_domain, version) = (td.to_string(), VERSION);
        Self::new(BundleDoc { version, trust_domain, sequence: 0, refresh_hint: 0, x509, jwt: Vec::new() }, td)
    }

    pub fn doc(&self) -> &BundleDoc {
        &self.doc
    }
    pub fn anchors(&self) -> Arc<Vec<TrustAnchor<'static>>> {
        self.anchors.clone()
    }
    /// The keys that verify JWT-SVIDs of this trust domain.
    pub fn jwt_keys(&self) -> &KeySet {
        &self.jwt_keys
    }
    /// The same keys as a JWKS document (JSON).
    pub fn jwks(&self) -> &[u8] {
        &self.jwks
    }
    /// The CA certificates as concatenated DER.
    pub fn x509_der(&self) -> &[u8] {
        &self.x509_der
    }
    /// Whether a key of this id verifies JWT-SVIDs.
    pub fn has_jwt_key(&self, kid: &str) -> bool {
        self.doc.jwt.iter().any(|k| k.key_id == kid)
    }
}
