//! Reading a certificate between a leaf and its root: whether it may sign SVIDs of a trust domain at all. Its signature,
//! its validity and the length of the path are the verifier's.

use crate::svid::MAX_CERTIFICATE;
use proto_types::{TrustDomain, id::parse_spiffe_id};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What is wrong with a signing certificate (X509-SVID sections 3.2 and 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    #[error("not one certificate in DER, or longer than 16 KiB")]
    Der,
    #[error("it is no certificate authority")]
    NotAuthority,
    #[error("its key usage must have keyCertSign")]
    KeyUsage,
    #[error("a signing certificate names its trust domain, without a path, or nothing")]
    Name,
}

pub(crate) fn check(der: &[u8], td: &TrustDomain) -> Result<(), SigningError> {
    if der.len() > MAX_CERTIFICATE {
        return Err(SigningError::Der);
    }
    let (rest, cert) = X509Certificate::from_der(der).map_err(|_| SigningError::Der)?;
    if !rest.is_empty() {
        return Err(SigningError::Der);
    }
    if !cert.is_ca() {
        return Err(SigningError::NotAuthority);
    }
    // The path builder below looks at basic constraints only.
    let usage = cert.key_usage().ok().flatten().ok_or(SigningError::KeyUsage)?;
    if !usage.value.key_cert_sign() {
        return Err(SigningError::KeyUsage);
    }
    let names = cert.subject_alternative_name().map_err(|_| SigningError::Name)?;
    let uris = names.iter().flat_map(|n| &n.value.general_names).filter_map(|n| match n {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let own = |uri: &str| parse_spiffe_id(uri).is_ok_and(|id| id.trust_domain() == td && id.path().is_empty());
    if uris.into_iter().all(own) { Ok(()) } else { Err(SigningError::Name) }
}
