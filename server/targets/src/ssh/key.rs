//! The caller's public key: one line of OpenSSH, read by `ssh-key` and held to what we certify.
//!
//! Decides which keys get a certificate. The line carries no proof that the caller holds the key, and needs none: a
//! certificate is of no use to anybody else.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ParsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use ssh_key::{
    HashAlg, PublicKey,
    public::{EcdsaPublicKey, KeyData},
};

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// Why a key gets no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("public_key is not one line of OpenSSH: `ssh-ed25519 AAAA…`, without options before it")]
    Malformed,
    #[error("public_key holds bytes behind the key; send the line as ssh-keygen wrote it")]
    Trailing,
    #[error("public_key is a certificate; send the key itself (the file that ends in .pub, not in -cert.pub)")]
    Certificate,
    #[error("keys of this kind get no certificate; make one with `ssh-keygen -t ed25519`")]
    Kind,
    #[error("an RSA key has 2048 to 8192 bits and the exponent 65537; make another one with `ssh-keygen -t ed25519`")]
    Rsa,
    #[error("public_key is no point of its curve")]
    Point,
    #[error("public_key is the server's own signing key")]
    Own,
}

/// A key that may be certified.
#[derive(Clone, Debug)]
pub(super) struct CallersKey {
    pub(super) algorithm: String,
    /// What stands behind the algorithm's name in the key's wire form (RFC 4253 section 6.6).
    pub(super) parts: Vec<u8>,
    pub(super) fingerprint: String,
}

impl CallersKey {
    /// `own`: the wire form of the key that signs.
    pub(super) fn read(line: &str, own: &[u8]) -> Result<Self, KeyError> {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.chars().any(char::is_control) {
            return Err(KeyError::Malformed);
        }
        let mut words = line.splitn(3, ' ');
        let (Some(algorithm), Some(encoded)) = (words.next(), words.next()) else { return Err(KeyError::Malformed) };
        if algorithm.contains("-cert-v0") {
            return Err(KeyError::Certificate);
        }
        let sent = STANDARD.decode(encoded).map_err(|_| KeyError::Malformed)?;
        let rest = name(&sent).filter(|(name, _)| *name == algorithm.as_bytes()).ok_or(KeyError::Malformed)?.1;
        // The comment is nobody's business, and may hold anything.
        let key = PublicKey::from_openssh(&format!("{algorithm} {encoded}")).map_err(|_| KeyError::Malformed)?;
        check(key.key_data())?;
        if key.to_bytes().ok().as_deref() != Some(sent.as_slice()) {
            return Err(KeyError::Trailing);
        }
        if sent == own {
            return Err(KeyError::Own);
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        Ok(Self { algorithm: algorithm.into(), parts: rest.to_vec(), fingerprint })
    }
}

/// The first string of a wire form, and what follows it.
fn name(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn check(key: &KeyData) -> Result<(), KeyError> {
    match key {
        // Of a key on a token the host demands a touch, since no certificate of ours waives it.
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) => Ok(()),
        KeyData::Ecdsa(key) => point(key),
        KeyData::SkEcdsaSha2NistP256(key) => on_curve(&ECDSA_P256_SHA256_ASN1, key.ec_point().as_bytes()),
        KeyData::Rsa(key) => {
            let n = key.n.as_positive_bytes().ok_or(KeyError::Rsa)?;
            let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
            let odd = n.last().is_some_and(|b| b & 1 == 1);
            let usual = key.e.as_positive_bytes() == Some(&RSA_EXPONENT);
            if RSA_BITS.contains(&bits) && odd && usual { Ok(()) } else { Err(KeyError::Rsa) }
        }
        _ => Err(KeyError::Kind),
    }
}

fn point(key: &EcdsaPublicKey) -> Result<(), KeyError> {
    let algorithm = match key {
        EcdsaPublicKey::NistP256(_) => &ECDSA_P256_SHA256_ASN1,
        EcdsaPublicKey::NistP384(_) => &ECDSA_P384_SHA384_ASN1,
        EcdsaPublicKey::NistP521(_) => &ECDSA_P521_SHA512_ASN1,
    };
    on_curve(algorithm, key.as_sec1_bytes())
}

fn on_curve(algorithm: &'static dyn aws_lc_rs::signature::VerificationAlgorithm, point: &[u8]) -> Result<(), KeyError> {
    ParsedPublicKey::new(algorithm, point).map(drop).map_err(|_| KeyError::Point)
}
