//! Certificate signing requests (RFC 2986): checked for form, key and proof of possession; then everything but the key
//! is forgotten.

use super::der::{DerFault, children, exact, is_sequence};
use crate::ports::ProvenKey;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ParsedPublicKey, VerificationAlgorithm};
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{ParsedExtension, X509Extension},
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    },
    prelude::FromDer,
    public_key::{PublicKey, RSAPublicKey},
    x509::{SubjectPublicKeyInfo, X509Version},
};

/// Largest CSR looked at, bytes.
pub const MAX_CSR: usize = 8 * 1024;

/// md5WithRSAEncryption, sha1WithRSAEncryption (two spellings) and ecdsa-with-SHA1.
const WEAK_SIGNATURES: [&str; 4] =
    ["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.3.14.3.2.29", "1.2.840.10045.4.1"];

/// Why a CSR was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("the CSR is empty")]
    Empty,
    #[error("a CSR has at most 8192 bytes, this one has {0}")]
    TooLarge(usize),
    #[error("the CSR is PEM; send its DER form")]
    Pem,
    #[error("the CSR is not DER: {0}")]
    Der(#[from] DerFault),
    #[error("not a certification request (RFC 2986)")]
    Malformed,
    #[error("keys of this kind are not certified: use EC P-256, EC P-384 or RSA of 2048 to 4096 bits")]
    KeyKind,
    #[error("an EC key names its curve; explicit parameters are refused")]
    ExplicitCurve,
    #[error("the public key is not an uncompressed point of its curve")]
    Point,
    #[error("an RSA key has 2048 to 4096 bits, this one has {0}")]
    RsaSize(usize),
    #[error("an RSA key has the exponent 65537")]
    RsaExponent,
    #[error("signed with MD5 or SHA-1; sign the CSR with SHA-256")]
    WeakDigest,
    #[error("the signature's algorithm is not one for the CSR's key; use SHA-256 or SHA-384 with the key's own kind")]
    SignatureKind,
    #[error("the CSR's signature does not prove possession of its key")]
    Signature,
    #[error("the CSR asks for an extension twice")]
    RepeatedExtension,
    #[error("the CSR marks an extension critical that is not known here; leave it out")]
    CriticalExtension,
    #[error("this key may not be certified; make a new one")]
    Blocked,
}

/// Checks a CSR and returns its key as evidence. `blocked` answers, for a SubjectPublicKeyInfo in DER, whether it is a
/// key that must not be certified: one of our authorities', or one an operator blocked.
pub fn check_csr(der: &[u8], blocked: &dyn Fn(&[u8]) -> bool) -> Result<ProvenKey, CsrError> {
    match der.len() {
        0 => return Err(CsrError::Empty),
        n if n > MAX_CSR => return Err(CsrError::TooLarge(n)),
        _ if der.starts_with(b"-----BEGIN") => return Err(CsrError::Pem),
        _ => exact(der)?,
    }
    if !is_request(der) {
        return Err(CsrError::Malformed);
    }
    let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    let info = &csr.certification_request_info;
    if !rest.is_empty() || info.version != X509Version::V1 {
        return Err(CsrError::Malformed);
    }
    let kind = key_kind(&info.subject_pki)?;
    for attribute in info.attributes() {
        if let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() {
            extensions(&request.extensions)?;
        }
    }
    if info.attributes_map().is_err() {
        return Err(CsrError::RepeatedExtension);
    }
    signature_kind(kind, &csr)?;
    csr.verify_signature().map_err(|_| CsrError::Signature)?;
    let spki = info.subject_pki.raw;
    if blocked(spki) { Err(CsrError::Blocked) } else { Ok(ProvenKey::assertion(spki.to_vec())) }
}

