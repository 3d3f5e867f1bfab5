//! One public key that tokens are verified with, parsed once: EC P-256, P-384, P-521 or RSA of 2048 to 4096 bits with
//! the exponent 65537. Implements josekit's `JwsVerifier` with `aws-lc-rs`.

use crate::{alg::Alg, b64, jwk::JwkError};
use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use josekit::{
    JoseError,
    jws::{JwsAlgorithm, JwsVerifier},
};
use serde_json::{Map, Value};
use std::sync::Arc;
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521},
    prelude::FromDer,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// What a key is made of, before it is bound to algorithms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Material {
    /// The curve's algorithm and the uncompressed point.
    Ec { alg: Alg, point: Vec<u8> },
    /// Big-endian, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// The registered curve name and coordinate length of an ECDSA algorithm.
pub(crate) const fn curve(alg: Alg) -> Option<(&'static str, usize)> {
    match alg {
        Alg::Es256 => Some(("P-256", 32)),
        Alg::Es384 => Some(("P-384", 48)),
        Alg::Es512 => Some(("P-521", 66)),
        _ => None,
    }
}

const EXPONENT: [u8; 3] = [1, 0, 1];

impl Material {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), DER, nothing after it.
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, JwkError> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| JwkError::Malformed)?;
        if !rest.is_empty() {
            return Err(JwkError::Malformed);
        }
        match spki.parsed().map_err(|_| JwkError::Malformed)? {
            PublicKey::RSA(rsa) => Self::rsa(rsa.modulus, rsa.exponent),
            PublicKey::EC(_) if spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
                let named = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
                let alg = match named {
                    Some(oid) if oid == OID_EC_P256 => Alg::Es256,
                    Some(oid) if oid == OID_NIST_EC_P384 => Alg::Es384,
                    Some(oid) if oid == OID_NIST_EC_P521 => Alg::Es512,
                    _ => return Err(JwkError::Unsupported),
                };
                Self::ec(alg, spki.subject_public_key.data.to_vec())
            }
            _ => Err(JwkError::Unsupported),
        }
    }

    /// Reads the public members of a JWK (RFC 7518 section 6). `Unsupported`: a key type or curve to pass over.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, JwkError> {
        let text = |name: &'static str| jwk.get(name).and_then(Value::as_str).ok_or(JwkError::Member(name));
        let bytes = |name: &'static str| b64::decode(text(name)?).ok_or(JwkError::Member(name));
        // Without a key type there is nothing to judge (SPIFFE Trust Domain and Bundle section 4.2.1).
        match text("kty").map_err(|_| JwkError::Unsupported)? {
            "EC" => {
                let crv = text("crv")?;
                let alg = Alg::ALL.into_iter().find(|a| curve(*a).is_some_and(|(name, _)| name == crv));
                let alg = alg.ok_or(JwkError::Unsupported)?;
                let (x, y) = (bytes("x")?, bytes("y")?);
                let (_, len) = curve(alg).ok_or(JwkError::Unsupported)?;
                if x.len() != len || y.len() != len {
                    return Err(JwkError::Member("x, y"));
                }
                Self::ec(alg, [&[4][..], &x, &y].concat())
            }
            "RSA" => Self::rsa(&bytes("n")?, &bytes("e")?),
            _ => Err(JwkError::Unsupported),
        }
    }

    fn ec(alg: Alg, point: Vec<u8>) -> Result<Self, JwkError> {
        let (_, len) = curve(alg).ok_or(JwkError::Unsupported)?;
        if point.len() != 1 + 2 * len || point[0] != 4 {
            return Err(JwkError::Point);
        }
        Ok(Self::Ec { alg, point })
    }

    fn rsa(n: &[u8], e: &[u8]) -> Result<Self, JwkError> {
        let trim = |b: &[u8]| b.iter().copied().skip_while(|b| *b == 0).collect::<Vec<u8>>();
        let (n, e) = (trim(n), trim(e));
        let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
        if !(2048..=4096).contains(&bits) || e != EXPONENT {
            return Err(JwkError::Rsa { bits });
        }
        Ok(Self::Rsa { n, e })
    }

    /// Every algorithm this key may verify, parsed: a point off its curve is refused here.
    fn verifiers(&self, only: Option<Alg>) -> Result<Vec<Verifier>, JwkError> {
        let wanted = |a: &Alg| only.is_none_or(|o| o == *a);
        let verifiers: Vec<Verifier> = match self {
            Self::Ec { alg, point } => {
                let params = alg.ecdsa().ok_or(JwkError::Unsupported)?;
                let key = ParsedPublicKey::new(params, point).map_err(|_| JwkError::Point)?;
                [*alg].into_iter().filter(wanted).map(|alg| Verifier { alg, key: Arc::new(key.clone()) }).collect()
            }
            Self::Rsa { n, e } => Alg::ALL
                .into_iter()
                .filter(wanted)
                .filter_map(|alg| Some((alg, alg.rsa()?)))
                .map(|(alg, params)| {
                    let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(params);
                    Ok(Verifier { alg, key: Arc::new(key.map_err(|_| JwkError::Malformed)?) })
                })
                .collect::<Result<_, JwkError>>()?,
        };
        if verifiers.is_empty() { Err(JwkError::Member("alg")) } else { Ok(verifiers) }
    }
}

/// A public key with its id and the algorithms it may be used with.
#[derive(Clone, Debug)]
pub struct VerificationKey {
    kid: Option<String>,
    verifiers: Vec<Verifier>,
}

impl VerificationKey {
    /// A key of ours or of a certificate: SubjectPublicKeyInfo, DER.
    pub fn from_spki(kid: impl Into<String>, der: &[u8]) -> Result<Self, JwkError> {
        Ok(Self { kid: Some(kid.into()), verifiers: Material::from_spki(der)?.verifiers(None)? })
    }

    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, JwkError> {
        let text = |name: &'static str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.as_str())),
            Some(_) => Err(JwkError::Member(name)),
        };
        let material = Material::from_jwk(jwk)?;
        let only = text("alg")?.map(|a| Alg::from_name(a).ok_or(JwkError::Unsupported)).transpose()?;
        Ok(Self { kid: text("kid")?.map(String::from), verifiers: material.verifiers(only)? })
    }

    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub fn suits(&self, alg: Alg) -> bool {
        self.verifier(alg).is_some()
    }

    pub(crate) fn verifier(&self, alg: Alg) -> Option<&dyn JwsVerifier> {
        self.verifiers.iter().find(|v| v.alg == alg).map(|v| v as &dyn JwsVerifier)
    }
}

#[derive(Clone, Debug)]
struct Verifier {
    alg: Alg,
    key: Arc<ParsedPublicKey>,
}

impl JwsVerifier for Verifier {
    fn algorithm(&self) -> &dyn JwsAlgorithm {
        &self.alg
    }
    // The kid was matched when the key was chosen.
    fn key_id(&self) -> Option<&str> {
        None
    }
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), JoseError> {
        self.key
            .verify_sig(message, signature)
            .map_err(|_| JoseError::InvalidSignature(std::io::Error::other("signature").into()))
    }
    fn box_clone(&self) -> Box<dyn JwsVerifier> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests;
