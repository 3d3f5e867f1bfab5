//! Reading one certificate as an X509-SVID leaf. Its chain is the verifier's.

use proto_types::{SpiffeId, Timestamp, id::parse_spiffe_id};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest certificate that is read, bytes.
pub(crate) const MAX_CERTIFICATE: usize = 16 * 1024;

/// What is wrong with a leaf (X509-SVID sections 2 to 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    #[error("not one certificate in DER, or longer than 16 KiB")]
    Der,
    #[error("a certificate authority is nobody's SVID")]
    Authority,
    #[error("its key usage must be critical, have digitalSignature, and neither keyCertSign nor cRLSign")]
    KeyUsage,
    #[error("it must have exactly one URI SAN, a SPIFFE ID with a path")]
    Name,
}

/// A leaf that has the form of an X509-SVID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svid {
    pub id: SpiffeId,
    /// Lowercase hex without leading zero bytes.
    pub serial: String,
    /// SHA-256 of the DER: what `cnf.x5t#S256` says.
    pub sha256: [u8; 32],
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Svid {
    pub fn read(der: &[u8]) -> Result<Self, SvidError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(SvidError::Der);
        }
        let (rest, cert) = X509Certificate::from_der(der).map_err(|_| SvidError::Der)?;
        if !rest.is_empty() {
            return Err(SvidError::Der);
        }
        if cert.is_ca() {
            return Err(SvidError::Authority);
        }
        let usage = cert.key_usage().ok().flatten().ok_or(SvidError::KeyUsage)?;
        let flags = usage.value;
        if !usage.critical || !flags.digital_signature() || flags.key_cert_sign() || flags.crl_sign() {
            return Err(SvidError::KeyUsage);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref());
        let serial: Vec<u8> = cert.raw_serial().iter().copied().skip_while(|b| *b == 0).collect();
        Ok(Self {
            id: name(&cert)?,
            serial: hex::encode(serial),
            sha256,
            spki: cert.public_key().raw.to_vec(),
            not_before: Timestamp::from_secs(cert.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(cert.validity().not_after.timestamp()),
        })
    }
}

fn name(cert: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = cert.subject_alternative_name().ok().flatten().ok_or(SvidError::Name)?;
    let mut uris = names.value.general_names.iter().filter_map(|n| match n {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(SvidError::Name) };
    parse_spiffe_id(uri).ok().filter(|id| !id.path().is_empty()).ok_or(SvidError::Name)
}