/// RFC 2986 section 4, by tags: request {info, algorithm, signature}, info {version, name, key, [0] attributes}.
fn is_request(der: &[u8]) -> bool {
    let parts = children(der);
    is_sequence(der, &[SEQUENCE, SEQUENCE, BIT_STRING])
        && is_sequence(parts[0], &[INTEGER, SEQUENCE, SEQUENCE, 0xa0])
        && (is_sequence(parts[1], &[OID]) || is_sequence(parts[1], &[OID, NULL]))
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The same demands on a key alone, without proof of possession: keys that callers send for `x509` credentials.
pub fn check_spki(der: &[u8]) -> Result<(), CsrError> {
    if der.len() > MAX_CSR {
        return Err(CsrError::TooLarge(der.len()));
    }
    exact(der)?;
    let (_, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| CsrError::Malformed)?;
    key_kind(&spki).map(|_| ())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ec,
    Rsa,
}

fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Result<Kind, CsrError> {
    if !is_sequence(spki.raw, &[SEQUENCE, BIT_STRING]) {
        return Err(CsrError::Malformed);
    }
    let algorithm = children(spki.raw)[0];
    let oid = &spki.algorithm.algorithm;
    if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY {
        // RFC 5480 section 2.1.1: a named curve; anything else would be parameters.
        let named = is_sequence(algorithm, &[OID, OID]).then_some(spki.algorithm.parameters.as_ref()).flatten();
        let curve = named.and_then(|p| p.as_oid().ok()).ok_or(CsrError::ExplicitCurve)?;
        let (len, alg): (usize, &'static dyn VerificationAlgorithm) = if curve == OID_EC_P256 {
            (65, &ECDSA_P256_SHA256_ASN1)
        } else if curve == OID_NIST_EC_P384 {
            (97, &ECDSA_P384_SHA384_ASN1)
        } else {
            return Err(CsrError::KeyKind);
        };
        let point = &spki.subject_public_key.data;
        let uncompressed = point.len() == len && point[0] == 4 && spki.subject_public_key.unused_bits == 0;
        // Parsing checks the curve's equation.
        if !uncompressed || ParsedPublicKey::new(alg, point).is_err() {
            return Err(CsrError::Point);
        }
        Ok(Kind::Ec)
    } else if *oid == OID_PKCS1_RSAENCRYPTION {
        // RFC 3279 section 2.3.1: the parameters are NULL, and the certificate will repeat these very bytes.
        exact(&spki.subject_public_key.data)?;
        if !is_sequence(algorithm, &[OID, NULL]) || !is_sequence(&spki.subject_public_key.data, &[INTEGER, INTEGER]) {
            return Err(CsrError::Malformed);
        }
        match spki.parsed() {
            Ok(PublicKey::RSA(rsa)) => rsa_key(&rsa).map(|()| Kind::Rsa),
            _ => Err(CsrError::Malformed),
        }
    } else {
        Err(CsrError::KeyKind)
    }
}

fn rsa_key(rsa: &RSAPublicKey<'_>) -> Result<(), CsrError> {
    let negative = |b: &[u8]| b.first().is_none_or(|b| b & 0x80 != 0);
    if negative(rsa.modulus) || negative(rsa.exponent) {
        return Err(CsrError::Malformed);
    }
    let significant = rsa.modulus.iter().position(|b| *b != 0).map_or(&[][..], |i| &rsa.modulus[i..]);
    let bits = significant.len() * 8 - significant.first().map_or(0, |b| b.leading_zeros() as usize);
    if !(2048..=4096).contains(&bits) {
        return Err(CsrError::RsaSize(bits));
    }
    if rsa.exponent != [1, 0, 1] { Err(CsrError::RsaExponent) } else { Ok(()) }
}

fn signature_kind(kind: Kind, csr: &X509CertificationRequest<'_>) -> Result<(), CsrError> {
    let oid = &csr.signature_algorithm.algorithm;
    if WEAK_SIGNATURES.contains(&oid.to_id_string().as_str()) {
        return Err(CsrError::WeakDigest);
    }
    let fits = match kind {
        Kind::Ec => *oid == OID_SIG_ECDSA_WITH_SHA256 || *oid == OID_SIG_ECDSA_WITH_SHA384,
        Kind::Rsa => {
            *oid == OID_PKCS1_SHA256WITHRSA || *oid == OID_PKCS1_SHA384WITHRSA || *oid == OID_PKCS1_SHA512WITHRSA
        }
    };
    if fits { Ok(()) } else { Err(CsrError::SignatureKind) }
}

/// Requested extensions are ignored (invariant 8), but a request that is malformed, or that insists, is refused: its
/// author would otherwise believe to hold what nobody gave.
fn extensions(all: &[X509Extension<'_>]) -> Result<(), CsrError> {
    for (i, extension) in all.iter().enumerate() {
        if all[..i].iter().any(|e| e.oid == extension.oid) {
            return Err(CsrError::RepeatedExtension);
        }
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => return Err(CsrError::Malformed),
            ParsedExtension::UnsupportedExtension { .. } if extension.critical => {
                return Err(CsrError::CriticalExtension);
            }
            _ => {}
        }
    }
    Ok(())
}
