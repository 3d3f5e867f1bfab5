//! X.509-SVIDs as they come from the server: read, matched with the key they were asked for, and kept in the form the
//! Workload API sends.
//!
//! A chain that is not for our key, or whose one URI is not the identity that was asked for, is refused: the agent
//! hands on nothing it did not check. Chain building is the TLS verifier's and the workload's.

use crate::keys::KeyRequest;
use proto_types::{Secret, SpiffeId, Timestamp, id::parse_spiffe_id};
use proto_wire::spire::api::types as wire;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Most certificates in one chain.
const MAX_CHAIN: usize = 10;

/// Why a certificate chain was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    #[error("the answer carries no certificate")]
    Empty,
    #[error("the chain has {0} certificates, the limit is {MAX_CHAIN}")]
    TooLong(usize),
    #[error("certificate {0} of the chain is not X.509")]
    Malformed(usize),
    #[error("the leaf has {0} URI names, an SVID has exactly one")]
    Uris(usize),
    #[error("the leaf's URI is not a SPIFFE ID")]
    NotSpiffe,
    #[error("the certificate is for another key than the one that was asked for")]
    OtherKey,
    #[error("the certificate is for another identity than the one that was asked for")]
    OtherIdentity,
}

/// What a leaf certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub spiffe_id: SpiffeId,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The subject's public key, the bits of its SPKI.
    pub public: Vec<u8>,
}

impl Leaf {
    pub fn read(der: &[u8]) -> Result<Self, SvidError> {
        let (rest, cert) = X509Certificate::from_der(der).map_err(|_| SvidError::Malformed(0))?;
        if !rest.is_empty() {
            return Err(SvidError::Malformed(0));
        }
        Ok(Self {
            spiffe_id: only_uri(&cert)?,
            not_before: Timestamp::from_secs(cert.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(cert.validity().not_after.timestamp()),
            public: cert.public_key().subject_public_key.data.to_vec(),
        })
    }
}

/// The one URI among the names of a certificate.
fn only_uri(cert: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let mut uris = Vec::new();
    for extension in cert.extensions() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
            uris.extend(names.general_names.iter().filter_map(|n| match n {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            }));
        }
    }
    match uris.as_slice() {
        [uri] => parse_spiffe_id(uri).map_err(|_| SvidError::NotSpiffe),
        other => Err(SvidError::Uris(other.len())),
    }
}

/// An X.509-SVID with its key.
#[derive(Debug)]
pub struct X509Svid {
    pub spiffe_id: SpiffeId,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// Unencrypted PKCS#8 DER.
    pub key: Secret<Vec<u8>>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl X509Svid {
    /// Checks what the server answered against what was asked: the key always, the identity when it is known.
    pub fn accept(
        answer: &wire::X509svid,
        request: KeyRequest,
        expected: Option<&SpiffeId>,
    ) -> Result<Self, SvidError> {
        let svid = Self::check(answer.cert_chain.clone(), request.key, &request.public)?;
        match expected {
            Some(id) if *id != svid.spiffe_id => Err(SvidError::OtherIdentity),
            _ => Ok(svid),
        }
    }

    /// Puts a chain and the key it belongs to together. `public` is that key's point.
    pub fn check(chain: Vec<Vec<u8>>, key: Secret<Vec<u8>>, public: &[u8]) -> Result<Self, SvidError> {
        let leaf = Leaf::read(chain.first().ok_or(SvidError::Empty)?)?;
        if chain.len() > MAX_CHAIN {
            return Err(SvidError::TooLong(chain.len()));
        }
        for (i, der) in chain.iter().enumerate().skip(1) {
            X509Certificate::from_der(der).map_err(|_| SvidError::Malformed(i))?;
        }
        if leaf.public != public {
            return Err(SvidError::OtherKey);
        }
        let (spiffe_id, not_before, not_after) = (leaf.spiffe_id, leaf.not_before, leaf.not_after);
        Ok(Self { spiffe_id, chain, key, not_before, not_after })
    }

    /// The chain as the Workload API sends it: concatenated DER, leaf first.
    pub fn chain_der(&self) -> Vec<u8> {
        self.chain.concat()
    }
}
