//! Signatures over both nonces: RSA-PSS with SHA-256 and a salt of its length, ECDSA over SHA-256. Which keys there are is
//! decided here, for both ends.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA256_ASN1, EcdsaKeyPair, KeyPair,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, UnparsedPublicKey,
    },
};
use proto_types::Secret;
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384},
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// Sizes an RSA modulus may have: what is larger costs more to verify than a stranger may cost.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// 65537.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// A key of a certificate, checked for kind and size before anything is computed with it.
pub(super) enum CertifiedKey {
    /// `RSAPublicKey`, DER.
    Rsa(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
}

impl CertifiedKey {
    /// `None`: a key of another kind or size.
    pub(super) fn read(spki: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let bytes = spki.subject_public_key.data.to_vec();
        match spki.parsed().ok()? {
            PublicKey::RSA(key) => {
                let strip = |n: &[u8]| n.iter().skip_while(|b| **b == 0).copied().collect::<Vec<u8>>();
                let (n, e) = (strip(key.modulus), strip(key.exponent));
                let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
                (RSA_BITS.contains(&bits) && e == RSA_EXPONENT).then_some(Self::Rsa(bytes))
            }
            PublicKey::EC(_) if spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
                let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
                if curve == OID_EC_P256 {
                    Some(Self::P256(bytes))
                } else {
                    (curve == OID_NIST_EC_P384).then_some(Self::P384(bytes))
                }
            }
            _ => None,
        }
    }

    pub(super) fn is_rsa(&self) -> bool {
        matches!(self, Self::Rsa(_))
    }

    pub(super) fn verifies_rsa(&self, message: &[u8], signature: &[u8]) -> bool {
        let Self::Rsa(key) = self else { return false };
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key).verify(message, signature).is_ok()
    }

    pub(super) fn verifies_ecdsa(&self, message: &[u8], r: &[u8], s: &[u8]) -> bool {
        match self {
            Self::Rsa(_) => false,
            Self::P256(key) => {
                let Some(fixed) = fixed::<32>(r).zip(fixed::<32>(s)) else { return false };
                let signature = [fixed.0, fixed.1].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, &signature).is_ok()
            }
            Self::P384(key) => {
                if fixed::<48>(r).is_none() || fixed::<48>(s).is_none() {
                    return false;
                }
                UnparsedPublicKey::new(&ECDSA_P384_SHA256_ASN1, key).verify(message, &sequence(r, s)).is_ok()
            }
        }
    }
}

/// A number as `N` bytes; `None` when it has more, or leading zeros that no encoder writes.
fn fixed<const N: usize>(number: &[u8]) -> Option<[u8; N]> {
    let first = number.first()?;
    if *first == 0 || number.len() > N {
        return None;
    }
    let mut out = [0; N];
    out[N - number.len()..].copy_from_slice(number);
    Some(out)
}

/// `SEQUENCE { INTEGER r, INTEGER s }`; both have at most 48 bytes, so that every length fits one byte.
fn sequence(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(104);
    for number in [r, s] {
        let sign = number.first().is_some_and(|b| b & 0x80 != 0);
        body.extend([0x02, (number.len() + usize::from(sign)) as u8]);
        body.extend(sign.then_some(0));
        body.extend(number);
    }
    let mut out = vec![0x30, body.len() as u8];
    out.extend(body);
    out
}

/// A node's own private key.
pub(super) enum PrivateKey {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl PrivateKey {
    /// PKCS#8, DER. `None`: another kind or size.
    pub(super) fn read(pkcs8: &Secret<Vec<u8>>) -> Option<Self> {
        let der = pkcs8.expose();
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            return Some(Self::P256(key));
        }
        let key = RsaKeyPair::from_pkcs8(der).ok()?;
        RSA_BITS.contains(&(key.public_modulus_len() * 8)).then_some(Self::Rsa(key))
    }

    /// The public half, as `subjectPublicKey` of a certificate holds it.
    pub(super) fn public(&self) -> &[u8] {
        match self {
            Self::Rsa(key) => key.public_key().as_ref(),
            Self::P256(key) => key.public_key().as_ref(),
        }
    }

    pub(super) fn sign_rsa(&self, message: &[u8]) -> Option<Vec<u8>> {
        let Self::Rsa(key) = self else { return None };
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
        Some(signature)
    }

    /// `r` and `s` as a big integer is written: without leading zeros.
    pub(super) fn sign_ecdsa(&self, message: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let Self::P256(key) = self else { return None };
        let signature = key.sign(&SystemRandom::new(), message).ok()?;
        let (r, s) = signature.as_ref().split_at_checked(32)?;
        let strip = |n: &[u8]| n.iter().skip_while(|b| **b == 0).copied().collect();
        Some((strip(r), strip(s)))
    }
}
