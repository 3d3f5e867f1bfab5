//! The last look at a certificate: what was signed is parsed back and compared with what it should say. Nothing leaves
//! that differs, be it a fault in the encoder, in a parser of keys or in memory.
//!
//! Knows X.509 as a reader; shares no code with the encoder.

use crate::x509::{COUNTRY, ORGANISATION, common_name};
use proto_types::Timestamp;
use server_core::ports::X509Template;
use x509_parser::{
    certificate::{BasicExtension, X509Certificate},
    extensions::{GeneralName, ParsedExtension},
    oid_registry::OID_SIG_ECDSA_WITH_SHA256,
    prelude::{FromDer, X509Version},
    time::ASN1Time,
    x509::X509Name,
};

/// What differs. Says nothing that came from a requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LintError(pub &'static str);

/// RFC 5280 section 4.2.1.3, bits 0, 2 and 4.
const LEAF_USAGE: u16 = 1 | 1 << 2 | 1 << 4;
/// Bits 5 and 6.
const CA_USAGE: u16 = 1 << 5 | 1 << 6;

/// Compares a leaf with its template, key, serial and issuer.
pub fn check_leaf(
    der: &[u8],
    template: &X509Template,
    spki: &[u8],
    serial: &[u8],
    issuer: &[u8],
    issuer_key_id: &[u8],
) -> Result<(), LintError> {
    let cert = parse(der)?;
    common(&cert, serial, template.not_before, template.not_after)?;
    want(cert.issuer().as_raw() == issuer, "the issuer is not the CA's name")?;
    want(is_subject(cert.subject(), common_name(template)), "the subject is not the template's")?;
    want(cert.public_key().raw == spki, "the public key is not the proven one")?;
    // AKI, SAN, KU, EKU, SKI and BC, each once.
    want(cert.extensions().len() == 6, "the extensions are not the six of a leaf")?;
    names(&cert, &template.spiffe_id.to_string(), &template.dns_names)?;
    key_usage(&cert, LEAF_USAGE)?;
    extended_key_usage(&cert)?;
    let constraints = once(cert.basic_constraints())?;
    want(constraints.critical && !constraints.value.ca, "the basic constraints are not a leaf's")?;
    want(subject_key_id(&cert).is_some_and(|id| id.len() == 20), "the subject key identifier is missing")?;
    want(authority_key_id(&cert) == Some(issuer_key_id), "the authority key identifier is not the CA's")
}

/// What a CA certificate of ours should say.
#[derive(Clone, Copy, Debug)]
pub struct CaTemplate<'a> {
    pub uri: &'a str,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub serial: &'a [u8],
}

/// Compares a CA certificate with its template.
pub fn check_ca(der: &[u8], template: &CaTemplate<'_>) -> Result<(), LintError> {
    let cert = parse(der)?;
    common(&cert, template.serial, template.not_before, template.not_after)?;
    want(cert.issuer().as_raw() == cert.subject().as_raw(), "a root names itself as issuer")?;
    // SAN, KU, SKI and BC.
    want(cert.extensions().len() == 4, "the extensions are not the four of a CA")?;
    names(&cert, template.uri, &[])?;
    key_usage(&cert, CA_USAGE)?;
    let constraints = once(cert.basic_constraints())?;
    let one_level = constraints.value.ca && constraints.value.path_len_constraint == Some(0);
    want(constraints.critical && one_level, "the basic constraints are not a CA's of one level")?;
    want(subject_key_id(&cert).is_some_and(|id| id.len() == 20), "the subject key identifier is missing")?;
    cert.verify_signature(None).map_err(|_| LintError("the CA's own signature does not verify"))
}

/// The subject key identifier, if there is one.
pub(crate) fn subject_key_id<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    cert.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn authority_key_id<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    cert.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
        _ => None,
    })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, LintError> {
    let (rest, cert) = X509Certificate::from_der(der).map_err(|_| LintError("it does not parse"))?;
    want(rest.is_empty(), "bytes follow the certificate")?;
    Ok(cert)
}

fn common(cert: &X509Certificate<'_>, serial: &[u8], from: Timestamp, to: Timestamp) -> Result<(), LintError> {
    want(cert.version() == X509Version::V3, "it is not version 3")?;
    want(cert.raw_serial() == serial, "the serial is not the one drawn")?;
    let ecdsa = cert.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256;
    want(
        ecdsa && cert.signature_algorithm == cert.tbs_certificate.signature,
        "the signature is not ECDSA with SHA-256",
    )?;
    want(at(&cert.validity().not_before) == from, "NotBefore is not the template's")?;
    want(at(&cert.validity().not_after) == to, "NotAfter is not the template's")
}

fn at(t: &ASN1Time) -> Timestamp {
    Timestamp::from_secs(t.timestamp())
}

fn is_subject(name: &X509Name<'_>, common_name: Option<&str>) -> bool {
    fn single<'a>(mut all: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Option<&'a str> {
        let only = all.next()?.as_str().ok()?;
        all.next().is_none().then_some(only)
    }
    let attributes = if common_name.is_some() { 3 } else { 2 };
    name.iter_attributes().count() == attributes
        && single(name.iter_country()) == Some(COUNTRY)
        && single(name.iter_organization()) == Some(ORGANISATION)
        && single(name.iter_common_name()) == common_name
}

/// Exactly one URI, then exactly the DNS names, in order.
fn names(cert: &X509Certificate<'_>, uri: &str, dns: &[String]) -> Result<(), LintError> {
    let names = &once(cert.subject_alternative_name())?.value.general_names;
    let first = matches!(names.first(), Some(GeneralName::URI(u)) if *u == uri);
    let rest = names.len() == 1 + dns.len()
        && names.iter().skip(1).zip(dns).all(|(n, d)| matches!(n, GeneralName::DNSName(n) if n == d));
    want(first && rest, "the subject alternative names are not the template's")
}

fn key_usage(cert: &X509Certificate<'_>, wanted: u16) -> Result<(), LintError> {
    let usage = once(cert.key_usage())?;
    want(usage.critical && usage.value.flags == wanted, "the key usage is not the one of its kind")
}

fn extended_key_usage(cert: &X509Certificate<'_>) -> Result<(), LintError> {
    let usage = once(cert.extended_key_usage())?.value;
    let others = usage.any
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    want(usage.server_auth && usage.client_auth && !others, "the extended key usage is not server and client")
}

/// The parser refuses an extension that occurs twice.
fn once<T>(
    found: Result<Option<BasicExtension<T>>, x509_parser::error::X509Error>,
) -> Result<BasicExtension<T>, LintError> {
    found.ok().flatten().ok_or(LintError("an extension is missing or repeated"))
}

fn want(holds: bool, otherwise: &'static str) -> Result<(), LintError> {
    if holds { Ok(()) } else { Err(LintError(otherwise)) }
}
