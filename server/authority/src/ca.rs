//! Our own CA certificates: self-signed, P-256, the trust domain's path-less SPIFFE ID (X509-SVID section 3.2), one
//! level, nothing but certificate and CRL signing.

use crate::{
    key::CaKey,
    lint::{self, CaTemplate, LintError},
    x509::{date, new_serial, subject, uri},
};
use proto_types::{Entropy, Timestamp, TrustDomain};
use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyUsagePurpose};
use server_core::issue::BACKDATE;
use x509_parser::prelude::{FromDer, X509Certificate};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    #[error("the CA certificate could not be made: {0}")]
    Encode(String),
    #[error("the CA certificate is not as it should be: {0}")]
    Lint(#[from] LintError),
}

/// A CA that can sign, with what the linter compares against.
pub(crate) struct Ca {
    pub(crate) issuer: Issuer<'static, CaKey>,
    /// The subject as it stands in the certificate: every leaf repeats these bytes.
    pub(crate) name: Vec<u8>,
    pub(crate) key_id: Vec<u8>,
    pub(crate) not_after: Timestamp,
}

/// Makes the certificate of a new CA key: NotBefore a little in the past, whole seconds.
pub(crate) fn certificate(
    key: &CaKey,
    td: &TrustDomain,
    now: Timestamp,
    not_after: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, CaError> {
    let encode = |e: &dyn std::fmt::Display| CaError::Encode(e.to_string());
    let serial = new_serial(entropy);
    let id = format!("spiffe://{td}");
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(None);
    // Two CAs of one house need two names, or chain building guesses between them.
    let number = DnValue::PrintableString(hex::encode(serial).try_into().map_err(|e| encode(&e))?);
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), number);
    let not_before = Timestamp::from_secs(now.minus(BACKDATE).as_secs());
    params.not_before = date(not_before).map_err(|e| encode(&e))?;
    params.not_after = date(not_after).map_err(|e| encode(&e))?;
    params.serial_number = Some(serial.to_vec().into());
    params.subject_alt_names = vec![uri(&id).map_err(|e| encode(&e))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let der = params.self_signed(key).map_err(|e| encode(&e))?.der().to_vec();
    lint::check_ca(&der, &CaTemplate { uri: &id, not_before, not_after, serial: &serial })?;
    Ok(der)
}

/// Takes a stored CA certificate and its key into use.
pub(crate) fn load(der: &[u8], key: CaKey) -> Result<Ca, CaError> {
    let encode = |e: &dyn std::fmt::Display| CaError::Encode(e.to_string());
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| encode(&e))?;
    let key_id = lint::subject_key_id(&cert).ok_or(LintError("the certificate has no subject key identifier"))?;
    Ok(Ca {
        name: cert.subject().as_raw().to_vec(),
        key_id: key_id.to_vec(),
        not_after: Timestamp::from_secs(cert.validity().not_after.timestamp()),
        issuer: Issuer::from_ca_cert_der(&der.to_vec().into(), key).map_err(|e| encode(&e))?,
    })
}
