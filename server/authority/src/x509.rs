//! From a template and a proven key to an X509-SVID (X509-SVID sections 3 and 4).

use crate::{ca::Ca, lint};
use proto_types::{Entropy, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    SubjectPublicKeyInfo, string::PrintableString,
};
use server_core::ports::{ProvenKey, SignError, X509Svid, X509Template};
use time::OffsetDateTime;

pub(crate) const COUNTRY: &str = "US";
pub(crate) const ORGANISATION: &str = "Errand";
/// RFC 5280 appendix A.1, ub-common-name.
const MAX_COMMON_NAME: usize = 64;

/// Signs what the template says for this key, and hands it out only if it reads back as the template.
pub(crate) fn sign(
    ca: &Ca,
    template: &X509Template,
    key: &ProvenKey,
    entropy: &dyn Entropy,
) -> Result<X509Svid, SignError> {
    let template = &X509Template { not_after: template.not_after.min(ca.not_after), ..template.clone() };
    if template.not_after <= template.not_before {
        return Err(SignError::NoActiveKey("x509"));
    }
    let serial = new_serial(entropy);
    let spki = SubjectPublicKeyInfo::from_der(key.spki_der()).map_err(refused)?;
    let params = leaf(template, &serial).map_err(refused)?;
    let cert = params.signed_by(&spki, &ca.issuer).map_err(|e| SignError::Unavailable(e.to_string()))?;
    lint::check_leaf(cert.der(), template, key.spki_der(), &serial, &ca.name, &ca.key_id)
        .map_err(|e| SignError::Refused(e.to_string()))?;
    Ok(X509Svid { chain: vec![cert.der().to_vec()], serial: hex::encode(serial), not_after: template.not_after })
}

fn refused(e: impl std::fmt::Display) -> SignError {
    SignError::Refused(e.to_string())
}

fn leaf(template: &X509Template, serial: &[u8; 16]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.not_before = date(template.not_before)?;
    params.not_after = date(template.not_after)?;
    params.serial_number = Some(serial.to_vec().into());
    params.distinguished_name = subject(common_name(template));
    params.subject_alt_names = Vec::with_capacity(1 + template.dns_names.len());
    params.subject_alt_names.push(uri(&template.spiffe_id.to_string())?);
    for name in &template.dns_names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyAgreement];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The first DNS name, where the field has room for it.
pub(crate) fn common_name(template: &X509Template) -> Option<&str> {
    template.dns_names.first().map(String::as_str).filter(|n| n.len() <= MAX_COMMON_NAME)
}

pub(crate) fn subject(common_name: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // RFC 5280 appendix A.1: a country name is a PrintableString.
    let country = PrintableString::try_from(COUNTRY).expect("two letters are printable");
    name.push(DnType::CountryName, DnValue::PrintableString(country));
    name.push(DnType::OrganizationName, ORGANISATION);
    if let Some(cn) = common_name {
        name.push(DnType::CommonName, cn);
    }
    name
}

pub(crate) fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(text.try_into()?))
}

pub(crate) fn date(t: Timestamp) -> Result<OffsetDateTime, rcgen::Error> {
    OffsetDateTime::from_unix_timestamp(t.as_secs()).map_err(|_| rcgen::Error::Time)
}

/// 126 random bits; positive, and always 16 bytes long (RFC 5280 section 4.1.2.2).
pub(crate) fn new_serial(entropy: &dyn Entropy) -> [u8; 16] {
    let mut serial = [0; 16];
    entropy.fill(&mut serial);
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}
