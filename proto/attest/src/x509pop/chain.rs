//! A certificate chain as evidence: bounded before it is parsed, its keys bounded before they are computed with, verified up
//! to an authority of the operator's. What is said of the node is read from the very certificate that was verified.

use super::{MAX_CERTIFICATE, MAX_CHAIN, fingerprint, message::Bytes, signature::CertifiedKey};
use proto_types::{Selector, Timestamp};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Authorities that sign nodes' certificates.
pub(super) struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    /// Fingerprints, by the same index.
    fingerprints: Vec<String>,
}

impl Authorities {
    /// `None` when one of them is no authority's certificate.
    pub(super) fn new(certificates: &[CertificateDer<'static>]) -> Option<Self> {
        let anchor = |der| anchor_from_trusted_cert(der).ok().map(|a| a.to_owned());
        let anchors = certificates.iter().map(anchor).collect::<Option<Vec<_>>>()?;
        Some(Self { anchors, fingerprints: certificates.iter().map(|der| fingerprint(der)).collect() })
    }

    fn fingerprint_of(&self, anchor: &TrustAnchor<'_>) -> Option<&String> {
        self.anchors.iter().position(|a| a == anchor).and_then(|at| self.fingerprints.get(at))
    }
}

/// A leaf that an authority signed, with the key in it. Only [`verify`] makes one.
pub(super) struct VerifiedLeaf {
    pub(super) key: CertifiedKey,
    pub(super) fingerprint: String,
    pub(super) selectors: Vec<Selector>,
}

/// Why a chain proves nothing.
pub(super) type Refusal = &'static str;

/// Verifies a chain at `now`.
pub(super) fn verify(certificates: &[Bytes], roots: &Authorities, now: Timestamp) -> Result<VerifiedLeaf, Refusal> {
    if !(1..=MAX_CHAIN).contains(&certificates.len()) {
        return Err("a chain has 1 to 5 certificates, leaf first");
    }
    if certificates.iter().any(|c| c.0.len() > MAX_CERTIFICATE) {
        return Err("a certificate has more than 10 KiB");
    }
    let parsed = certificates.iter().map(|c| parse(&c.0)).collect::<Result<Vec<_>, _>>()?;
    // Every key of the chain is held to its size before the first signature is computed.
    let mut keys = parsed.iter().map(|c| CertifiedKey::read(c.public_key()));
    let key = keys.next().flatten().ok_or(KEYS)?;
    if keys.any(|k| k.is_none()) {
        return Err(KEYS);
    }
    let leaf = &parsed[0];
    if !leaf.key_usage().ok().flatten().is_none_or(|usage| usage.value.digital_signature()) {
        return Err("the certificate's key may not sign (its key usage lacks digitalSignature)");
    }
    let authorities = path(certificates, roots, now)?;
    let selectors = selectors(leaf, &authorities)?;
    Ok(VerifiedLeaf { key, fingerprint: fingerprint(&certificates[0].0), selectors })
}

const KEYS: Refusal = "every key of the chain is P-256, P-384, or RSA of 2048 to 4096 bits with the exponent 65537";

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err("a certificate of the chain is not DER, or something stands behind it"),
    }
}

/// The fingerprints of the authorities that vouch for the leaf, nearest first.
fn path(certificates: &[Bytes], roots: &Authorities, now: Timestamp) -> Result<Vec<String>, Refusal> {
    let ders: Vec<CertificateDer<'_>> = certificates.iter().map(|c| CertificateDer::from(c.0.as_slice())).collect();
    let leaf = EndEntityCert::try_from(&ders[0]).map_err(|_| "the certificate is not one of X.509 version 3")?;
    let seconds = u64::try_from(now.as_secs()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    // What the certificate is for is the operator's business: either use proves a node as well.
    let verified = [KeyUsage::client_auth(), KeyUsage::server_auth()].into_iter().find_map(|usage| {
        let algorithms = ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(algorithms, &roots.anchors, &ders[1..], at, usage, None, None).ok()
    });
    let verified = verified.ok_or("no authority in ca_bundle_path vouches for the certificate now")?;
    let between = verified.intermediate_certificates().map(|c| fingerprint(&c.der()));
    Ok(between.chain(roots.fingerprint_of(verified.anchor()).cloned()).collect())
}

/// As SPIRE writes them.
fn selectors(leaf: &X509Certificate<'_>, authorities: &[String]) -> Result<Vec<Selector>, Refusal> {
    let mut values = Vec::new();
    if let Some(name) = leaf.subject().iter_common_name().next().and_then(|n| n.as_str().ok()) {
        values.push(format!("subject:cn:{name}"));
    }
    values.extend(authorities.iter().map(|print| format!("ca:fingerprint:{print}")));
    values.push(format!("serialnumber:{}", hex::encode(leaf.raw_serial()).trim_start_matches("00")));
    let selector = |value| Selector::new(super::NAME, value).map_err(|_| "the certificate's subject is no selector");
    values.into_iter().map(selector).collect()
}
